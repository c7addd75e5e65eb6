//! States and operands to test with: random from a fixed seed, with the corners well visited.

use crate::float80::Float80;

/// A small generator (SplitMix64).
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
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

    /// A register of any class.
    pub(super) fn float80(&mut self) -> Float80 {
        const TOP: u64 = 1 << 63;
        let mantissa = match self.below(8) {
            0 => self.pick(&[
                0,
                1,
                TOP - 1,
                TOP >> 1,
                TOP,
                TOP | 1,
                TOP | TOP >> 1,
                u64::MAX,
            ]),
            1 => self.next(),
            2 => TOP | 1 << self.below(64),
            3 => TOP | self.next() << self.below(64),
            _ => TOP | self.next(),
        };
        let exponent = match self.below(10) {
            0 => self.pick(&[0, 0, 1, 2, 0x7FFF, 0x7FFF, 0x7FFE]),
            1 => self.below(0x8000),
            // Singles, doubles and integers come from here.
            2..6 => 0x3FFF - 70 + self.below(140),
            _ => 0x3FFF - 3 + self.below(7),
        };
        Float80::new((self.below(2) << 15 | exponent) as u16, mantissa)
    }

    /// Sixteen bytes for a memory operand, whatever its format.
    pub(super) fn operand(&mut self) -> [u8; 16] {
        let mut bytes = self.float80().to_bytes().to_vec();
        bytes.resize(16, 0xA5);
        let mut bytes: [u8; 16] = bytes.try_into().expect("16 bytes");
        match self.below(8) {
            0 => {}
            1 => bytes.fill_with(|| self.next() as u8),
            2 | 3 => {
                let exponent = self.pick(&[0, 0, 1, 0xFF, 0xFE, 0x7F, 0x80, 0x82]);
                let fraction = self.next() >> self.pick(&[41, 41, 64 - 8, 63]);
                let bits = self.below(2) << 31 | exponent << 23 | fraction;
                bytes[..4].copy_from_slice(&(bits as u32).to_le_bytes());
            }
            4 | 5 => {
                let exponent = self.pick(&[0, 0, 1, 0x7FF, 0x7FE, 0x3FF, 0x400, 0x402]);
                let fraction = self.next() >> self.pick(&[12, 12, 64 - 8, 63]);
                let bits = self.below(2) << 63 | exponent << 52 | fraction;
                bytes[..8].copy_from_slice(&bits.to_le_bytes());
            }
            6 => {
                let integer = self.next() as i64 >> self.below(64);
                bytes[..8].copy_from_slice(&integer.to_le_bytes());
            }
            _ => bytes.fill_with(|| (self.below(10) << 4 | self.below(10)) as u8),
        }
        bytes
    }

    /// What FXRSTOR64 loads: any TOP, tags, registers, condition codes and control word. Flagged exceptions are masked, so that nothing is
    /// pending, unless `pending`.
    pub(super) fn image(&mut self, pending: bool) -> [u8; 512] {
        let mut image = [0; 512];
        let masks = match self.below(4) {
            0 | 1 => 0x3F,
            2 => self.below(64),
            _ => 0,
        };
        let control = self.below(4) << 10 | self.pick(&[0, 2, 3, 3]) << 8 | 0x40 | masks;
        let mut status = self.next() & 0x7F7F & !0x3F;
        status |= self.below(64) & self.pick(&[0, 0x3F]) & if pending { 0x3F } else { masks };
        let any = self.next() & 0xFF;
        let tags = self.pick(&[0xFF, 0xFF, 0xFF, 0, any, 0x7F, 0xFE, 0xF0]);
        image[..2].copy_from_slice(&(control as u16).to_le_bytes());
        image[2..4].copy_from_slice(&(status as u16).to_le_bytes());
        image[4] = tags as u8;
        image[24..28].copy_from_slice(&0x1F80_u32.to_le_bytes());
        for register in 0..8 {
            let at = 32 + 16 * register;
            image[at..at + 10].copy_from_slice(&self.float80().to_bytes());
        }
        for byte in &mut image[160..416] {
            *byte = self.next() as u8;
        }
        image
    }
}
