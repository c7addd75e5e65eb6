//! What the control word asks of an operation and what the operation reports back.
//!
//! In: the rounding, precision and mask fields of the control word. Out: an [`Outcome`] with the
//! exceptions at their places in the status word. [`Exceptions`] only ever has its six bits set.

use std::ops::{BitOr, BitOrAssign};

use super::Float80;

/// How a result that does not fit is rounded: the control word's RC field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rounding {
    /// To the nearest number, ties to the even one.
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

/// To how many bits add, subtract, multiply, divide and square root round: the PC field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Precision {
    /// 24 bits, as a single.
    Single24,
    /// 53 bits, as a double.
    Double53,
    /// 64 bits, all of the significand.
    Extended64,
}

impl Precision {
    /// The significand bits kept.
    pub(super) const fn bits(self) -> u32 {
        match self {
            Precision::Single24 => 24,
            Precision::Double53 => 53,
            Precision::Extended64 => 64,
        }
    }
}

/// A set of exceptions, each at its bit of the status word and of the control word's masks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Exceptions(u8);

impl Exceptions {
    /// No exception.
    pub(crate) const NONE: Exceptions = Exceptions(0);
    /// IE: an operand or a pair of operands the operation has no result for.
    pub(crate) const INVALID: Exceptions = Exceptions(0x01);
    /// DE: a denormal operand.
    pub(crate) const DENORMAL: Exceptions = Exceptions(0x02);
    /// ZE: an exact infinity from finite operands.
    pub(crate) const ZERO_DIVIDE: Exceptions = Exceptions(0x04);
    /// OE: the rounded result is too large for the destination.
    pub(crate) const OVERFLOW: Exceptions = Exceptions(0x08);
    /// UE: the rounded result is too small for the destination.
    pub(crate) const UNDERFLOW: Exceptions = Exceptions(0x10);
    /// PE: the result was rounded.
    pub(crate) const PRECISION: Exceptions = Exceptions(0x20);
    /// All six.
    pub(crate) const ALL: Exceptions = Exceptions(0x3F);

    /// The set in the low six bits of a status or control word; the other bits are ignored.
    pub(crate) const fn from_bits(word: u16) -> Exceptions {
        Exceptions((word & 0x3F) as u8)
    }

    /// The set as the low six bits of a status or control word.
    pub(crate) const fn bits(self) -> u16 {
        self.0 as u16
    }

    /// Whether all of `other` is in the set.
    pub(crate) const fn contains(self, other: Exceptions) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether anything of `other` is in the set.
    pub(crate) const fn intersects(self, other: Exceptions) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `other`.
    pub(crate) const fn without(self, other: Exceptions) -> Exceptions {
        Exceptions(self.0 & !other.0)
    }
}

impl BitOr for Exceptions {
    type Output = Exceptions;

    fn bitor(self, other: Exceptions) -> Exceptions {
        Exceptions(self.0 | other.0)
    }
}

impl BitOrAssign for Exceptions {
    fn bitor_assign(&mut self, other: Exceptions) {
        self.0 |= other.0;
    }
}

/// What an operation depends on besides its operands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Environment {
    /// How results are rounded.
    pub(crate) rounding: Rounding,
    /// To how many bits the five basic operations round.
    pub(crate) precision: Precision,
    /// The masked exceptions: those that have a default response and do not stop the program.
    pub(crate) masks: Exceptions,
}

impl Environment {
    /// The fields of a control word (Intel SDM 1, 8.1.5). The reserved precision 01B counts as
    /// extended precision.
    pub(crate) const fn from_control_word(word: u16) -> Environment {
        Environment {
            rounding: match word >> 10 & 3 {
                0 => Rounding::Nearest,
                1 => Rounding::Down,
                2 => Rounding::Up,
                _ => Rounding::Zero,
            },
            precision: match word >> 8 & 3 {
                0 => Precision::Single24,
                2 => Precision::Double53,
                _ => Precision::Extended64,
            },
            masks: Exceptions::from_bits(word),
        }
    }

    /// The same, rounding towards zero: what FISTTP converts with.
    pub(crate) const fn truncating(self) -> Environment {
        Environment {
            rounding: Rounding::Zero,
            ..self
        }
    }

    /// The same with all of the significand, for the operations that ignore the PC field.
    pub(super) const fn extended(self) -> Environment {
        Environment {
            precision: Precision::Extended64,
            ..self
        }
    }

    /// Whether one of these exceptions occurred and is not masked.
    pub(super) const fn traps(self, exceptions: Exceptions) -> bool {
        !exceptions.without(self.masks).is_empty()
    }
}

/// What an operation did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Outcome<T = Float80> {
    /// The result, or nothing where an unmasked exception keeps the destination unchanged.
    pub(crate) value: Option<T>,
    /// The exceptions to add to the status word, masked and unmasked ones.
    pub(crate) exceptions: Exceptions,
    /// Whether rounding made the magnitude larger: C1 of the instructions that report it.
    pub(crate) rounded_up: bool,
}

impl Outcome {
    /// The outcome of an operation one of whose operands was a denormal of a memory format
    /// ([`Widened::denormal`](super::Widened)): with the exception for it, which has no effect
    /// where there was a NaN, an invalid operation or a division by zero.
    pub(crate) fn after_denormal(self, environment: Environment) -> Outcome {
        let stronger = Exceptions::INVALID | Exceptions::ZERO_DIVIDE;
        let is_nan = self.value.is_some_and(|value| value.class().is_nan());
        if is_nan || self.exceptions.intersects(stronger) {
            return self;
        }
        if environment.traps(Exceptions::DENORMAL) {
            return Outcome::stopped(Exceptions::DENORMAL);
        }
        Outcome {
            exceptions: self.exceptions | Exceptions::DENORMAL,
            ..self
        }
    }
}

impl<T> Outcome<T> {
    /// A result without rounding and without exceptions.
    pub(super) const fn exact(value: T) -> Outcome<T> {
        Outcome {
            value: Some(value),
            exceptions: Exceptions::NONE,
            rounded_up: false,
        }
    }

    /// The response to exceptions found before anything is computed: `value` if all of them are
    /// masked, else no result.
    pub(super) fn masked(value: T, exceptions: Exceptions, environment: Environment) -> Outcome<T> {
        let value = if environment.traps(exceptions) {
            None
        } else {
            Some(value)
        };
        Outcome {
            value,
            exceptions,
            rounded_up: false,
        }
    }

    /// An unmasked exception found before anything is computed.
    pub(super) const fn stopped(exceptions: Exceptions) -> Outcome<T> {
        Outcome {
            value: None,
            exceptions,
            rounded_up: false,
        }
    }

    /// The same outcome with another value made of its value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        Outcome {
            value: self.value.map(change),
            exceptions: self.exceptions,
            rounded_up: self.rounded_up,
        }
    }
}
