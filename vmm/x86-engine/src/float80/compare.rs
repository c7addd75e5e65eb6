//! Comparison of two operands.
//!
//! In: two operands and whether a quiet NaN among them is invalid. Out: their relation, which the
//! handler writes to C3, C2 and C0 or to ZF, PF and CF. Processors write it also where an unmasked
//! exception follows, though the manual's text on FCOM says otherwise; only the pop is left out.

use std::cmp::Ordering;

use super::class::{Class, special_operands};
use super::{Environment, Exceptions, Float80};

/// What a comparison does about a quiet NaN; a signalling one is always invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum QuietNans {
    /// FCOM, FTST, FCOMI: an invalid operation.
    Invalid,
    /// FUCOM, FUCOMI: just unordered.
    Quiet,
}

/// How the first operand, ST(0), is related to the second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Relation {
    /// ST(0) < source: C0, CF.
    Less,
    /// ST(0) = source: C3, ZF.
    Equal,
    /// ST(0) > source: none of the bits.
    Greater,
    /// At least one operand is no number: all three bits.
    Unordered,
}

impl Relation {
    /// C3, C2 and C0 at their bits (14, 10, 8) of the status word (Intel SDM 1, table 8-6).
    pub(crate) const fn condition_codes(self) -> u16 {
        match self {
            Relation::Greater => 0,
            Relation::Less => 1 << 8,
            Relation::Equal => 1 << 14,
            Relation::Unordered => 1 << 14 | 1 << 10 | 1 << 8,
        }
    }

    /// ZF, PF and CF at their bits (6, 2, 0) of EFLAGS (Intel SDM 1, table 8-7).
    pub(crate) const fn flags(self) -> u32 {
        match self {
            Relation::Greater => 0,
            Relation::Less => 1,
            Relation::Equal => 1 << 6,
            Relation::Unordered => 1 << 6 | 1 << 2 | 1,
        }
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Comparison {
    /// To be written to the condition codes or flags in any case.
    pub(crate) relation: Relation,
    /// The exceptions to add to the status word. C1 is cleared.
    pub(crate) exceptions: Exceptions,
    /// An unmasked exception: FCOMP and its like do not pop.
    pub(crate) stopped: bool,
}

impl Comparison {
    /// The comparison with an operand that was a denormal of a memory format
    /// ([`Widened::denormal`](super::Widened)).
    pub(crate) fn after_denormal(self, environment: Environment) -> Comparison {
        if self.relation == Relation::Unordered {
            return self;
        }
        let exceptions = self.exceptions | Exceptions::DENORMAL;
        Comparison { exceptions, stopped: environment.traps(exceptions), ..self }
    }
}

/// Compares `a`, which is ST(0), with `b`.
pub(crate) fn compare(
    a: Float80,
    b: Float80,
    quiet_nans: QuietNans,
    environment: Environment,
) -> Comparison {
    if let Some((_, mut exceptions)) = special_operands(a, b) {
        if quiet_nans == QuietNans::Invalid {
            exceptions |= Exceptions::INVALID;
        }
        let stopped = environment.traps(exceptions);
        return Comparison { relation: Relation::Unordered, exceptions, stopped };
    }
    let exceptions = a.class().denormal() | b.class().denormal();
    let relation = match order(a).cmp(&order(b)) {
        Ordering::Less => Relation::Less,
        Ordering::Equal => Relation::Equal,
        Ordering::Greater => Relation::Greater,
    };
    Comparison { relation, exceptions, stopped: environment.traps(exceptions) }
}

/// An integer that is ordered as the number is. A pseudo-denormal equals the normal number with
/// exponent 1.
fn order(number: Float80) -> i128 {
    let exponent = match number.class() {
        Class::PseudoDenormal => 1,
        _ => number.exponent_field(),
    };
    let magnitude = i128::from(exponent) << 64 | i128::from(number.mantissa);
    if number.is_negative() { -magnitude } else { magnitude }
}
