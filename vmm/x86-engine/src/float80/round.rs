//! From an exact or nearly exact result to the bits of a register: rounding, overflow, underflow.
//!
//! In: a sign, an exponent of any size and a 128-bit significand whose lowest bit also stands for
//! everything below it. Out: an [`Outcome`] as Intel SDM 1, 8.5.4 to 8.5.6 describe it, for masked
//! and for unmasked overflow and underflow. Every finite result of this module passes here.

use super::class::Finite;
use super::{
    EXPONENT_MAX, Environment, Exceptions, Float80, INTEGER_BIT, Outcome, Rounding, SIGN_BIT,
};

/// What an unmasked overflow takes from the exponent and an unmasked underflow adds to it.
pub(super) const EXPONENT_ADJUSTMENT: i32 = 24576;

/// A number on its way to a register: `significand × 2^(exponent - 16383 - 127)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unrounded {
    pub(super) negative: bool,
    /// The biased exponent, not limited to the 15 bits of the format.
    pub(super) exponent: i32,
    /// Bit 127 set. If bits below the lowest were cut off, the lowest is set.
    pub(super) significand: u128,
}

impl From<Finite> for Unrounded {
    fn from(number: Finite) -> Unrounded {
        Unrounded {
            negative: number.negative,
            exponent: number.exponent,
            significand: u128::from(number.significand) << 64,
        }
    }
}

/// A significand after rounding.
pub(super) struct Rounded {
    /// What is kept, in units of the last place kept.
    pub(super) kept: u128,
    pub(super) inexact: bool,
    pub(super) up: bool,
}

/// Drops the lowest `drop` bits (1 to 127) of a magnitude, rounding it.
pub(super) fn round_off(magnitude: u128, drop: u32, negative: bool, rounding: Rounding) -> Rounded {
    let kept = magnitude >> drop;
    let tail = magnitude << (128 - drop);
    if tail == 0 {
        return Rounded { kept, inexact: false, up: false };
    }
    const HALF: u128 = 1 << 127;
    let up = match rounding {
        Rounding::Nearest => tail > HALF || tail == HALF && kept & 1 == 1,
        Rounding::Down => negative,
        Rounding::Up => !negative,
        Rounding::Zero => false,
    };
    Rounded { kept: kept + u128::from(up), inexact: true, up }
}

/// Shifts right; what is lost sets the lowest bit.
pub(super) const fn shift_right_sticky(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..=127 => value >> count | (value << (128 - count) != 0) as u128,
        _ => (value != 0) as u128,
    }
}

/// Whether an overflowing result of this sign becomes infinite rather than the largest number.
pub(super) const fn overflows_to_infinity(negative: bool, rounding: Rounding) -> bool {
    match rounding {
        Rounding::Nearest => true,
        Rounding::Down => negative,
        Rounding::Up => !negative,
        Rounding::Zero => false,
    }
}

/// Rounds to the precision of the environment and makes the register's bits.
pub(super) fn round(number: Unrounded, exceptions: Exceptions, environment: Environment) -> Outcome {
    let Unrounded { negative, exponent, significand } = number;
    let drop = 128 - environment.precision.bits();
    let rounded = round_off(significand, drop, negative, environment.rounding);
    // A carry out of the top leaves a power of two.
    let carry = rounded.kept >> (128 - drop) != 0;
    let mantissa = if carry { INTEGER_BIT } else { (rounded.kept << (drop - 64)) as u64 };
    let exponent_after = exponent + i32::from(carry);
    if exponent_after >= EXPONENT_MAX {
        return overflow(negative, exponent_after, mantissa, &rounded, exceptions, environment);
    }
    if exponent_after <= 0 {
        return underflow(number, exponent_after, mantissa, &rounded, exceptions, environment);
    }
    finish(negative, exponent_after, mantissa, &rounded, exceptions)
}

fn finish(
    negative: bool,
    exponent: i32,
    mantissa: u64,
    rounded: &Rounded,
    mut exceptions: Exceptions,
) -> Outcome {
    if rounded.inexact {
        exceptions |= Exceptions::PRECISION;
    }
    let sign = if negative { SIGN_BIT } else { 0 };
    Outcome {
        value: Some(Float80::new(sign | exponent as u16, mantissa)),
        exceptions,
        rounded_up: rounded.up,
    }
}

fn overflow(
    negative: bool,
    exponent: i32,
    mantissa: u64,
    rounded: &Rounded,
    exceptions: Exceptions,
    environment: Environment,
) -> Outcome {
    let exceptions = exceptions | Exceptions::OVERFLOW;
    if environment.traps(Exceptions::OVERFLOW) {
        let exponent = exponent - EXPONENT_ADJUSTMENT;
        return finish(negative, exponent, mantissa, rounded, exceptions);
    }
    let infinite = overflows_to_infinity(negative, environment.rounding);
    let value = if infinite {
        Float80::infinity(negative)
    } else {
        let ones = u64::MAX << (64 - environment.precision.bits());
        Float80::new(EXPONENT_MAX as u16 - 1, ones).with_sign(negative)
    };
    Outcome {
        value: Some(value),
        exceptions: exceptions | Exceptions::PRECISION,
        rounded_up: infinite,
    }
}

/// Tiny after rounding. Unmasked, that alone is the exception; masked, it must be inexact too.
fn underflow(
    number: Unrounded,
    exponent_after: i32,
    mantissa: u64,
    rounded: &Rounded,
    exceptions: Exceptions,
    environment: Environment,
) -> Outcome {
    let Unrounded { negative, exponent, significand } = number;
    if environment.traps(Exceptions::UNDERFLOW) {
        let exceptions = exceptions | Exceptions::UNDERFLOW;
        let exponent = exponent_after + EXPONENT_ADJUSTMENT;
        return finish(negative, exponent, mantissa, rounded, exceptions);
    }
    let denormal = shift_right_sticky(significand, (1 - exponent) as u32);
    let drop = 128 - environment.precision.bits();
    let rounded = round_off(denormal, drop, negative, environment.rounding);
    let mantissa = (rounded.kept << (drop - 64)) as u64;
    // Rounding up may have made it the smallest normal number after all.
    let exponent = i32::from(mantissa & INTEGER_BIT != 0);
    let underflow = if rounded.inexact { Exceptions::UNDERFLOW } else { Exceptions::NONE };
    finish(negative, exponent, mantissa, &rounded, exceptions | underflow)
}
