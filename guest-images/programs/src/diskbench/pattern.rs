//! Where requests go, what is written there, and whether what is read is that: pure.

use crate::split_mix::split_mix;

/// The smallest transfer: what is remembered as written or not.
const BLOCK_BYTES: u64 = 4096;
const SECTOR_BYTES: usize = 512;

/// Offsets of requests of one size, in an order.
#[derive(Debug)]
pub struct Offsets {
    bytes: u64,
    requests: u64,
    next: u64,
    /// The generator's state, if the order is random.
    random: Option<u64>,
}

impl Offsets {
    /// One after the other, from the first on, and again.
    pub fn sequential(region_bytes: u64, request_bytes: u64) -> Self {
        Self {
            bytes: request_bytes,
            requests: (region_bytes / request_bytes).max(1),
            next: 0,
            random: None,
        }
    }

    /// All over the region; the same ones for the same `seed`.
    pub fn random(region_bytes: u64, request_bytes: u64, seed: u64) -> Self {
        Self {
            random: Some(seed),
            ..Self::sequential(region_bytes, request_bytes)
        }
    }

    /// The next request's place, in bytes from the device's beginning.
    pub fn next(&mut self) -> u64 {
        let request = match &mut self.random {
            None => {
                self.next += 1;
                self.next - 1
            }
            Some(state) => split_mix(state),
        };
        request % self.requests * self.bytes
    }
}

/// Which blocks of the region were written.
#[derive(Debug)]
pub struct Written {
    blocks: Vec<u64>,
}

impl Written {
    /// None of a region's.
    pub fn none(region_bytes: u64) -> Self {
        Self {
            blocks: vec![0; (region_bytes / BLOCK_BYTES / 64) as usize + 1],
        }
    }

    /// All blocks of a transfer were.
    pub fn insert(&mut self, offset: u64, bytes: u64) {
        for block in offset / BLOCK_BYTES..(offset + bytes) / BLOCK_BYTES {
            self.blocks[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    fn contains(&self, block: u64) -> bool {
        self.blocks[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    /// How many of the blocks in `buffer`, read at `offset`, were written and are not what was written.
    pub fn wrong(&self, buffer: &[u8], offset: u64) -> u64 {
        let blocks = buffer.chunks_exact(BLOCK_BYTES as usize);
        (offset / BLOCK_BYTES..)
            .zip(blocks)
            .filter(|(block, bytes)| self.contains(*block) && !is_stamped(bytes, *block))
            .count() as u64
    }
}

/// Marks each sector of `buffer`, at both ends, with its place on the device.
pub fn stamp(buffer: &mut [u8], offset: u64) {
    for (index, sector) in buffer.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        let place = mark(offset + (index * SECTOR_BYTES) as u64);
        sector[..8].copy_from_slice(&place);
        sector[SECTOR_BYTES - 8..].copy_from_slice(&place);
    }
}

fn is_stamped(bytes: &[u8], block: u64) -> bool {
    let sectors = bytes.chunks_exact(SECTOR_BYTES).enumerate();
    sectors.into_iter().all(|(index, sector)| {
        let place = mark(block * BLOCK_BYTES + (index * SECTOR_BYTES) as u64);
        sector[..8] == place && sector[SECTOR_BYTES - 8..] == place
    })
}

/// Never zero, which a disk that was not written is full of.
fn mark(place: u64) -> [u8; 8] {
    (place | 1).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_stay_in_the_region() {
        let mut offsets = Offsets::sequential(3 * 4096 + 100, 4096);
        let four: Vec<u64> = (0..4).map(|_| offsets.next()).collect();
        assert_eq!(four, [0, 4096, 8192, 0]);
        let mut offsets = Offsets::random(1 << 20, 131_072, 7);
        let many: std::collections::BTreeSet<u64> = (0..1000).map(|_| offsets.next()).collect();
        let all: Vec<u64> = (0..8).map(|request| request * 131_072).collect();
        assert!(many.into_iter().eq(all));
    }

    #[test]
    fn what_was_written_and_is_not_there_is_wrong() {
        let mut written = Written::none(1 << 20);
        let mut buffer = vec![0; 8192];
        assert_eq!(written.wrong(&buffer, 4096), 0);
        written.insert(4096, 4096);
        assert_eq!(written.wrong(&buffer, 4096), 1);
        stamp(&mut buffer, 4096);
        assert_eq!(written.wrong(&buffer, 4096), 0);
        assert_eq!(written.wrong(&buffer, 0), 1);
        buffer[4095] ^= 1;
        assert_eq!(written.wrong(&buffer, 4096), 1);
    }
}
