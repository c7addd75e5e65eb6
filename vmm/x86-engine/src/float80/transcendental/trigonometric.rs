//! FSIN, FCOS, FSINCOS and FPTAN.
//!
//! In: an angle. Out: the function of it, or nothing if it is 2^63 or more in magnitude: then the
//! handler sets C2 and leaves the operand.

use super::reduce::{Reduced, reduce};
use super::wide::{Wide, alternating_series};
use crate::float80::class::{Class, special_operand};
use crate::float80::round::round;
use crate::float80::{Environment, Exceptions, Float80, Outcome};

/// 1 / (2k + 1)! in units of 2^-127.
const SINE: [u128; 16] = inverse_factorials(1);
/// 1 / (2k)! in units of 2^-127.
const COSINE: [u128; 17] = inverse_factorials(0);

const fn inverse_factorials<const N: usize>(first: u128) -> [u128; N] {
    let mut coefficients = [0; N];
    let mut index = 0;
    let mut factorial = 1;
    while index < N {
        coefficients[index] = (1 << 127) / factorial;
        let last = first + 2 * index as u128;
        if index + 1 < N {
            factorial *= (last + 1) * (last + 2);
        }
        index += 1;
    }
    coefficients
}

/// The sine of a rest.
fn sine_of_rest(rest: Wide) -> Wide {
    let ratio = alternating_series(rest.squared_fraction(), &SINE);
    // Always below the angle, also where the square is too small to be seen.
    let ratio = ratio.min((1 << 127) - 1);
    rest.times(Wide::scaled(false, ratio, -127).expect("near 1"))
}

/// The cosine of a rest.
fn cosine_of_rest(rest: Wide) -> Wide {
    let cosine = alternating_series(rest.squared_fraction(), &COSINE).min((1 << 127) - 1);
    Wide::scaled(false, cosine, -127).expect("0.7 or more")
}

/// FSINCOS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SineAndCosine {
    /// What replaces the operand.
    pub(crate) sine: Float80,
    /// What is pushed.
    pub(crate) cosine: Float80,
}

/// FSIN; nothing if the operand is out of range.
pub(crate) fn sine(angle: Float80, environment: Environment) -> Option<Outcome> {
    function(angle, environment, Float80::zero(angle.is_negative()), sine_of)
}

/// FCOS; nothing if the operand is out of range.
pub(crate) fn cosine(angle: Float80, environment: Environment) -> Option<Outcome> {
    function(angle, environment, Float80::ONE, |_, reduced| cosine_of(reduced))
}

/// FPTAN: the tangent, which replaces the operand before 1 is pushed; nothing if the operand is out
/// of range.
pub(crate) fn tangent(angle: Float80, environment: Environment) -> Option<Outcome> {
    function(angle, environment, Float80::zero(angle.is_negative()), tangent_of)
}

/// FSINCOS; nothing if the operand is out of range. C1 tells of the sine's rounding.
pub(crate) fn sine_and_cosine(
    angle: Float80,
    environment: Environment,
) -> Option<Outcome<SineAndCosine>> {
    let sine = sine(angle, environment)?;
    let cosine = cosine(angle, environment)?;
    let value = sine.value.zip(cosine.value);
    Some(Outcome {
        value: value.map(|(sine, cosine)| SineAndCosine { sine, cosine }),
        exceptions: sine.exceptions | cosine.exceptions,
        rounded_up: sine.rounded_up,
    })
}

/// Answers the special operands and rounds what `compute` makes of the others.
fn function(
    angle: Float80,
    environment: Environment,
    of_zero: Float80,
    compute: impl FnOnce(bool, &Reduced) -> Wide,
) -> Option<Outcome> {
    if let Some((value, exceptions)) = special_operand(angle) {
        return Some(Outcome::masked(value, exceptions, environment));
    }
    let class = angle.class();
    match class {
        Class::Zero => return Some(Outcome::exact(of_zero)),
        Class::Infinity => {
            let exceptions = Exceptions::INVALID;
            return Some(Outcome::masked(Float80::INDEFINITE, exceptions, environment));
        }
        _ if environment.traps(class.denormal()) => {
            return Some(Outcome::stopped(class.denormal()));
        }
        _ => {}
    }
    let reduced = reduce(angle)?;
    let number = compute(angle.is_negative(), &reduced).inexact();
    Some(round(number, class.denormal(), environment.extended()))
}

fn sine_of(negative: bool, reduced: &Reduced) -> Wide {
    let sine = match reduced.quarter_turns & 1 {
        0 => sine_of_rest(reduced.rest),
        _ => cosine_of_rest(reduced.rest),
    };
    if negative != (reduced.quarter_turns >= 2) { sine.negated() } else { sine }
}

fn cosine_of(reduced: &Reduced) -> Wide {
    let cosine = match reduced.quarter_turns & 1 {
        0 => cosine_of_rest(reduced.rest),
        _ => sine_of_rest(reduced.rest),
    };
    if matches!(reduced.quarter_turns, 1 | 2) { cosine.negated() } else { cosine }
}

fn tangent_of(negative: bool, reduced: &Reduced) -> Wide {
    let rest = reduced.rest;
    let tangent = match reduced.quarter_turns & 1 {
        // So close to the angle that only the sticky bit tells them apart.
        0 if rest.power < -70 => rest,
        0 => sine_of_rest(rest).over(cosine_of_rest(rest)),
        _ => cosine_of_rest(rest).over(sine_of_rest(rest)).negated(),
    };
    if negative { tangent.negated() } else { tangent }
}
