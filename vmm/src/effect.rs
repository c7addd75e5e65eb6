//! What a machine wants done in the world.

use std::{ops::Range, sync::Arc};

use logging_channel::{Digest, OutputKind};
use serde::{Deserialize, Serialize};

/// An output of the machine, as an owned value: whoever holds it decides whether it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this Ethernet frame (no virtio header).
    SendFrame(Vec<u8>),
    /// Print these bytes on the console.
    Print(Vec<u8>),
    /// Do this with a disk.
    Disk(DiskRequest),
}

impl Effect {
    /// Where the output goes.
    #[must_use]
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::SendFrame(_) => OutputKind::Frame,
            Self::Print(_) => OutputKind::Console,
            Self::Disk(request) if request.operation.is_read() => OutputKind::DiskRead,
            Self::Disk(_) => OutputKind::Disk,
        }
    }

    /// The bytes that leave the machine: a frame, what is printed, what is written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::SendFrame(bytes) | Self::Print(bytes) => bytes,
            Self::Disk(request) => request.operation.data(),
        }
    }

    /// Digest of [`Self::bytes`]; of a request to a disk, of all that is asked for, as `docs/log-format.md` says.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::SendFrame(bytes) | Self::Print(bytes) => Digest::of(bytes),
            Self::Disk(request) => request.digest(),
        }
    }
}

/// Bytes of a sector. Requests begin and end at sectors.
pub const SECTOR_BYTES: u64 = 512;

/// What a machine wants done with one of its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRequest {
    /// Which disk, counted from 0.
    pub disk: u8,
    /// The request's name: numbered from 0 on each disk, in the order in which the guest made them.
    pub id: u64,
    /// What to do.
    pub operation: DiskOperation,
}

/// What to do with a disk. Ranges lie within it: devices see to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskOperation {
    /// Read `bytes`, a multiple of [`SECTOR_BYTES`], from `sector` on.
    Read {
        /// The first sector.
        sector: u64,
        /// How many bytes.
        bytes: u32,
    },
    /// Write.
    Write {
        /// The first sector.
        sector: u64,
        /// Whole sectors.
        data: Arc<[u8]>,
    },
    /// Have all that was written, and said to be so, last.
    Flush,
    /// Nobody needs these sectors any more. What they read as afterwards is the disk's choice; lockstep's read as zeroes.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// These sectors read as zeroes from now on.
    WriteZeroes {
        /// The first sector.
        sector: u64,
        /// How many.
        sectors: u32,
        /// Their space may be given back.
        unmap: bool,
    },
}

impl DiskRequest {
    /// Of everything in it: see [`Effect::digest`].
    fn digest(&self) -> Digest {
        let (code, range) = match &self.operation {
            DiskOperation::Read { .. } => (0, self.operation.range()),
            DiskOperation::Write { .. } => (1, self.operation.range()),
            DiskOperation::Flush => (2, None),
            DiskOperation::Discard { .. } => (3, self.operation.range()),
            DiskOperation::WriteZeroes { unmap, .. } => {
                (4 + u8::from(*unmap), self.operation.range())
            }
        };
        let range = range.unwrap_or(0..0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.disk]);
        hasher.update(&self.id.to_le_bytes());
        hasher.update(&[code]);
        hasher.update(&(range.start / SECTOR_BYTES).to_le_bytes());
        hasher.update(&(range.end - range.start).to_le_bytes());
        hasher.update(self.operation.data());
        Digest::from_hash(&hasher.finalize())
    }
}

impl DiskOperation {
    /// The bytes of the disk that it reads or changes; `None` for a flush.
    #[must_use]
    pub fn range(&self) -> Option<Range<u64>> {
        let (sector, bytes) = match self {
            Self::Read { sector, bytes } => (*sector, u64::from(*bytes)),
            Self::Write { sector, data } => (*sector, data.len() as u64),
            Self::Flush => return None,
            Self::Discard { sector, sectors }
            | Self::WriteZeroes {
                sector, sectors, ..
            } => (*sector, u64::from(*sectors) * SECTOR_BYTES),
        };
        let start = sector * SECTOR_BYTES;
        Some(start..start + bytes)
    }

    /// What is written; empty for all else.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Write { data, .. } => data,
            _ => &[],
        }
    }

    /// How much it reads, bytes.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        match self {
            Self::Read { bytes, .. } => (*bytes).into(),
            _ => 0,
        }
    }

    /// How much goes to the disk with it, or comes back, bytes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data().len() as u64 + self.read_bytes()
    }

    /// Whether it reads. All else is an output in the sense of the output rule.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    /// Whether one of them changes what the other reads or changes: they must not be under way at once.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        if self.is_read() && other.is_read() {
            return false;
        }
        match (self.range(), other.range()) {
            (Some(one), Some(another)) => one.start < another.end && another.start < one.end,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sector: u64, sectors: u32) -> DiskOperation {
        DiskOperation::Read {
            sector,
            bytes: sectors * SECTOR_BYTES as u32,
        }
    }

    fn write(sector: u64, sectors: usize) -> DiskOperation {
        DiskOperation::Write {
            sector,
            data: vec![7; sectors * SECTOR_BYTES as usize].into(),
        }
    }

    #[test]
    fn what_overlaps_and_changes_something_conflicts() {
        assert!(!read(0, 8).conflicts_with(&read(0, 8)));
        assert!(read(0, 8).conflicts_with(&write(7, 1)));
        assert!(write(7, 1).conflicts_with(&read(0, 8)));
        assert!(!read(0, 8).conflicts_with(&write(8, 1)));
        assert!(write(3, 2).conflicts_with(&write(4, 2)));
        assert!(!write(3, 2).conflicts_with(&DiskOperation::Flush));
        let (sector, sectors) = (4, 1);
        assert!(write(3, 2).conflicts_with(&DiskOperation::Discard { sector, sectors }));
    }

    #[test]
    fn every_part_of_a_request_is_in_its_digest() {
        let zeroes = |unmap| DiskOperation::WriteZeroes {
            sector: 1,
            sectors: 2,
            unmap,
        };
        let discard = |sector, sectors| DiskOperation::Discard { sector, sectors };
        let operations = [
            read(1, 2),
            read(2, 2),
            read(1, 3),
            write(1, 2),
            write(2, 2),
            DiskOperation::Flush,
            discard(1, 2),
            discard(1, 3),
            zeroes(false),
            zeroes(true),
        ];
        let mut digests = Vec::new();
        for (disk, id) in [(0, 0), (1, 0), (0, 1)] {
            for operation in operations.clone() {
                let effect = Effect::Disk(DiskRequest {
                    disk,
                    id,
                    operation,
                });
                let digest = effect.digest();
                assert!(!digests.contains(&digest), "{effect:?}");
                digests.push(digest);
            }
        }
    }
}
