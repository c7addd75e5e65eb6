//! A small hash for what a guest computes or reads: one XOR and one multiplication a word.

/// FNV-1a over 64-bit words instead of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

/// The 64-bit FNV offset basis.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// The 64-bit FNV prime.
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Hash {
    /// The hash of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(BASIS)
    }

    /// Takes in one word.
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(PRIME);
    }

    /// Takes in bytes, eight to a word; a shorter rest is padded with zeros.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    /// The value so far.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

/// The next number of Marsaglia's xorshift64 sequence; `state` must not be zero.
#[must_use]
pub const fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_agree() {
        let mut words = Hash::new();
        words.word(u64::from_le_bytes(*b"lockstep"));
        words.word(u64::from_le_bytes(*b"bare\0\0\0\0"));
        let mut bytes = Hash::new();
        bytes.bytes(b"lockstepbare");
        assert_eq!(words, bytes);
        assert_ne!(words, Hash::new());
    }

    #[test]
    fn xorshift_does_not_stand_still() {
        assert_eq!(xorshift(1), 0x4082_2041);
        assert_ne!(xorshift(xorshift(1)), xorshift(1));
    }
}
