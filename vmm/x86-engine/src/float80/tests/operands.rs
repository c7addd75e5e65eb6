//! Operands and control words to test with: every pair of corners, then random ones.

use crate::float80::Float80;

/// A small generator with a fixed seed (SplitMix64).
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A significand; most have their integer bit set.
    pub(super) fn mantissa(&mut self) -> u64 {
        const TOP: u64 = 1 << 63;
        match self.below(10) {
            0 => self.pick(&[0, 1, 2, 3, TOP - 1, TOP >> 1, TOP >> 1 | 1]),
            1 => self.pick(&[
                TOP,
                TOP | 1,
                TOP | 2,
                !0,
                !1,
                TOP | TOP >> 1,
                TOP | TOP >> 1 | 1,
            ]),
            2 => self.next(),
            // Long runs of equal bits, for carries and ties.
            3 => TOP | !0 << self.below(64),
            4 => TOP | ((1 << self.below(64)) - 1),
            5 => TOP | 1 << self.below(64),
            6 => TOP | self.next() << self.below(64),
            _ => TOP | self.next(),
        }
    }

    /// Any encoding.
    pub(super) fn any(&mut self) -> Float80 {
        let exponent = match self.below(10) {
            0 => self.pick(&[0, 0, 0, 1, 2, 0x7FFF, 0x7FFF, 0x7FFE, 0x7FFD]),
            1 => self.below(80),
            2 => 0x7FFF - self.below(80),
            3..7 => 0x3FFF - 70 + self.below(140),
            _ => self.below(0x8000),
        };
        let sign = self.below(2) << 15;
        Float80::new((exponent | sign) as u16, self.mantissa())
    }

    /// Any encoding whose exponent is within `range` above or below that of `other`.
    pub(super) fn near(&mut self, other: Float80, range: u64) -> Float80 {
        let exponent = u64::from(other.sign_exponent & 0x7FFF) + self.below(2 * range + 1);
        let exponent = exponent.saturating_sub(range).min(0x7FFF);
        let sign = self.below(2) << 15;
        Float80::new((exponent | sign) as u16, self.mantissa())
    }

    /// Two operands: unrelated, of similar size, or equal in magnitude.
    pub(super) fn pair(&mut self) -> (Float80, Float80) {
        let a = self.any();
        let b = match self.below(8) {
            0 => Float80::new(a.sign_exponent ^ (self.below(2) << 15) as u16, a.mantissa),
            1..4 => self.near(a, 68),
            4 => self.near(a, 2),
            _ => self.any(),
        };
        (a, b)
    }

    /// A control word with every exception masked: any rounding, any precision.
    pub(super) fn masked_control(&mut self) -> u16 {
        let precision = self.pick(&[0, 1, 2, 3, 3, 3]);
        (self.below(4) as u16) << 10 | precision << 8 | 0x7F
    }

    /// A control word with any masks.
    pub(super) fn any_control(&mut self) -> u16 {
        self.masked_control() & !(self.below(64) as u16)
    }
}

/// One of every kind of encoding, and the largest and smallest of its kind.
const CORNERS: [(u16, u64); 29] = [
    // Zero, denormals, pseudo-denormals.
    (0, 0),
    (0, 1),
    (0, (1 << 63) - 1),
    (0, 1 << 63),
    (0, !0),
    // Normal numbers.
    (1, 1 << 63),
    (1, !0),
    (0x3FBE, 0xFFFF_FFFF_FFFF_FFFF),
    (0x3FFE, 1 << 63),
    (0x3FFE, !0),
    (0x3FFF, 1 << 63),
    (0x3FFF, 1 << 63 | 1),
    (0x3FFF, 0xC000_0000_0000_0000),
    (0x4000, 1 << 63),
    // π/2 and π, of which the reduction of an angle leaves next to nothing.
    (0x3FFF, 0xC90F_DAA2_2168_C235),
    (0x4000, 0xC90F_DAA2_2168_C235),
    (0x400D, 0xFFFE_0000_0000_0000),
    (0x403D, !0),
    (0x403E, 1 << 63),
    (0x7FFE, !0),
    // Infinity, signalling and quiet NaNs, the indefinite.
    (0x7FFF, 1 << 63),
    (0x7FFF, 1 << 63 | 1),
    (0x7FFF, 0xBFFF_FFFF_FFFF_FFFF),
    (0x7FFF, 0xC000_0000_0000_0000),
    (0x7FFF, 0xC000_0000_0000_0001),
    (0x7FFF, !0),
    // Unnormal, pseudo-infinity, pseudo-NaN.
    (0x3FFF, 1 << 62),
    (0x7FFF, 0),
    (0x7FFF, 1 << 62),
];

/// Each of the corners with both signs.
fn corners() -> impl Iterator<Item = Float80> + Clone {
    CORNERS.into_iter().flat_map(|(exponent, mantissa)| {
        [exponent, exponent | 0x8000].map(|exponent| Float80::new(exponent, mantissa))
    })
}

/// Every rounding and precision with all exceptions masked, each exception unmasked alone, and all.
fn controls() -> impl Iterator<Item = u16> + Clone {
    let masked = (0..16).map(|fields| fields << 8 | 0x7F);
    let unmasked = (0..6).map(|exception| 0x37F & !(1 << exception));
    masked.chain(unmasked).chain([0x340])
}

/// Two operands and a control word.
pub(super) type Case = (Float80, Float80, u16);

/// Every pair of corners under every control word of [`controls`], then `random` other cases, every
/// second of them with some exceptions unmasked.
pub(super) fn cases(generator: &mut Generator, random: u32) -> impl Iterator<Item = Case> {
    let pairs = corners().flat_map(|a| corners().map(move |b| (a, b)));
    let systematic = pairs.flat_map(|(a, b)| controls().map(move |control| (a, b, control)));
    systematic.chain((0..random).map(|case| {
        let (a, b) = generator.pair();
        let masked = case % 2 == 0;
        (
            a,
            b,
            if masked {
                generator.masked_control()
            } else {
                generator.any_control()
            },
        )
    }))
}
