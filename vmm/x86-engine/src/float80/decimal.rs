//! FBLD and FBSTP: eighteen packed decimal digits and a sign.
//!
//! In: ten bytes, or a register. Out: the register, or the ten bytes. Byte 9 holds the sign in its
//! bit 7; the others hold two digits each, the lower in the low half (Intel SDM 1, 4.7).

use super::convert::{from_i64, integral};
use super::round::Rounded;
use super::{Environment, Exceptions, Float80, Outcome};

/// The packed BCD indefinite (Intel SDM 1, table 4-4).
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF];
const LARGEST: u128 = 999_999_999_999_999_999;

/// FBLD: always exact. Halves above 9, which the manual leaves undefined, count as the numbers 10
/// to 15.
pub(crate) fn from_decimal(bytes: [u8; 10]) -> Float80 {
    let [digits @ .., sign] = bytes;
    let magnitude = digits.iter().rev().fold(0, |number, byte| {
        number * 100 + i64::from(byte >> 4) * 10 + i64::from(byte & 15)
    });
    from_i64(magnitude).with_sign(sign & 0x80 != 0)
}

/// FBSTP: rounded to an integer as the environment says.
pub(crate) fn to_decimal(a: Float80, environment: Environment) -> Outcome<[u8; 10]> {
    match integral(a, environment) {
        Some(Rounded { kept, inexact, up }) if kept <= LARGEST => {
            let exceptions = if inexact { Exceptions::PRECISION } else { Exceptions::NONE };
            let value = Some(pack(kept as u64, a.is_negative()));
            Outcome { value, exceptions, rounded_up: up }
        }
        _ => Outcome::masked(INDEFINITE, Exceptions::INVALID, environment),
    }
}

fn pack(mut magnitude: u64, negative: bool) -> [u8; 10] {
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        let pair = (magnitude % 100) as u8;
        *byte = (pair / 10) << 4 | pair % 10;
        magnitude /= 100;
    }
    bytes[9] = u8::from(negative) << 7;
    bytes
}
