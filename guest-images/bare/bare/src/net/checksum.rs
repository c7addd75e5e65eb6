//! The Internet checksum (RFC 1071), summed by 64-bit words in the machine's own byte order, which
//! the one's complement sum does not mind.

/// A one's complement sum under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    #[inline(always)]
    fn word(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Self(sum + u64::from(carry))
    }

    /// Adds a 16-bit number that no packet holds in this form (a pseudo header's length).
    #[inline(always)]
    pub fn number(self, number: u16) -> Self {
        self.word(number.to_be().into())
    }

    /// Adds bytes; all but the last slice of a packet must have an even length.
    #[inline(always)]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, mut rest) = bytes.as_chunks::<8>();
        for word in words {
            self = self.word(u64::from_ne_bytes(*word));
        }
        if let Some((half, after)) = rest.split_first_chunk() {
            self = self.word(u32::from_ne_bytes(*half).into());
            rest = after;
        }
        if let Some((pair, after)) = rest.split_first_chunk() {
            self = self.word(u16::from_ne_bytes(*pair).into());
            rest = after;
        }
        if let Some(&last) = rest.first() {
            self = self.word(u16::from_ne_bytes([last, 0]).into());
        }
        self
    }

    /// The complement: what a packet's checksum field must hold, in the machine's byte order, if
    /// it was summed as 0. Over a whole packet with its checksum: 0 if that is right.
    #[inline(always)]
    pub fn finish(self) -> u16 {
        let sum = (self.0 & 0xFFFF_FFFF) + (self.0 >> 32);
        let sum = (sum & 0xFFFF) + (sum >> 16);
        let sum = (sum & 0xFFFF) + (sum >> 16);
        !((sum + (sum >> 16)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §1, by the letter.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let sum = Sum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish().to_ne_bytes(), (!0xddf2_u16).to_be_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_the_rfc(bytes in prop::collection::vec(prop_oneof![Just(0xFF_u8), any::<u8>()], 0..200)) {
            prop_assert_eq!(Sum::new().bytes(&bytes).finish().to_ne_bytes(), reference(&bytes).to_be_bytes());
        }

        #[test]
        fn a_packet_with_its_checksum_sums_to_zero(mut bytes: Vec<u8>, number: u16) {
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            let sum = Sum::new().number(number).bytes(&bytes);
            prop_assert_eq!(sum.bytes(&sum.finish().to_ne_bytes()).finish(), 0);
        }
    }
}
