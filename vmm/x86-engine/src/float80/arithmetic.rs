//! Add, subtract, multiply, divide and square root, at the precision of the control word.
//!
//! Each function answers the special operands first, then computes an exact result or one with a
//! sticky lowest bit, and leaves the rest to [`round`]. The order of the checks is the order of
//! precedence of Intel SDM 1, 8.5: unsupported operands and NaNs, other invalid operations, zero
//! divide, denormal operands, and last what rounding finds.

use super::class::{Class, Finite, special_operand, special_operands};
use super::round::{Unrounded, round, shift_right_sticky};
use super::{BIAS, Environment, Exceptions, Float80, Outcome, Rounding};

/// FADD: `a + b`.
pub(crate) fn add(a: Float80, b: Float80, environment: Environment) -> Outcome {
    sum(a, b, false, environment)
}

/// FSUB: `a - b`. FSUBR is the same with its operands exchanged.
pub(crate) fn subtract(a: Float80, b: Float80, environment: Environment) -> Outcome {
    sum(a, b, true, environment)
}

fn sum(a: Float80, b: Float80, negate_b: bool, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(a, b) {
        return Outcome::masked(value, exceptions, environment);
    }
    let b = if negate_b { b.negated() } else { b };
    let (class_a, class_b) = (a.class(), b.class());
    let exceptions = class_a.denormal() | class_b.denormal();
    match (class_a, class_b) {
        (Class::Infinity, Class::Infinity) if a.is_negative() != b.is_negative() => {
            return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
        }
        (Class::Infinity, _) => return Outcome::masked(a, exceptions, environment),
        (_, Class::Infinity) => return Outcome::masked(b, exceptions, environment),
        (Class::Zero, Class::Zero) => {
            let same = a.is_negative() == b.is_negative();
            let value = if same { a } else { zero_difference(environment) };
            return Outcome::exact(value);
        }
        _ if environment.traps(exceptions) => return Outcome::stopped(exceptions),
        (Class::Zero, _) => return round(b.finite().into(), exceptions, environment),
        (_, Class::Zero) => return round(a.finite().into(), exceptions, environment),
        _ => {}
    }
    match finite_sum(a.finite(), b.finite()) {
        Some(number) => round(number, exceptions, environment),
        None => Outcome { exceptions, ..Outcome::exact(zero_difference(environment)) },
    }
}

/// The sign of a zero that is the difference of equal numbers depends on the rounding alone.
fn zero_difference(environment: Environment) -> Float80 {
    Float80::zero(environment.rounding == Rounding::Down)
}

/// The sum of two numbers, or nothing if they cancel.
fn finite_sum(a: Finite, b: Finite) -> Option<Unrounded> {
    let (large, small) =
        if (a.exponent, a.significand) >= (b.exponent, b.significand) { (a, b) } else { (b, a) };
    // One bit is left free for the carry; 63 below the significand hold what alignment moves out.
    let distance = (large.exponent - small.exponent) as u32;
    let large_bits = u128::from(large.significand) << 63;
    let small_bits = shift_right_sticky(u128::from(small.significand) << 63, distance);
    let sum = if large.negative == small.negative {
        large_bits + small_bits
    } else {
        large_bits - small_bits
    };
    if sum == 0 {
        return None;
    }
    let shift = sum.leading_zeros();
    Some(Unrounded {
        negative: large.negative,
        exponent: large.exponent + 1 - shift as i32,
        significand: sum << shift,
    })
}

