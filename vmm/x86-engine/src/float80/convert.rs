//! Between register numbers and the floating-point and integer formats of memory.
//!
//! In: the bits of a memory operand, or a register and the environment. Out: the register or the
//! bits to store. Storing nothing (`value: None`) is the response to an unmasked invalid
//! operation, overflow or underflow (Intel SDM 1, 8.5.4 and 8.5.5: the destination is memory).

use super::class::{Class, special_operand};
use super::round::{
    Rounded, Unrounded, overflows_to_infinity, round_off, shift_right_sticky,
};
use super::{BIAS, EXPONENT_MAX, Environment, Exceptions, Float80, INTEGER_BIT, Outcome};

/// A format of IEEE 754 with an implicit integer bit.
struct Format {
    /// The bits of the fraction.
    fraction_bits: u32,
    /// The exponent of infinities; the bias is half of it.
    exponent_max: i32,
}

const SINGLE: Format = Format { fraction_bits: 23, exponent_max: 0xFF };
const DOUBLE: Format = Format { fraction_bits: 52, exponent_max: 0x7FF };

impl Format {
    const fn bias(&self) -> i32 {
        self.exponent_max / 2
    }

    fn pack(&self, negative: bool, exponent: i32, fraction: u64) -> u64 {
        let sign_and_exponent =
            u64::from(negative) * (self.exponent_max as u64 + 1) | exponent as u64;
        sign_and_exponent << self.fraction_bits | fraction
    }
}

/// A single or double as an operand of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Widened {
    /// The same number, or the same NaN: a signalling one still signals.
    pub(crate) number: Float80,
    /// Whether the memory format held a denormal, which `number` no longer shows.
    pub(crate) denormal: bool,
}

/// The memory operand of FADD m32 and its like; see [`Outcome::after_denormal`].
pub(crate) fn widen_f32(bits: u32) -> Widened {
    widen(&SINGLE, u64::from(bits))
}

/// The memory operand of FADD m64 and its like; see [`Outcome::after_denormal`].
pub(crate) fn widen_f64(bits: u64) -> Widened {
    widen(&DOUBLE, bits)
}

fn widen(format: &Format, bits: u64) -> Widened {
    let sign_and_exponent = (bits >> format.fraction_bits) as i32;
    let negative = sign_and_exponent > format.exponent_max;
    let exponent = sign_and_exponent & format.exponent_max;
    // The fraction at its place below the integer bit.
    let fraction = (bits << (63 - format.fraction_bits)) & !INTEGER_BIT;
    let shift = fraction.leading_zeros();
    let (exponent, mantissa) = match exponent {
        0 if fraction == 0 => (0, 0),
        0 => (1 - format.bias() + BIAS - shift as i32, fraction << shift),
        _ if exponent == format.exponent_max => (EXPONENT_MAX, INTEGER_BIT | fraction),
        _ => (exponent - format.bias() + BIAS, INTEGER_BIT | fraction),
    };
    Widened {
        number: Float80::new(exponent as u16, mantissa).with_sign(negative),
        denormal: sign_and_exponent & format.exponent_max == 0 && fraction != 0,
    }
}

/// FLD m32: the number of a single's bits.
pub(crate) fn from_f32(bits: u32, environment: Environment) -> Outcome {
    load(widen_f32(bits), environment)
}

/// FLD m64: the number of a double's bits.
pub(crate) fn from_f64(bits: u64, environment: Environment) -> Outcome {
    load(widen_f64(bits), environment)
}

fn load(operand: Widened, environment: Environment) -> Outcome {
    if let Some((nan, exceptions)) = special_operand(operand.number) {
        return Outcome::masked(nan, exceptions, environment);
    }
    // A denormal is loaded also where the exception is unmasked.
    let exceptions = if operand.denormal { Exceptions::DENORMAL } else { Exceptions::NONE };
    Outcome { exceptions, ..Outcome::exact(operand.number) }
}

/// FST m32: the bits of the single nearest to `a`.
pub(crate) fn to_f32(a: Float80, environment: Environment) -> Outcome<u32> {
    store(&SINGLE, a, environment).map(|bits| bits as u32)
}

/// FST m64: the bits of the double nearest to `a`.
pub(crate) fn to_f64(a: Float80, environment: Environment) -> Outcome<u64> {
    store(&DOUBLE, a, environment)
}

fn store(format: &Format, a: Float80, environment: Environment) -> Outcome<u64> {
    let negative = a.is_negative();
    if let Some((nan, exceptions)) = special_operand(a) {
        let fraction = (nan.mantissa & !INTEGER_BIT) >> (63 - format.fraction_bits);
        let bits = format.pack(nan.is_negative(), format.exponent_max, fraction);
        return Outcome::masked(bits, exceptions, environment);
    }
    match a.class() {
        Class::Zero => Outcome::exact(format.pack(negative, 0, 0)),
        Class::Infinity => Outcome::exact(format.pack(negative, format.exponent_max, 0)),
        _ => store_finite(format, a.finite().into(), environment),
    }
}

