//! What the bits of an operand are: its class, its parts, and the NaN two operands make.
//!
//! In: any of the 2^80 encodings. Out: a [`Class`], a [`Finite`] with a normalised significand,
//! or the NaN an operation returns. Unsupported encodings are a class of their own; every
//! operation answers them with an invalid-operation exception.

use super::{BIAS, EXPONENT_MAX, Exceptions, Float80, INTEGER_BIT, QUIET_BIT};

/// The classes of encodings (Intel SDM 1, tables 4-3, 8-3 and 8-5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// ±0.
    Zero,
    /// Exponent zero, integer bit clear, fraction not zero.
    Denormal,
    /// Exponent zero, integer bit set: read as the normal number with exponent 1, but a denormal
    /// operand.
    PseudoDenormal,
    /// A finite number with its integer bit set.
    Normal,
    /// ±infinity.
    Infinity,
    /// A NaN that passes through operations.
    QuietNan,
    /// A NaN that makes an operation invalid.
    SignallingNan,
    /// An unnormal, a pseudo-infinity or a pseudo-NaN: integer bit clear where it must be set.
    Unsupported,
}

impl Class {
    /// C3, C2 and C0 as FXAM sets them, at their bits (14, 10, 8) of the status word.
    pub(crate) const fn condition_codes(self) -> u16 {
        const C0: u16 = 1 << 8;
        const C2: u16 = 1 << 10;
        const C3: u16 = 1 << 14;
        match self {
            Class::Unsupported => 0,
            Class::QuietNan | Class::SignallingNan => C0,
            Class::Normal => C2,
            Class::Infinity => C2 | C0,
            Class::Zero => C3,
            Class::Denormal | Class::PseudoDenormal => C3 | C2,
        }
    }

    /// Whether this is a NaN of either kind.
    pub(crate) const fn is_nan(self) -> bool {
        matches!(self, Class::QuietNan | Class::SignallingNan)
    }

    /// DE for a denormal operand of either kind.
    pub(super) const fn denormal(self) -> Exceptions {
        match self {
            Class::Denormal | Class::PseudoDenormal => Exceptions::DENORMAL,
            _ => Exceptions::NONE,
        }
    }
}

/// A finite number other than zero: `significand × 2^(exponent - 16383 - 63)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Finite {
    pub(super) negative: bool,
    /// The biased exponent; 0 and below for what is stored as a denormal.
    pub(super) exponent: i32,
    /// The significand, bit 63 set.
    pub(super) significand: u64,
}

impl Finite {
    /// The power of two of the leading bit.
    pub(super) const fn power(self) -> i32 {
        self.exponent - BIAS
    }
}

impl Float80 {
    /// The class of the encoding.
    pub(crate) const fn class(self) -> Class {
        match self.exponent_field() {
            0 if self.mantissa == 0 => Class::Zero,
            0 if self.mantissa & INTEGER_BIT == 0 => Class::Denormal,
            0 => Class::PseudoDenormal,
            _ if self.mantissa & INTEGER_BIT == 0 => Class::Unsupported,
            EXPONENT_MAX if self.mantissa == INTEGER_BIT => Class::Infinity,
            EXPONENT_MAX if self.mantissa & QUIET_BIT != 0 => Class::QuietNan,
            EXPONENT_MAX => Class::SignallingNan,
            _ => Class::Normal,
        }
    }

    /// The parts of a normal, denormal or pseudo-denormal number.
    pub(super) const fn finite(self) -> Finite {
        let shift = self.mantissa.leading_zeros();
        let exponent = self.exponent_field();
        let exponent = if exponent == 0 { 1 } else { exponent };
        Finite {
            negative: self.is_negative(),
            exponent: exponent - shift as i32,
            significand: self.mantissa << (shift & 63),
        }
    }

    /// The NaN with its quiet bit set.
    pub(super) const fn quieted(self) -> Float80 {
        Float80::new(self.sign_exponent, self.mantissa | QUIET_BIT)
    }
}

/// The answer to operands of which at least one is a NaN or unsupported, and whether IE is
/// raised (Intel SDM 1, table 4-7); nothing if both are numbers.
pub(super) fn special_operands(a: Float80, b: Float80) -> Option<(Float80, Exceptions)> {
    let (class_a, class_b) = (a.class(), b.class());
    if class_a == Class::Unsupported || class_b == Class::Unsupported {
        return Some((Float80::INDEFINITE, Exceptions::INVALID));
    }
    let signalling = class_a == Class::SignallingNan || class_b == Class::SignallingNan;
    let exceptions = if signalling { Exceptions::INVALID } else { Exceptions::NONE };
    let value = match (class_a.is_nan(), class_b.is_nan()) {
        (false, false) => return None,
        (true, false) => a,
        (false, true) => b,
        (true, true) => match (class_a, class_b) {
            (Class::SignallingNan, Class::QuietNan) => b,
            (Class::QuietNan, Class::SignallingNan) => a,
            _ => larger_nan(a, b),
        },
    };
    Some((value.quieted(), exceptions))
}

/// The NaN with the larger significand; of two equal ones the positive.
fn larger_nan(a: Float80, b: Float80) -> Float80 {
    match a.mantissa.cmp(&b.mantissa) {
        std::cmp::Ordering::Greater => a,
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if a.is_negative() => b,
        std::cmp::Ordering::Equal => a,
    }
}

/// The answer to a single operand that is a NaN or unsupported; nothing if it is a number.
pub(super) fn special_operand(a: Float80) -> Option<(Float80, Exceptions)> {
    match a.class() {
        Class::Unsupported => Some((Float80::INDEFINITE, Exceptions::INVALID)),
        Class::SignallingNan => Some((a.quieted(), Exceptions::INVALID)),
        Class::QuietNan => Some((a, Exceptions::NONE)),
        _ => None,
    }
}
