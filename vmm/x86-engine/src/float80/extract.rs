//! FRNDINT, FSCALE and FXTRACT: the operations on the parts of a number.
//!
//! In: one or two registers. Out: one or two registers. None of them looks at the precision field
//! of the control word.

use super::class::{Class, Finite, special_operand, special_operands};
use super::convert::{from_i64, integral};
use super::round::{EXPONENT_ADJUSTMENT, round};
use super::{BIAS, EXPONENT_MAX, Environment, Exceptions, Float80, Outcome};

/// FRNDINT: the integer next to `a` in the direction of the rounding.
pub(crate) fn round_to_integer(a: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operand(a) {
        return Outcome::masked(value, exceptions, environment);
    }
    let class = a.class();
    if class == Class::Zero || class == Class::Infinity {
        return Outcome::exact(a);
    }
    if environment.traps(class.denormal()) {
        return Outcome::stopped(class.denormal());
    }
    // From 2^63 on every number is an integer.
    let rounded = match integral(a, environment) {
        Some(rounded) if a.finite().power() < 63 => rounded,
        _ => return Outcome::exact(a),
    };
    let precision = if rounded.inexact { Exceptions::PRECISION } else { Exceptions::NONE };
    Outcome {
        value: Some(from_i64(rounded.kept as i64).with_sign(a.is_negative())),
        exceptions: class.denormal() | precision,
        rounded_up: rounded.up,
    }
}

/// FSCALE: `a × 2^b`, with `b` rounded towards zero.
pub(crate) fn scale(a: Float80, b: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(a, b) {
        return Outcome::masked(value, exceptions, environment);
    }
    let (class_a, class_b) = (a.class(), b.class());
    let exceptions = class_a.denormal() | class_b.denormal();
    let invalid = || Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
    match (class_a, class_b) {
        (Class::Infinity, Class::Infinity) if b.is_negative() => return invalid(),
        (Class::Zero, Class::Infinity) if !b.is_negative() => return invalid(),
        (Class::Infinity | Class::Zero, _) => return Outcome::masked(a, exceptions, environment),
        (_, Class::Infinity) => {
            let negative = a.is_negative();
            let value = match b.is_negative() {
                false => Float80::infinity(negative),
                true => Float80::zero(negative),
            };
            return Outcome::masked(value, exceptions, environment);
        }
        _ if environment.traps(exceptions) => return Outcome::stopped(exceptions),
        _ => {}
    }
    let a = a.finite();
    let exponent = a.exponent + if class_b == Class::Zero { 0 } else { steps(b.finite()) };
    match exponent {
        // Not even the adjusted exponent of an unmasked response fits: the masked one to nearest
        // follows, whatever the rounding (Intel SDM 2A, FSCALE, does not say; processors do so).
        _ if exponent >= EXPONENT_MAX + EXPONENT_ADJUSTMENT
            && environment.traps(Exceptions::OVERFLOW) =>
        {
            let value = Some(Float80::infinity(a.negative));
            let exceptions = exceptions | Exceptions::OVERFLOW | Exceptions::PRECISION;
            Outcome { value, exceptions, rounded_up: true }
        }
        _ if exponent <= -EXPONENT_ADJUSTMENT && environment.traps(Exceptions::UNDERFLOW) => {
            let value = Some(Float80::zero(a.negative));
            let exceptions = exceptions | Exceptions::UNDERFLOW | Exceptions::PRECISION;
            Outcome { value, exceptions, rounded_up: false }
        }
        _ => round(Finite { exponent, ..a }.into(), exceptions, environment.extended()),
    }
}

/// The whole part of a scale, limited to ±65536, where every number over- or underflows.
fn steps(scale: Finite) -> i32 {
    let magnitude = match scale.power() {
        ..0 => 0,
        power @ 0..16 => (scale.significand >> (63 - power)) as i32,
        _ => 1 << 16,
    };
    if scale.negative { -magnitude } else { magnitude }
}

/// What FXTRACT takes a number apart into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extracted {
    /// The exponent, which replaces the operand in ST(0) before the push.
    pub(crate) exponent: Float80,
    /// The significand, between 1 and 2 in magnitude, which is pushed.
    pub(crate) significand: Float80,
}

/// FXTRACT: the exponent and the significand of `a`.
pub(crate) fn extract(a: Float80, environment: Environment) -> Outcome<Extracted> {
    if let Some((nan, exceptions)) = special_operand(a) {
        let both = Extracted { exponent: nan, significand: nan };
        return Outcome::masked(both, exceptions, environment);
    }
    let class = a.class();
    match class {
        Class::Infinity => {
            Outcome::exact(Extracted { exponent: Float80::infinity(false), significand: a })
        }
        Class::Zero => {
            let parts = Extracted { exponent: Float80::infinity(true), significand: a };
            Outcome::masked(parts, Exceptions::ZERO_DIVIDE, environment)
        }
        _ => {
            let Finite { negative, significand, .. } = a.finite();
            let parts = Extracted {
                exponent: from_i64(i64::from(a.finite().power())),
                significand: Float80::new(BIAS as u16, significand).with_sign(negative),
            };
            Outcome::masked(parts, class.denormal(), environment)
        }
    }
}
