//! FYL2X and FYL2XP1.
//!
//! In: x in ST(0) and y in ST(1). Out: y times the logarithm to base 2 of x or of x + 1.

use super::wide::{Wide, positive_series};
use crate::float80::class::{Class, special_operands};
use crate::float80::constants::LOG2_OF_E;
use crate::float80::round::round;
use crate::float80::{Environment, Exceptions, Float80, Outcome};

const LOG2_E: Wide = Wide { negative: false, power: 0, significand: LOG2_OF_E };

/// 1 / (2k + 1) in units of 2^-127: the series of the inverse hyperbolic tangent.
const COEFFICIENTS: [u128; 27] = {
    let mut coefficients = [0; 27];
    let mut index = 0;
    while index < 27 {
        coefficients[index] = (1 << 127) / (2 * index as u128 + 1);
        index += 1;
    }
    coefficients
};

/// √2, in units of 2^-127.
const SQUARE_ROOT_OF_2: u128 = 0xB504_F333_F9DE_6484_597D_89B3_754A_BE9F;

/// FYL2X: `y × log2(x)`.
pub(crate) fn y_times_logarithm_of_x(x: Float80, y: Float80, environment: Environment) -> Outcome {
    if let Some((value, exceptions)) = special_operands(x, y) {
        return Outcome::masked(value, exceptions, environment);
    }
    let class = x.class();
    if x.is_negative() && class != Class::Zero {
        return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
    }
    let logarithm = match class {
        Class::Zero => Logarithm::Infinite { negative: true, divides_by_zero: true },
        Class::Infinity => Logarithm::Infinite { negative: false, divides_by_zero: false },
        _ => logarithm(Wide::of(x)),
    };
    times(y, logarithm, class.denormal(), environment)
}

/// FYL2XP1: `y × log2(x + 1)`.
pub(crate) fn y_times_logarithm_of_x_plus_one(
    x: Float80,
    y: Float80,
    environment: Environment,
) -> Outcome {
    if let Some((value, exceptions)) = special_operands(x, y) {
        return Outcome::masked(value, exceptions, environment);
    }
    let class = x.class();
    let logarithm = match class {
        Class::Zero => Logarithm::Zero { negative: x.is_negative() },
        Class::Infinity if x.is_negative() => {
            return Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
        }
        Class::Infinity => Logarithm::Infinite { negative: false, divides_by_zero: false },
        _ => match logarithm_of_sum(Wide::of(x)) {
            Some(logarithm) => logarithm,
            None => return Outcome { exceptions: Exceptions::PRECISION, ..Outcome::exact(x) },
        },
    };
    times(y, logarithm, class.denormal(), environment)
}

/// A logarithm, before it is multiplied.
#[derive(Clone, Copy)]
enum Logarithm {
    Zero { negative: bool },
    /// A whole number: of a power of two.
    Exact(Wide),
    /// An irrational number.
    Inexact(Wide),
    Infinite { negative: bool, divides_by_zero: bool },
}

/// The product with y, in which zeros and infinities meet as in a multiplication.
fn times(
    y: Float80,
    logarithm: Logarithm,
    exceptions: Exceptions,
    environment: Environment,
) -> Outcome {
    let class = y.class();
    let exceptions = exceptions | class.denormal();
    let invalid = || Outcome::masked(Float80::INDEFINITE, Exceptions::INVALID, environment);
    let zero = |negative| {
        let value = Float80::zero(negative != y.is_negative());
        Outcome::masked(value, exceptions, environment)
    };
    let infinity = |negative, exceptions| {
        let value = Float80::infinity(negative != y.is_negative());
        Outcome::masked(value, exceptions, environment)
    };
    match (logarithm, class) {
        (Logarithm::Zero { .. }, Class::Infinity) => invalid(),
        (Logarithm::Infinite { .. }, Class::Zero) => invalid(),
        (Logarithm::Zero { negative }, _) => zero(negative),
        (Logarithm::Infinite { negative, divides_by_zero: true }, class)
            if class != Class::Infinity =>
        {
            infinity(negative, Exceptions::ZERO_DIVIDE)
        }
        (Logarithm::Infinite { negative, .. }, _) => infinity(negative, exceptions),
        (Logarithm::Exact(number) | Logarithm::Inexact(number), Class::Zero) => {
            zero(number.negative)
        }
        (Logarithm::Exact(number) | Logarithm::Inexact(number), Class::Infinity) => {
            infinity(number.negative, exceptions)
        }
        _ if environment.traps(exceptions) => Outcome::stopped(exceptions),
        // At most 15 and 64 bits: the product is exact too. Processors call it inexact even so.
        (Logarithm::Exact(number), _) => {
            let number = number.times(Wide::of(y)).exact();
            let outcome = round(number, exceptions, environment.extended());
            Outcome { exceptions: outcome.exceptions | Exceptions::PRECISION, ..outcome }
        }
        (Logarithm::Inexact(number), _) => {
            round(number.times(Wide::of(y)).inexact(), exceptions, environment.extended())
        }
    }
}

/// The logarithm of a positive number: its power of two, and that of a factor near 1.
fn logarithm(number: Wide) -> Logarithm {
    let large = number.significand > SQUARE_ROOT_OF_2;
    let power = number.power + i32::from(large);
    let factor = Wide { power: -i32::from(large), ..number };
    let whole = Wide::scaled(power < 0, u128::from(power.unsigned_abs()), 0);
    // Exact, since the factor is between 1/2 and 2.
    let Some(numerator) = factor.plus(Wide::ONE.negated()) else {
        return match whole {
            Some(whole) => Logarithm::Exact(whole),
            None => Logarithm::Zero { negative: false },
        };
    };
    let denominator = factor.plus(Wide::ONE).expect("a sum of positive numbers");
    let part = from_quotient(numerator.over(denominator));
    match whole {
        Some(whole) => Logarithm::Inexact(part.plus(whole).expect("the part is below 1")),
        None => Logarithm::Inexact(part),
    }
}

/// The logarithm of 1 + x, without loss where x is small; nothing from -1 down, where there is none.
fn logarithm_of_sum(x: Wide) -> Option<Logarithm> {
    // Up to 1/4 the quotient x / (x + 2) is below the limit of the series.
    if x.power < -2 {
        let denominator = x.plus(Wide::ONE.times_power_of_two(1)).expect("x is not -2");
        return Some(Logarithm::Inexact(from_quotient(x.over(denominator))));
    }
    x.plus(Wide::ONE).filter(|sum| !sum.negative).map(logarithm)
}

/// The logarithm of (1 + s) / (1 - s), for s up to √2 - 1 squared, which is 0.172.
fn from_quotient(quotient: Wide) -> Wide {
    let ratio = positive_series(quotient.squared_fraction(), &COEFFICIENTS);
    let ratio = Wide::scaled(false, ratio, -127).expect("1 or more");
    quotient.times(ratio).times(LOG2_E).times_power_of_two(1)
}
