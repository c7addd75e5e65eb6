//! Numbers with 128 significant bits, and fixed-point series: what the transcendental functions
//! compute with.
//!
//! Every operation cuts off what does not fit, so a result is up to a few units of the last of
//! 128 places too small in magnitude. 64 places are kept in the end: what was lost decides the
//! rounding of about one result in 2^60.

use crate::float80::class::Finite;
use crate::float80::round::{Unrounded, shift_right_sticky};
use crate::float80::{BIAS, Float80};

/// A number other than zero: `significand × 2^(power - 127)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub(super) negative: bool,
    /// The power of two of the leading bit.
    pub(super) power: i32,
    /// Bit 127 set.
    pub(super) significand: u128,
}

impl Wide {
    /// 1.
    pub(super) const ONE: Wide = Wide { negative: false, power: 0, significand: 1 << 127 };

    /// A finite operand other than zero.
    pub(super) fn of(number: Float80) -> Wide {
        let Finite { negative, significand, .. } = number.finite();
        let power = number.finite().power();
        Wide { negative, power, significand: u128::from(significand) << 64 }
    }

    /// `magnitude × 2^scale`, or nothing for zero.
    pub(super) fn scaled(negative: bool, magnitude: u128, scale: i32) -> Option<Wide> {
        if magnitude == 0 {
            return None;
        }
        let shift = magnitude.leading_zeros();
        let power = scale + 127 - shift as i32;
        Some(Wide { negative, power, significand: magnitude << shift })
    }

    pub(super) const fn negated(self) -> Wide {
        Wide { negative: !self.negative, ..self }
    }

    pub(super) const fn with_sign(self, negative: bool) -> Wide {
        Wide { negative, ..self }
    }

    pub(super) const fn times_power_of_two(self, power: i32) -> Wide {
        Wide { power: self.power + power, ..self }
    }

    pub(super) fn times(self, other: Wide) -> Wide {
        let product = multiply_high(self.significand, other.significand);
        // Both have bit 127, so the product has bit 127 or 126.
        let shift = product.leading_zeros();
        Wide {
            negative: self.negative != other.negative,
            power: self.power + other.power + 1 - shift as i32,
            significand: product << shift,
        }
    }

    pub(super) fn over(self, divisor: Wide) -> Wide {
        let smaller = self.significand < divisor.significand;
        let numerator = if smaller { self.significand } else { self.significand >> 1 };
        Wide {
            negative: self.negative != divisor.negative,
            power: self.power - divisor.power - i32::from(smaller),
            significand: divide_high(numerator, divisor.significand),
        }
    }

    /// The sum, or nothing if it is zero.
    pub(super) fn plus(self, other: Wide) -> Option<Wide> {
        let (large, small) = if (self.power, self.significand) >= (other.power, other.significand)
        {
            (self, other)
        } else {
            (other, self)
        };
        let distance = (large.power - small.power) as u32;
        if large.negative == small.negative {
            let aligned = small.significand.checked_shr(distance).unwrap_or(0);
            let (sum, carry) = large.significand.overflowing_add(aligned);
            let significand = if carry { sum >> 1 | 1 << 127 } else { sum };
            return Some(Wide { power: large.power + i32::from(carry), significand, ..large });
        }
        // What is cut off the smaller one must still make the difference smaller.
        let aligned = shift_right_sticky(small.significand, distance);
        Wide::scaled(large.negative, large.significand - aligned, large.power - 127)
    }

    /// The number as a fraction in units of 2^-128; it must be below 1.
    pub(super) fn fraction(self) -> u128 {
        let shift = u32::try_from(-1 - self.power).expect("below 1");
        self.significand.checked_shr(shift).unwrap_or(0)
    }

    /// The square in units of 2^-128; the number must be below 1.
    pub(super) fn squared_fraction(self) -> u128 {
        let square = multiply_high(self.significand, self.significand);
        let shift = u32::try_from(-2 - 2 * self.power).expect("below 1");
        square.checked_shr(shift).unwrap_or(0)
    }

    /// For rounding, as a number that certainly has more bits than these.
    pub(super) const fn inexact(self) -> Unrounded {
        Unrounded {
            negative: self.negative,
            exponent: self.power + BIAS,
            significand: self.significand | 1,
        }
    }

    /// For rounding, as exactly this number.
    pub(super) const fn exact(self) -> Unrounded {
        Unrounded {
            negative: self.negative,
            exponent: self.power + BIAS,
            significand: self.significand,
        }
    }
}

/// The upper half of a 256-bit product.
pub(super) const fn multiply_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let low = (a_low * b_low) >> 64;
    let middle_a = a_high * b_low;
    let middle_b = a_low * b_high;
    let middle = low + (middle_a & LOW) + (middle_b & LOW);
    a_high * b_high + (middle_a >> 64) + (middle_b >> 64) + (middle >> 64)
}

/// `numerator × 2^128 ÷ divisor`; the divisor has bit 127 and is larger than the numerator.
fn divide_high(numerator: u128, divisor: u128) -> u128 {
    let (high, rest) = divide_digit(numerator, divisor);
    let (low, _) = divide_digit(rest, divisor);
    u128::from(high) << 64 | u128::from(low)
}

/// One digit of base 2^64 (Knuth, The Art of Computer Programming 2, 4.3.1 D): quotient and
/// remainder of `numerator × 2^64`.
fn divide_digit(numerator: u128, divisor: u128) -> (u64, u128) {
    let (divisor_high, divisor_low) = (divisor >> 64, divisor & u128::from(u64::MAX));
    let mut digit = (numerator / divisor_high).min(u128::from(u64::MAX));
    // numerator × 2^64 - digit × divisor, in two's complement of 192 bits kept as a pair.
    let mut high = numerator - digit * divisor_high;
    let mut correction = digit * divisor_low;
    // The estimate is at most two too large.
    while high >> 64 == 0 && high << 64 < correction {
        digit -= 1;
        high += divisor_high;
        correction -= divisor_low;
    }
    (digit as u64, (high << 64).wrapping_sub(correction))
}

/// `c[0] - x c[1] + x² c[2] - …` for a fraction x in units of 2^-128, in the units of the
/// coefficients. Each coefficient must be larger than what follows it.
pub(super) fn alternating_series(x: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, coefficient| coefficient - multiply_high(x, sum))
}

/// `c[0] + x c[1] + x² c[2] + …` for a fraction x in units of 2^-128.
pub(super) fn positive_series(x: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, coefficient| coefficient + multiply_high(x, sum))
}