/// FMUL: `a × b`.
pub(crate) fn multiply(a: Float80, b: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(a, b) {
        return Outcome::masked(value, exceptions, environment);
    }
    let (class_a, class_b) = (a.class(), b.class());
    let exceptions = class_a.denormal() | class_b.denormal();
    let negative = a.is_negative() != b.is_negative();
    match (class_a, class_b) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => {
            return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
        }
        (Class::Infinity, _) | (_, Class::Infinity) => {
            return Outcome::masked(Float80::infinity(negative), exceptions, environment);
        }
        (Class::Zero, _) | (_, Class::Zero) => {
            return Outcome::masked(Float80::zero(negative), exceptions, environment);
        }
        _ if environment.traps(exceptions) => return Outcome::stopped(exceptions),
        _ => {}
    }
    let (a, b) = (a.finite(), b.finite());
    let product = u128::from(a.significand) * u128::from(b.significand);
    let shift = product.leading_zeros();
    let number = Unrounded {
        negative,
        exponent: a.exponent + b.exponent - BIAS + 1 - shift as i32,
        significand: product << shift,
    };
    round(number, exceptions, environment)
}

/// FDIV: `a ÷ b`. FDIVR is the same with its operands exchanged.
pub(crate) fn divide(a: Float80, b: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(a, b) {
        return Outcome::masked(value, exceptions, environment);
    }
    let (class_a, class_b) = (a.class(), b.class());
    let exceptions = class_a.denormal() | class_b.denormal();
    let negative = a.is_negative() != b.is_negative();
    match (class_a, class_b) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => {
            return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
        }
        (Class::Infinity, _) => {
            return Outcome::masked(Float80::infinity(negative), exceptions, environment);
        }
        (_, Class::Infinity) | (Class::Zero, _) => {
            return Outcome::masked(Float80::zero(negative), exceptions, environment);
        }
        (_, Class::Zero) => {
            // A denormal dividend raises nothing of its own here.
            let exceptions = Exceptions::ZERO_DIVIDE;
            return Outcome::masked(Float80::infinity(negative), exceptions, environment);
        }
        _ if environment.traps(exceptions) => return Outcome::stopped(exceptions),
        _ => {}
    }
    round(finite_quotient(a.finite(), b.finite()), exceptions, environment)
}

fn finite_quotient(a: Finite, b: Finite) -> Unrounded {
    // The numerator is placed so that the quotient has exactly 64 bits.
    let smaller = a.significand < b.significand;
    let numerator = u128::from(a.significand) << (63 + u32::from(smaller));
    let divisor = u128::from(b.significand);
    let (quotient, remainder) = (numerator / divisor, numerator % divisor);
    Unrounded {
        negative: a.negative != b.negative,
        exponent: a.exponent - b.exponent + BIAS - i32::from(smaller),
        significand: quotient << 64 | half_and_sticky(2 * remainder, divisor),
    }
}

/// The bits below a significand of which `twice_remainder / (2 × unit)` of the last place is left.
fn half_and_sticky(twice_remainder: u128, unit: u128) -> u128 {
    match twice_remainder.cmp(&unit) {
        _ if twice_remainder == 0 => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Equal => 1 << 63,
        std::cmp::Ordering::Greater => 1 << 63 | 1,
    }
}

/// FSQRT: the square root.
pub(crate) fn square_root(a: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operand(a) {
        return Outcome::masked(value, exceptions, environment);
    }
    let class = a.class();
    match class {
        Class::Zero => return Outcome::exact(a),
        _ if a.is_negative() => {
            return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
        }
        Class::Infinity => return Outcome::exact(a),
        _ if environment.traps(class.denormal()) => return Outcome::stopped(class.denormal()),
        _ => {}
    }
    let a = a.finite();
    // An even power of two is taken out, so that the root has exactly 64 bits.
    let odd = a.power() & 1;
    let radicand = u128::from(a.significand) << (63 + odd);
    let root = radicand.isqrt();
    let remainder = radicand - root * root;
    // (root + 1/2)² = root² + root + 1/4: the half is passed where the remainder exceeds the root.
    let below = u128::from(remainder > root) << 63 | u128::from(remainder != 0);
    let number = Unrounded {
        negative: false,
        exponent: (a.power() - odd) / 2 + BIAS,
        significand: root << 64 | below,
    };
    round(number, class.denormal(), environment)
}
