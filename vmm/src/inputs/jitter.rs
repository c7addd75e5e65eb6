//! Timing at random, by a seed: another seed, another timing. For tests of replay.

use super::MAX_SLICE_INSTRUCTIONS;

/// A sequence of decisions.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// The seed's sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Whether inputs wait until the next position where they could be taken.
    pub fn defers(&mut self) -> bool {
        self.next() & 3 == 0
    }

    /// Length of the next slice, instructions: one in four is so short that it ends next to an exit or an interrupt.
    pub fn slice_instructions(&mut self) -> u64 {
        let most = if self.next() & 3 == 0 {
            16
        } else {
            MAX_SLICE_INSTRUCTIONS
        };
        1 + self.next() % most
    }
}
