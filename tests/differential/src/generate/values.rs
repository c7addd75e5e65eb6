//! Values that find mistakes: the edges of number formats, and what lies next to them.

use crate::random::Random;

/// An integer of 64 bits; narrower operands take its low part.
pub fn integer(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.pick(&[0, 1, 2, u64::MAX, u64::MAX - 1]),
        1 => {
            // The edges of every width.
            let top = 1_u64 << random.pick(&[7, 8, 15, 16, 31, 32, 63]);
            top.wrapping_add(random.below(3)).wrapping_sub(1)
        }
        2 => (1_u64 << random.below(64))
            .wrapping_add(random.below(3))
            .wrapping_sub(1),
        3 => (1_u64 << random.below(64)).wrapping_neg(),
        // Small numbers: shift counts, divisors.
        4 => random.below(130),
        5 => random.next() >> random.below(64),
        // The same pattern in all bytes, words or double words.
        6 => {
            let byte = random.next() & 0xFF;
            byte.wrapping_mul(random.pick(&[0x0101_0101_0101_0101, 0x0001_0001_0001_0001]))
        }
        _ => random.next(),
    }
}

/// A number of IEEE's format with `fraction` and `exponent` bits, as its encoding.
fn ieee(random: &mut Random, fraction: u32, exponent: u32) -> u64 {
    let sign = (random.next() & 1) << (fraction + exponent);
    let top_exponent = (1_u64 << exponent) - 1;
    let bias = top_exponent >> 1;
    let any_fraction = random.next() & ((1 << fraction) - 1);
    let quiet = 1_u64 << (fraction - 1);
    let (exponent_bits, fraction_bits) = match random.below(14) {
        0 => (0, 0),
        1 => (top_exponent, 0),
        // Quiet and signalling NaNs.
        2 => (top_exponent, any_fraction | quiet),
        3 => (top_exponent, (any_fraction & !quiet) | 1),
        // Denormal numbers, and the edges between formats of magnitudes.
        4 => (0, any_fraction),
        5 => (
            random.pick(&[0, 1]),
            random.pick(&[0, 1, (1 << fraction) - 1]),
        ),
        6 => (
            top_exponent - 1,
            random.pick(&[0, 1, (1 << fraction) - 1, any_fraction]),
        ),
        // Small integers, and halves.
        7 | 8 => {
            let kept = random.below(6) as u32;
            let mask = ((1_u64 << kept) - 1) << (fraction - kept);
            (bias + random.below(5) - 1, any_fraction & mask)
        }
        // The limits of integers.
        9 => (
            bias + random.pick(&[15, 30, 31, 32, 52, 62, 63, 64]),
            random.pick(&[0, 1, (1 << fraction) - 1, any_fraction]),
        ),
        10 | 11 => (bias + random.below(64) - 32, any_fraction),
        _ => (random.next() & top_exponent, any_fraction),
    };
    sign | (exponent_bits.min(top_exponent) << fraction) | fraction_bits
}

/// A single-precision number's encoding.
pub fn single(random: &mut Random) -> u32 {
    ieee(random, 23, 8) as u32
}

/// A double-precision number's encoding.
pub fn double(random: &mut Random) -> u64 {
    ieee(random, 52, 11)
}

/// A double-extended number's encoding, the invalid ones included.
pub fn extended(random: &mut Random) -> [u8; 10] {
    const BIAS: u64 = 0x3FFF;
    const TOP: u64 = 0x7FFF;
    let integer_bit = 1_u64 << 63;
    let any = random.next() & !integer_bit;
    let (exponent, mantissa) = match random.below(18) {
        0 => (0, 0),
        1 => (TOP, integer_bit),
        2 => (TOP, integer_bit | 1 << 62 | any),
        3 => (TOP, integer_bit | (any & !(1 << 62)) | 1),
        // Denormal and pseudo-denormal.
        4 => (0, any),
        5 => (0, integer_bit | any),
        // Encodings that are none any more: unnormal, pseudo-infinity, pseudo-NaN.
        6 => (random.pick(&[1, BIAS, TOP, BIAS + 63]), any),
        7 => (
            random.pick(&[1, TOP - 1]),
            integer_bit | random.pick(&[0, 1, any]),
        ),
        // MMX leaves these.
        8 => (TOP, random.next()),
        // What is exact, or just not, in the narrower formats.
        9 => (
            BIAS + random.below(4),
            integer_bit | any & !0 << random.below(63),
        ),
        10 => from_double(double(random)),
        11 => (
            BIAS + random.pick(&[14, 15, 16, 30, 31, 32, 62, 63, 64]),
            integer_bit | random.pick(&[0, 1, any, any & !0 << 48]),
        ),
        12 => (
            BIAS.wrapping_add(random.pick(&[1023, 1024, 127, 128]))
                .wrapping_sub(random.pick(&[0, 2046, 254, 2100, 280])),
            integer_bit | any,
        ),
        13..=15 => (BIAS + random.below(70) - 10, integer_bit | any),
        _ => (random.next() & TOP, integer_bit | any),
    };
    let sign = (random.next() & 1) << 15;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
    bytes[8..].copy_from_slice(&((exponent & TOP | sign) as u16).to_le_bytes());
    bytes
}

/// Exponent and mantissa of a normal double, widened.
fn from_double(bits: u64) -> (u64, u64) {
    let exponent = (bits >> 52) & 0x7FF;
    (
        exponent + 0x3FFF - 0x3FF,
        1 << 63 | (bits & ((1 << 52) - 1)) << 11,
    )
}

/// Eighteen decimal digits and a sign, sometimes with digits that are none.
pub fn decimal(random: &mut Random) -> [u8; 10] {
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        *byte = (random.below(10) | random.below(10) << 4) as u8;
    }
    bytes[9] = random.pick(&[0, 0x80]);
    if random.chance(1, 8) {
        bytes[random.below(10) as usize] = random.next() as u8;
    }
    bytes
}

/// What sixteen bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Integers of any width.
    Integer,
    /// Four single-precision numbers.
    Single,
    /// Two double-precision numbers.
    Double,
    /// A double-extended number.
    Extended,
    /// Packed decimal digits.
    Decimal,
    /// Text for the string comparisons: few different characters, and zeros.
    Text,
}

/// Sixteen bytes with such content.
pub fn sixteen(random: &mut Random, content: Content) -> [u8; 16] {
    let mut bytes = [0; 16];
    match content {
        Content::Integer => {
            bytes[..8].copy_from_slice(&integer(random).to_le_bytes());
            bytes[8..].copy_from_slice(&integer(random).to_le_bytes());
        }
        Content::Single => {
            for lane in bytes.chunks_exact_mut(4) {
                lane.copy_from_slice(&single(random).to_le_bytes());
            }
        }
        Content::Double => {
            for lane in bytes.chunks_exact_mut(8) {
                lane.copy_from_slice(&double(random).to_le_bytes());
            }
        }
        Content::Extended => bytes[..10].copy_from_slice(&extended(random)),
        Content::Decimal => bytes[..10].copy_from_slice(&decimal(random)),
        Content::Text => {
            for byte in &mut bytes {
                *byte = random.pick(&[0, 1, b'a', b'b', b'c', 0x7F, 0x80, 0xFF]);
            }
            if random.chance(3, 4) {
                for byte in &mut bytes {
                    *byte |= 1;
                }
                bytes[random.below(16) as usize] = 0;
            }
        }
    }
    bytes
}
