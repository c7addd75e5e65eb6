//! The reduction of an angle to at most π/4.
//!
//! In: an angle below 2^63. Out: the number of quarter turns, modulo 4, and the exact rest.
//!
//! π is the number of 66 bits that the x87 has inside (Intel SDM 1, 8.3.8). In units of 2^-65,
//! half of it and every operand of 1/2 and more are integers, so the reduction is a division of
//! integers. The rest is never zero: the integer π/2 is odd and longer than any significand.

use super::wide::Wide;
use crate::float80::Float80;

/// π/2 in units of 2^-65.
const HALF_PI: u128 = 0x3_243F_6A88_85A3_08D3;

/// An angle as quarter turns and a rest between -π/4 and π/4.
pub(super) struct Reduced {
    /// How many quarter turns, modulo 4, for the magnitude of the angle.
    pub(super) quarter_turns: u8,
    /// What is left of the magnitude; negative where the quarter turns are rounded up.
    pub(super) rest: Wide,
}

/// Reduces the magnitude of a finite angle other than zero; nothing if it is 2^63 or more.
pub(super) fn reduce(angle: Float80) -> Option<Reduced> {
    let angle = Wide::of(angle).with_sign(false);
    match angle.power {
        ..-1 => return Some(Reduced { quarter_turns: 0, rest: angle }),
        63.. => return None,
        _ => {}
    }
    let units = (angle.significand >> 64) << (angle.power + 2);
    let (turns, rest) = (units / HALF_PI, units % HALF_PI);
    let past_half = 2 * rest > HALF_PI;
    let rest = if past_half { HALF_PI - rest } else { rest };
    Some(Reduced {
        quarter_turns: ((turns + u128::from(past_half)) & 3) as u8,
        rest: Wide::scaled(past_half, rest, -65).expect("π/2 divides no operand"),
    })
}
