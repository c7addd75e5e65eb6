//! The arithmetic of the x87: 80-bit operands and a control word in, results and exceptions out.
//!
//! Nothing here knows of registers, tags or the stack. A handler of an instruction reads its
//! operands, calls one function of this module, and writes what the [`Outcome`] says: the
//! exceptions into the status word, `rounded_up` into C1 and, where `value` is present, the
//! result into its destination. Without a value an unmasked exception has stopped the instruction
//! before its result: nothing is written, pushed or popped (Intel SDM 1, 8.5).
//!
//! What always holds: the same bits come out on every host, since nothing but integers is
//! computed with; no operand panics, the unsupported encodings included; an exception is reported
//! whether masked or not, and the masks only choose the response to it.
//!
//! | instructions | function |
//! |---|---|
//! | FADD, FSUB, FMUL, FDIV and their reversed, integer and popping forms | [`add`], [`subtract`], [`multiply`], [`divide`] |
//! | FSQRT, FRNDINT, FSCALE, FXTRACT | [`square_root`], [`round_to_integer`], [`scale`], [`extract()`] |
//! | FABS, FCHS, FXAM | [`Float80::absolute`], [`Float80::negated`], [`Class::condition_codes`] |
//! | FPREM, FPREM1 | [`remainder_truncating`], [`remainder_nearest`] |
//! | FCOM, FTST, FCOMI; FUCOM, FUCOMI | [`compare()`] with [`QuietNans::Invalid`]; with [`QuietNans::Quiet`] |
//! | FADD m32, FCOM m64 and their like | [`widen_f32`], [`widen_f64`] for the operand, then [`Outcome::after_denormal`], [`Comparison::after_denormal`] |
//! | FLD m32, m64; FST m32, m64 | [`from_f32`], [`from_f64`]; [`to_f32`], [`to_f64`] |
//! | FILD; FIST; FISTTP | [`from_i64`]; [`to_i16`], [`to_i32`], [`to_i64`]; the same with [`Environment::truncating`] |
//! | FBLD; FBSTP | [`from_decimal`]; [`to_decimal`] |
//! | FLD1, FLDPI, … | [`constant`] |
//! | F2XM1, FYL2X, FYL2XP1, FPATAN | [`two_to_the_x_minus_one`], [`y_times_logarithm_of_x`], [`y_times_logarithm_of_x_plus_one`], [`arctangent`] |
//! | FSIN, FCOS, FSINCOS, FPTAN | [`sine`], [`cosine`], [`sine_and_cosine`], [`tangent`] |
//!
//! An instruction that pops does so wherever there is a value, also where an unmasked overflow,
//! underflow or loss of precision is pending. FLD m80 and FSTP m80 copy bytes ([`Float80::from_bytes`], [`Float80::to_bytes`]) and raise nothing.

mod arithmetic;
mod class;
mod compare;
mod constants;
mod convert;
mod decimal;
mod environment;
mod extract;
mod remainder;
mod round;
mod transcendental;

#[cfg(test)]
mod tests;

pub(crate) use arithmetic::{add, divide, multiply, square_root, subtract};
pub(crate) use class::Class;
pub(crate) use compare::{Comparison, QuietNans, Relation, compare};
pub(crate) use constants::{Constant, constant};
pub(crate) use convert::{
    Widened, from_f32, from_f64, from_i64, to_f32, to_f64, to_i16, to_i32, to_i64, widen_f32,
    widen_f64,
};
pub(crate) use decimal::{from_decimal, to_decimal};
pub(crate) use environment::{Environment, Exceptions, Outcome, Rounding};
pub(crate) use extract::{Extracted, extract, round_to_integer, scale};
pub(crate) use remainder::{Remainder, remainder_nearest, remainder_truncating};
pub(crate) use transcendental::{
    SineAndCosine, Tangent, arctangent, cosine, sine, sine_and_cosine, tangent,
    two_to_the_x_minus_one, y_times_logarithm_of_x, y_times_logarithm_of_x_plus_one,
};

/// What is added to the exponent of a finite number (Intel SDM 1, 4.2.2).
const BIAS: i32 = 16383;
/// The exponent field of infinities and NaNs.
const EXPONENT_MAX: i32 = 0x7FFF;
/// The explicit integer bit of the significand.
const INTEGER_BIT: u64 = 1 << 63;
/// The bit that makes a NaN a quiet one.
const QUIET_BIT: u64 = 1 << 62;
const SIGN_BIT: u16 = 0x8000;

/// A number in the double extended-precision format, as an x87 register holds it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Float80 {
    /// Bit 15 is the sign, bits 14 to 0 the exponent with a bias of 16383.
    pub(crate) sign_exponent: u16,
    /// The significand; bit 63 is the explicit integer bit.
    pub(crate) mantissa: u64,
}

impl Float80 {
    /// +0.
    pub(crate) const ZERO: Float80 = Float80::new(0, 0);
    /// 1.
    pub(crate) const ONE: Float80 = Float80::new(0x3FFF, INTEGER_BIT);
    /// The QNaN floating-point indefinite, the masked response to most invalid operations.
    pub(crate) const INDEFINITE: Float80 = Float80::new(0xFFFF, INTEGER_BIT | QUIET_BIT);

    /// The number with exactly these bits.
    pub(crate) const fn new(sign_exponent: u16, mantissa: u64) -> Float80 {
        Float80 {
            sign_exponent,
            mantissa,
        }
    }

    /// The number in the memory format of FLD m80: mantissa first, little endian.
    pub(crate) fn from_bytes(bytes: [u8; 10]) -> Float80 {
        let [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1] = bytes;
        Float80 {
            sign_exponent: u16::from_le_bytes([e0, e1]),
            mantissa: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
        }
    }

    /// The bytes FSTP m80 stores.
    pub(crate) fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.mantissa.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exponent.to_le_bytes());
        bytes
    }

    /// Whether the sign bit is set; also of zeros and NaNs.
    pub(crate) const fn is_negative(self) -> bool {
        self.sign_exponent & SIGN_BIT != 0
    }

    /// FCHS: the sign bit inverted, whatever the operand is.
    pub(crate) const fn negated(self) -> Float80 {
        Float80::new(self.sign_exponent ^ SIGN_BIT, self.mantissa)
    }

    /// FABS: the sign bit cleared, whatever the operand is.
    pub(crate) const fn absolute(self) -> Float80 {
        Float80::new(self.sign_exponent & !SIGN_BIT, self.mantissa)
    }

    /// The exponent field without the sign.
    const fn exponent_field(self) -> i32 {
        (self.sign_exponent & !SIGN_BIT) as i32
    }

    /// The same magnitude with this sign.
    const fn with_sign(self, negative: bool) -> Float80 {
        let sign = if negative { SIGN_BIT } else { 0 };
        Float80::new(self.sign_exponent & !SIGN_BIT | sign, self.mantissa)
    }

    const fn zero(negative: bool) -> Float80 {
        Float80::ZERO.with_sign(negative)
    }

    const fn infinity(negative: bool) -> Float80 {
        Float80::new(EXPONENT_MAX as u16, INTEGER_BIT).with_sign(negative)
    }

    const fn one(negative: bool) -> Float80 {
        Float80::ONE.with_sign(negative)
    }
}
