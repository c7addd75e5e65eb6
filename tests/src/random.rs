//! What tests vary, by SplitMix64: one seed gives one sequence, everywhere.

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `LOCKSTEP_KILL_SEED`, or of 1.
    #[must_use]
    pub fn of_kills() -> Self {
        let seed = std::env::var("LOCKSTEP_KILL_SEED").ok();
        Self(seed.and_then(|seed| seed.parse().ok()).unwrap_or(1))
    }

    /// The sequence of `seed`.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let mut z = self.0;
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
