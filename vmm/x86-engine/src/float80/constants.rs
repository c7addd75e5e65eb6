//! The constants of FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2 and FLDZ.
//!
//! In: which one, and the rounding of the control word. Out: the constant, rounded from 128 bits;
//! loading one raises no exception.

use super::round::round_off;
use super::{Float80, Rounding};

/// A constant with an instruction of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Constant {
    /// FLD1: 1.
    One,
    /// FLDL2T: the logarithm of 10 to base 2.
    Log2Of10,
    /// FLDL2E: the logarithm of e to base 2.
    Log2OfE,
    /// FLDPI: π.
    Pi,
    /// FLDLG2: the logarithm of 2 to base 10.
    Log10Of2,
    /// FLDLN2: the natural logarithm of 2.
    LnOf2,
    /// FLDZ: 0.
    Zero,
}

/// The constant as this rounding loads it.
pub(crate) fn constant(constant: Constant, rounding: Rounding) -> Float80 {
    // The leading 128 bits of each; none ends in zeros, so what is cut off never decides.
    let (sign_exponent, bits) = match constant {
        Constant::One => return Float80::ONE,
        Constant::Zero => return Float80::ZERO,
        Constant::Log2Of10 => (0x4000, LOG2_OF_10),
        Constant::Log2OfE => (0x3FFF, LOG2_OF_E),
        Constant::Pi => (0x4000, PI),
        Constant::Log10Of2 => (0x3FFD, LOG10_OF_2),
        Constant::LnOf2 => (0x3FFE, LN_OF_2),
    };
    Float80::new(sign_exponent, round_off(bits, 64, false, rounding).kept as u64)
}

/// log2 10, in units of 2^-126.
pub(super) const LOG2_OF_10: u128 = 0xD49A_784B_CD1B_8AFE_492B_F6FF_4DAF_DB4C;
/// log2 e, in units of 2^-127.
pub(super) const LOG2_OF_E: u128 = 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E88;
/// π, in units of 2^-126.
pub(super) const PI: u128 = 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1;
/// log10 2, in units of 2^-129.
pub(super) const LOG10_OF_2: u128 = 0x9A20_9A84_FBCF_F798_8F89_59AC_0B7C_9178;
/// ln 2, in units of 2^-128.
pub(super) const LN_OF_2: u128 = 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF;
