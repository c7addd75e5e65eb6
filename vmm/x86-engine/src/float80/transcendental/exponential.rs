//! F2XM1.
//!
//! In: an exponent between -1 and 1. Out: 2 to its power, less 1. For other operands the result is
//! undefined.

use super::wide::{Wide, alternating_series, positive_series};
use crate::float80::class::{Class, special_operand};
use crate::float80::constants::LN_OF_2;
use crate::float80::round::round;
use crate::float80::{Environment, Float80, Outcome};

const LN_2: Wide = Wide { negative: false, power: -1, significand: LN_OF_2 };

/// 1 / (k + 1)! in units of 2^-126.
const COEFFICIENTS: [u128; 33] = {
    let mut coefficients = [0; 33];
    let mut index = 0;
    let mut factorial = 1;
    while index < 33 {
        factorial *= index as u128 + 1;
        coefficients[index] = (1 << 126) / factorial;
        index += 1;
    }
    coefficients
};

/// F2XM1: `2^x - 1`.
pub(crate) fn two_to_the_x_minus_one(x: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operand(x) {
        return Outcome::masked(value, exceptions, environment);
    }
    let class = x.class();
    match class {
        Class::Zero => return Outcome::exact(x),
        Class::Infinity if x.is_negative() => return Outcome::exact(Float80::one(true)),
        Class::Infinity => return Outcome::exact(x),
        _ if environment.traps(class.denormal()) => return Outcome::stopped(class.denormal()),
        _ => {}
    }
    let x = Wide::of(x);
    if x.power >= 0 {
        return at_the_ends(x);
    }
    round(exponential_minus_one(x.times(LN_2)).inexact(), class.denormal(), environment.extended())
}

/// 1 and -1 have exact results.
fn at_the_ends(x: Wide) -> Outcome {
    let half = Float80::new(0x3FFE, 1 << 63);
    Outcome::exact(if x.negative { half.negated() } else { Float80::ONE })
}

/// `e^x - 1` for a magnitude of at most ln 2.
fn exponential_minus_one(x: Wide) -> Wide {
    let series = if x.negative { alternating_series } else { positive_series };
    let ratio = series(x.fraction(), &COEFFICIENTS);
    x.times(Wide::scaled(false, ratio, -126).expect("0.7 or more"))
}
