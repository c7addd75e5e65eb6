//! FPREM and FPREM1: the exact remainder, in steps.
//!
//! In: dividend and divisor. Out: a remainder and the low bits of the quotient, or, where the
//! exponents are 64 or more apart, a smaller dividend with the same remainder. A program repeats
//! the instruction while C2 is set.

use super::class::{Class, Finite, special_operands};
use super::round::{Unrounded, round};
use super::{Environment, Exceptions, Float80, Outcome};

/// What one execution of a partial remainder leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Remainder {
    /// The new ST(0) and the exceptions. Rounding never happens.
    pub(crate) outcome: Outcome,
    /// The low three bits of the quotient: bit 2 goes to C0, bit 1 to C3, bit 0 to C1. Zero if the
    /// reduction is incomplete.
    pub(crate) quotient: u8,
    /// C2: the reduction has to be continued.
    pub(crate) incomplete: bool,
}

impl Remainder {
    /// C3, C2, C1 and C0 at their bits (14, 10, 9, 8) of the status word.
    pub(crate) const fn condition_codes(self) -> u16 {
        let quotient = self.quotient as u16;
        (quotient >> 2 & 1) << 8
            | (quotient & 1) << 9
            | (self.incomplete as u16) << 10
            | (quotient >> 1 & 1) << 14
    }

    const fn whole(outcome: Outcome) -> Remainder {
        Remainder { outcome, quotient: 0, incomplete: false }
    }
}

/// Which integer next to the exact quotient is taken.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Quotient {
    Truncated,
    Nearest,
}

/// FPREM: `a - b × q` with the quotient q truncated.
pub(crate) fn remainder_truncating(a: Float80, b: Float80, environment: Environment) -> Remainder {
    remainder(a, b, Quotient::Truncated, environment)
}

/// FPREM1: `a - b × q` with the quotient q rounded to nearest, as IEEE 754 defines it.
pub(crate) fn remainder_nearest(a: Float80, b: Float80, environment: Environment) -> Remainder {
    remainder(a, b, Quotient::Nearest, environment)
}

fn remainder(a: Float80, b: Float80, kind: Quotient, environment: Environment) -> Remainder {
    if let Some((value, exceptions)) = special_operands(a, b) {
        return Remainder::whole(Outcome::masked(value, exceptions, environment));
    }
    let (class_a, class_b) = (a.class(), b.class());
    let exceptions = class_a.denormal() | class_b.denormal();
    match (class_a, class_b) {
        (Class::Infinity, _) | (_, Class::Zero) => {
            let exceptions = Exceptions::INVALID;
            Remainder::whole(Outcome::masked(Float80::INDEFINITE, exceptions, environment))
        }
        (Class::Zero, _) => Remainder::whole(Outcome::masked(a, exceptions, environment)),
        _ if environment.traps(exceptions) => Remainder::whole(Outcome::stopped(exceptions)),
        (_, Class::Infinity) => {
            Remainder::whole(round(a.finite().into(), exceptions, environment.extended()))
        }
        _ => {
            let (number, quotient, incomplete) = reduce(a.finite(), b.finite(), kind);
            let outcome = match number {
                Some(number) => round(number, exceptions, environment.extended()),
                None => Outcome { exceptions, ..Outcome::exact(Float80::zero(a.is_negative())) },
            };
            Remainder { outcome, quotient, incomplete }
        }
    }
}

/// The remainder (nothing if it is zero), the low bits of the quotient, and whether it is partial.
fn reduce(a: Finite, b: Finite, kind: Quotient) -> (Option<Unrounded>, u8, bool) {
    let distance = a.exponent - b.exponent;
    if distance < -1 || distance < 0 && kind == Quotient::Truncated {
        return (Some(a.into()), 0, false);
    }
    if distance >= 64 {
        let steps = partial_steps(distance);
        let rest = (u128::from(a.significand) << steps) % u128::from(b.significand);
        let exponent = b.exponent + distance - steps as i32;
        return (normalised(a.negative, exponent, rest), 0, true);
    }
    // Both in units of the last place of the one with the smaller exponent.
    let dividend = u128::from(a.significand) << distance.max(0);
    let divisor = u128::from(b.significand) << (-distance).max(0);
    let (mut quotient, mut rest) = (dividend / divisor, dividend % divisor);
    let mut negative = a.negative;
    let past_half = 2 * rest > divisor || 2 * rest == divisor && quotient & 1 == 1;
    if kind == Quotient::Nearest && past_half {
        quotient += 1;
        rest = divisor - rest;
        negative = !negative;
    }
    let exponent = a.exponent.min(b.exponent);
    let number = normalised(if rest == 0 { a.negative } else { negative }, exponent, rest);
    (number, (quotient & 7) as u8, false)
}

/// By how many powers of two an execution reduces that does not come to the end.
const fn partial_steps(distance: i32) -> u32 {
    distance as u32 & 31 | 32
}

/// The number `magnitude` in units of the last place of a significand with this exponent.
fn normalised(negative: bool, exponent: i32, magnitude: u128) -> Option<Unrounded> {
    if magnitude == 0 {
        return None;
    }
    let shift = magnitude.leading_zeros();
    Some(Unrounded {
        negative,
        exponent: exponent + 64 - shift as i32,
        significand: magnitude << shift,
    })
}
