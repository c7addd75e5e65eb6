//! F2XM1.
//!
//! In: an exponent between -1 and 1. Out: 2 to its power, less 1. The manual leaves other operands
//! undefined; here they come back as the result, marked as inexact, as an AMD EPYC does it.

use super::wide::{Wide, alternating_series, positive_series};
use crate::float80::class::{Class, special_operand};
use crate::float80::constants::LN_OF_2;
use crate::float80::round::round;
use crate::float80::{Environment, Exceptions, Float80, Outcome};

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
    let exponent = Wide::of(x);
    if exponent.power >= 0 {
        return from_one_on(x, exponent);
    }
    let number = exponential_minus_one(exponent.times(LN_2)).inexact();
    round(number, class.denormal(), environment.extended())
}

/// 1 and -1 have exact results; what is larger is returned.
fn from_one_on(operand: Float80, x: Wide) -> Outcome {
    const HALF: Float80 = Float80::new(0x3FFE, 1 << 63);
    match (x.power, x.significand, x.negative) {
        (0, 0x8000_0000_0000_0000_0000_0000_0000_0000, true) => Outcome::exact(HALF.negated()),
        (0, 0x8000_0000_0000_0000_0000_0000_0000_0000, false) => Outcome::exact(Float80::ONE),
        _ => Outcome { exceptions: Exceptions::PRECISION, ..Outcome::exact(operand) },
    }
}

/// `e^x - 1` for a magnitude of at most ln 2.
fn exponential_minus_one(x: Wide) -> Wide {
    let series = if x.negative { alternating_series } else { positive_series };
    let ratio = series(x.fraction(), &COEFFICIENTS);
    x.times(Wide::scaled(false, ratio, -126).expect("0.7 or more"))
}
