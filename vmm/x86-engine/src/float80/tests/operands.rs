//! Operands and control words to test with: random, with all the corners well visited.

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
            1 => self.pick(&[TOP, TOP | 1, TOP | 2, !0, !1, TOP | TOP >> 1, TOP | TOP >> 1 | 1]),
            2 => self.next(),
            // Long runs of equal bits, for carries and ties.
            3 => TOP | !0 << self.below(64),
            4 => TOP | (1 << self.below(64)) - 1,
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
        let precision = self.pick(&[0, 2, 3, 3]);
        (self.below(4) as u16) << 10 | precision << 8 | 0x7F
    }

    /// A control word with any masks.
    pub(super) fn any_control(&mut self) -> u16 {
        self.masked_control() & !(self.below(64) as u16)
    }
}
