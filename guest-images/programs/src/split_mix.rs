//! Numbers that look random and are the same each time.

/// SplitMix64: the next number of a generator, which is a function of its seed.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of seed 0, as the generator's authors give them.
    #[test]
    fn the_numbers_are_split_mixs() {
        let mut state = 0;
        assert_eq!(split_mix(&mut state), 0xE220_A839_7B1D_CDAF);
        assert_eq!(split_mix(&mut state), 0x6E78_9E6A_A1B9_65F4);
    }
}
