//! RCPPS, RCPSS, RSQRTPS, RSQRTSS: approximations that differ among processors, so they are computed here, in integers.
//!
//! The manual asks for a relative error of at most 1.5 * 2^-12 (SDM 2B, RCPPS). Here the result is the true one, cut off after 24 bits: an
//! error under 2^-23. Exceptional operands are the manual's. MXCSR plays no part: denormal operands always count as zeros, denormal
//! results always become zeros, and no flag is raised.

use iced_x86::Code;

use super::vector::{Aligned, Low32, Second, Source};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
};

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = 0xFF << 23;
const QUIET: u32 = 1 << 22;
/// The NaN that invalid operations give.
const INDEFINITE: u32 = SIGN | INFINITY | QUIET;
/// What is added to the exponent.
const BIAS: i32 = 127;

/// A number by its parts.
enum Class {
    /// Zeros and denormals.
    Zero,
    Infinity,
    Nan,
    /// The exponent without bias, and the 24 bits of the mantissa.
    Finite(i32, u32),
}

fn class(value: u32) -> Class {
    let fraction = value & 0x7F_FFFF;
    match (value >> 23 & 0xFF, fraction) {
        (0, _) => Class::Zero,
        (0xFF, 0) => Class::Infinity,
        (0xFF, _) => Class::Nan,
        (exponent, _) => Class::Finite(exponent as i32 - BIAS, fraction | 1 << 23),
    }
}

/// A positive number from a mantissa of 24 bits.
fn finite(exponent: i32, mantissa: u32) -> u32 {
    if exponent + BIAS <= 0 {
        return 0;
    }
    ((exponent + BIAS) as u32) << 23 | (mantissa & 0x7F_FFFF)
}

/// 1 / value.
fn reciprocal(value: u32) -> u32 {
    let sign = value & SIGN;
    match class(value) {
        Class::Zero => sign | INFINITY,
        Class::Infinity => sign,
        Class::Nan => value | QUIET,
        // 1 / 2^e is exact; else the quotient lies between 2^23 and 2^24.
        Class::Finite(exponent, mantissa) if mantissa == 1 << 23 => {
            sign | finite(-exponent, mantissa)
        }
        Class::Finite(exponent, mantissa) => {
            let quotient = (1_u64 << 47) / u64::from(mantissa);
            sign | finite(-exponent - 1, quotient as u32)
        }
    }
}

/// 1 / sqrt(value).
fn reciprocal_of_root(value: u32) -> u32 {
    let sign = value & SIGN;
    match class(value) {
        Class::Zero => sign | INFINITY,
        Class::Nan => value | QUIET,
        _ if sign != 0 => INDEFINITE,
        Class::Infinity => 0,
        Class::Finite(exponent, mantissa) if mantissa == 1 << 23 && exponent % 2 == 0 => {
            finite(-exponent / 2, mantissa)
        }
        Class::Finite(exponent, mantissa) => {
            // An even exponent, and a mantissa between 2^23 and 2^25: the root of 2^71 / mantissa lies between 2^23 and 2^24.
            let odd = exponent.rem_euclid(2);
            let root = ((1_u128 << 71) / (u128::from(mantissa) << odd)).isqrt();
            finite(-(exponent - odd) / 2 - 1, root as u32)
        }
    }
}

/// The four singles.
fn packed<S: Source, const ROOT: bool>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    let result = (0..4).fold(0, |result, lane| {
        result | u128::from(approximate::<ROOT>((source >> (lane * 32)) as u32)) << (lane * 32)
    });
    core.set_xmm(op.r1, result);
    Ok(())
}

/// The lowest single.
fn scalar<S: Source, const ROOT: bool>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    let kept = core.xmm(op.r1) & !u128::from(u32::MAX);
    core.set_xmm(op.r1, kept | u128::from(approximate::<ROOT>(source as u32)));
    Ok(())
}

fn approximate<const ROOT: bool>(value: u32) -> u32 {
    if ROOT {
        reciprocal_of_root(value)
    } else {
        reciprocal(value)
    }
}

/// Finds the handler of an approximation.
pub(super) fn find(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Rcpps_xmm_xmmm128, false) => packed::<Second, false>,
        (Rcpps_xmm_xmmm128, true) => packed::<Aligned, false>,
        (Rcpss_xmm_xmmm32, false) => scalar::<Second, false>,
        (Rcpss_xmm_xmmm32, true) => scalar::<Low32, false>,
        (Rsqrtps_xmm_xmmm128, false) => packed::<Second, true>,
        (Rsqrtps_xmm_xmmm128, true) => packed::<Aligned, true>,
        (Rsqrtss_xmm_xmmm32, false) => scalar::<Second, true>,
        (Rsqrtss_xmm_xmmm32, true) => scalar::<Low32, true>,
        _ => return None,
    })
}