fn store_finite(format: &Format, number: Unrounded, environment: Environment) -> Outcome<u64> {
    let Unrounded { negative, significand, .. } = number;
    let drop = 127 - format.fraction_bits;
    let mut exponent = number.exponent - BIAS + format.bias();
    let mut rounded = round_off(significand, drop, negative, environment.rounding);
    let carry = rounded.kept >> (format.fraction_bits + 1) != 0;
    let mut exceptions = Exceptions::NONE;
    if exponent + i32::from(carry) >= format.exponent_max {
        return store_overflow(format, negative, environment);
    }
    if exponent + i32::from(carry) <= 0 {
        if environment.traps(Exceptions::UNDERFLOW) {
            return Outcome::stopped(Exceptions::UNDERFLOW);
        }
        let denormal = shift_right_sticky(significand, (1 - exponent) as u32);
        rounded = round_off(denormal, drop, negative, environment.rounding);
        exponent = 1;
        if rounded.inexact {
            exceptions |= Exceptions::UNDERFLOW;
        }
    }
    if rounded.inexact {
        exceptions |= Exceptions::PRECISION;
    }
    // The integer bit is added to the exponent: a denormal has none, and a carry makes it two.
    let magnitude = (i64::from(exponent - 1) << format.fraction_bits) + rounded.kept as i64;
    let bits = format.pack(negative, 0, magnitude as u64);
    Outcome { value: Some(bits), exceptions, rounded_up: rounded.up }
}

fn store_overflow(format: &Format, negative: bool, environment: Environment) -> Outcome<u64> {
    if environment.traps(Exceptions::OVERFLOW) {
        return Outcome::stopped(Exceptions::OVERFLOW);
    }
    let infinite = overflows_to_infinity(negative, environment.rounding);
    let infinity = format.pack(negative, format.exponent_max, 0);
    Outcome {
        value: Some(infinity - u64::from(!infinite)),
        exceptions: Exceptions::OVERFLOW | Exceptions::PRECISION,
        rounded_up: infinite,
    }
}

/// FILD: an integer is always exact.
pub(crate) const fn from_i64(integer: i64) -> Float80 {
    if integer == 0 {
        return Float80::ZERO;
    }
    let magnitude = integer.unsigned_abs();
    let shift = magnitude.leading_zeros();
    let exponent = (BIAS + 63) as u16 - shift as u16;
    Float80::new(exponent, magnitude << shift).with_sign(integer < 0)
}

/// FIST m16.
pub(crate) fn to_i16(a: Float80, environment: Environment) -> Outcome<i16> {
    to_integer(a, i16::MAX as u64, environment).map(|integer| integer as i16)
}

/// FIST m32.
pub(crate) fn to_i32(a: Float80, environment: Environment) -> Outcome<i32> {
    to_integer(a, i32::MAX as u64, environment).map(|integer| integer as i32)
}

/// FISTP m64.
pub(crate) fn to_i64(a: Float80, environment: Environment) -> Outcome<i64> {
    to_integer(a, i64::MAX as u64, environment)
}

/// To an integer of -largest - 1 to largest; the smallest is also the integer indefinite.
fn to_integer(a: Float80, largest: u64, environment: Environment) -> Outcome<i64> {
    let indefinite = -(largest as i64) - 1;
    let limit = largest + u64::from(a.is_negative());
    match integral(a, environment) {
        Some(Rounded { kept, inexact, up }) if kept <= u128::from(limit) => {
            let magnitude = kept as u64;
            let value = if a.is_negative() { magnitude.wrapping_neg() } else { magnitude };
            let exceptions = if inexact { Exceptions::PRECISION } else { Exceptions::NONE };
            Outcome { value: Some(value as i64), exceptions, rounded_up: up }
        }
        _ => Outcome::masked(indefinite, Exceptions::INVALID, environment),
    }
}

/// The magnitude of a number rounded to an integer, or nothing if it has none below 2^64.
pub(super) fn integral(a: Float80, environment: Environment) -> Option<Rounded> {
    match a.class() {
        Class::Zero => Some(Rounded { kept: 0, inexact: false, up: false }),
        Class::Normal | Class::Denormal | Class::PseudoDenormal => {
            let number = a.finite();
            if number.power() > 63 {
                return None;
            }
            // The unit is brought to bit 64; what lies further below is sticky.
            let distance = (63 - number.power()) as u32;
            let fixed = shift_right_sticky(u128::from(number.significand) << 64, distance);
            Some(round_off(fixed, 64, number.negative, environment.rounding))
        }
        _ => None,
    }
}
