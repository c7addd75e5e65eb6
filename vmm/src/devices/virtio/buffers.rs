//! Stretches of guest memory that together hold one message.
//!
//! In: addresses and lengths of a descriptor chain. Out: bytes of guest memory, or bytes into it. Always: nothing outside the stretches is touched.

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress};

use super::queue::RingFault;
use crate::machine::GuestMemory;

/// Addresses and lengths, in order. Part of a saved state where a request waits for its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers(Vec<(u64, u32)>);

impl Buffers {
    /// One more stretch at the end.
    pub fn push(&mut self, address: u64, length: u32) {
        self.0.push((address, length));
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Total length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, length)| u64::from(*length)).sum()
    }

    /// Fills `target` with the bytes from byte `from` on.
    ///
    /// # Errors
    /// There are not so many, or a stretch is not in guest memory.
    pub fn read(
        &self,
        from: u64,
        target: &mut [u8],
        memory: &GuestMemory,
    ) -> Result<(), RingFault> {
        let mut rest = target;
        for (address, length) in self.pieces(from, rest.len()) {
            let (now, later) = rest.split_at_mut(length);
            let read = memory.read_slice(now, address);
            read.map_err(|_| RingFault::Buffer)?;
            rest = later;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(RingFault::Buffer),
        }
    }

    /// Copies as much of `bytes` as fits to byte `from` and on; how much that was.
    ///
    /// # Errors
    /// A stretch is not in guest memory.
    pub fn write(&self, from: u64, bytes: &[u8], memory: &GuestMemory) -> Result<u32, RingFault> {
        let mut rest = bytes;
        for (address, length) in self.pieces(from, bytes.len()) {
            let (now, later) = rest.split_at(length);
            let written = memory.write_slice(now, address);
            written.map_err(|_| RingFault::Buffer)?;
            rest = later;
        }
        Ok(u32::try_from(bytes.len() - rest.len()).unwrap_or(u32::MAX))
    }

    /// Where `length` bytes from byte `from` on lie, or as many as there are.
    fn pieces(&self, from: u64, length: usize) -> impl Iterator<Item = (GuestAddress, usize)> {
        let (mut skip, mut left) = (from, length as u64);
        self.0.iter().filter_map(move |(address, length)| {
            let length = u64::from(*length);
            let skipped = skip.min(length);
            skip -= skipped;
            let taken = left.min(length - skipped);
            left -= taken;
            let address = GuestAddress(address.saturating_add(skipped));
            (taken > 0).then_some((address, taken as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ring::guest_memory;
    use super::*;

    #[test]
    fn bytes_go_through_the_stretches_in_order() {
        let memory = guest_memory();
        let mut buffers = Buffers::default();
        for (address, length) in [(0x2000, 3), (0x1000, 0), (0x1000, 5)] {
            buffers.push(address, length);
        }
        assert_eq!(buffers.bytes(), 8);
        assert_eq!(buffers.write(0, b"abcdefgh", &memory), Ok(8));
        assert_eq!(buffers.write(2, b"CD", &memory), Ok(2));
        assert_eq!(buffers.write(7, b"Hi", &memory), Ok(1));
        assert_eq!(buffers.write(9, b"x", &memory), Ok(0));
        let mut bytes = [0; 8];
        memory
            .read_slice(&mut bytes[..3], GuestAddress(0x2000))
            .unwrap();
        memory
            .read_slice(&mut bytes[3..], GuestAddress(0x1000))
            .unwrap();
        assert_eq!(&bytes, b"abCDefgH");
        let mut part = [0; 4];
        assert_eq!(buffers.read(1, &mut part, &memory), Ok(()));
        assert_eq!(&part, b"bCDe");
        assert_eq!(
            buffers.read(5, &mut part, &memory),
            Err(RingFault::Buffer),
            "three bytes are left"
        );
    }

    #[test]
    fn stretches_outside_memory_are_faults() {
        let memory = guest_memory();
        let mut buffers = Buffers::default();
        buffers.push(u64::MAX, 8);
        assert_eq!(buffers.write(4, b"abcd", &memory), Err(RingFault::Buffer));
        assert_eq!(
            buffers.read(4, &mut [0; 4], &memory),
            Err(RingFault::Buffer)
        );
    }
}
