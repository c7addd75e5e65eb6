//! What each replica does for itself, so that the log need not carry it.
//!
//! In: a disk's rule and a request. Out: whether every replica does the request on its own, at its own replay. What always holds: the rule is the same on
//! all replicas, as it is part of their identity.

use crate::effect::DiskOperation;

/// What each replica of a pair does for itself on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apart {
    /// Nothing: the live replica alone touches the disk, what it reads travels in the log.
    #[default]
    Nothing,
    /// Reads: both see the same disk.
    Reads,
    /// Everything: each has a copy of its own.
    Everything,
}

impl Apart {
    /// Whether each replica does this for itself.
    #[must_use]
    pub fn covers(self, operation: &DiskOperation) -> bool {
        match self {
            Self::Nothing => false,
            Self::Reads => operation.is_read(),
            Self::Everything => true,
        }
    }
}

/// The checksum by which replicas compare what each has read for itself: CRC-32 (IEEE).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
