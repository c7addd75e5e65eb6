//! A disk of the machine as its replicas must agree on it.
//!
//! In: what the user asked for, or the line of a log's identity. Out: the disk that the guest sees, and who reads it. Always: a line that is written is read as
//! the same disk, so that a log alone is enough to build its machine again.
//!
//! ```text
//!     virtio-blk sectors=2048 id=root reads=log
//!     virtio-blk sectors=2048 ro id=tools reads=self
//!     virtio-blk sectors=2048 id=scratch private copy=6f70
//! ```

use std::{fmt, str::FromStr};

use crate::devices::{
    BlockConfig,
    virtio::block::{DISK_LIMIT_SECTORS, ID_LIMIT_BYTES},
};

/// How the lines begin.
pub const PREFIX: &str = "virtio-blk ";

/// A disk, and what the replicas of a pair have to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The disk that the guest sees.
    pub block: BlockConfig,
    /// Whose it is.
    pub sharing: DiskSharing,
}

/// Whose a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSharing {
    /// Both replicas see the same one; the live one alone changes it.
    Shared {
        /// Who reads it.
        reads: Reads,
    },
    /// Each replica has its own copy, and does everything to it.
    Private {
        /// What tells whether two replicas have begun with the same bytes: hexadecimal digits.
        copy: String,
    },
}

/// Who reads a shared disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The live replica alone: what it read travels in the log.
    #[default]
    Log,
    /// Each replica for itself.
    SelfRead,
}

/// A disk that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskConfigError {
    /// An id that the guest, or the line, cannot have.
    #[error(
        "The disk id {id:?} cannot be used: give 1 to {ID_LIMIT_BYTES} ASCII characters without spaces"
    )]
    Id {
        /// The id.
        id: String,
    },
    /// More sectors than can be.
    #[error("A disk of {sectors} sectors cannot be: the largest has {DISK_LIMIT_SECTORS}")]
    Size {
        /// How many.
        sectors: u64,
    },
    /// Another word than `log` and `self`.
    #[error("{text:?} does not say who reads a disk: give log or self")]
    Reads {
        /// The word.
        text: String,
    },
    /// No line that describes a disk.
    #[error("{line:?} does not describe a disk: was it written by another version of lockstep?")]
    Line {
        /// The line.
        line: String,
    },
}

impl DiskConfig {
    /// Whether there can be such a disk.
    ///
    /// # Errors
    /// Its id or its size.
    pub fn check(&self) -> Result<(), DiskConfigError> {
        let BlockConfig { sectors, id, .. } = &self.block;
        let printable = id.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=ID_LIMIT_BYTES).contains(&id.len()) {
            return Err(DiskConfigError::Id { id: id.clone() });
        }
        if *sectors > DISK_LIMIT_SECTORS {
            return Err(DiskConfigError::Size { sectors: *sectors });
        }
        Ok(())
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::SelfRead => "self",
        })
    }
}

impl FromStr for Reads {
    type Err = DiskConfigError;

    fn from_str(text: &str) -> Result<Self, DiskConfigError> {
        match text {
            "log" => Ok(Self::Log),
            "self" => Ok(Self::SelfRead),
            _ => Err(DiskConfigError::Reads {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for DiskConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockConfig {
            sectors,
            read_only,
            id,
        } = &self.block;
        let access = if *read_only { " ro" } else { "" };
        write!(f, "{PREFIX}sectors={sectors}{access} id={id}")?;
        match &self.sharing {
            DiskSharing::Shared { reads } => write!(f, " reads={reads}"),
            DiskSharing::Private { copy } => write!(f, " private copy={copy}"),
        }
    }
}

impl FromStr for DiskConfig {
    type Err = DiskConfigError;

    /// As [`Display`](fmt::Display) writes it.
    fn from_str(line: &str) -> Result<Self, DiskConfigError> {
        let wrong = || DiskConfigError::Line {
            line: line.to_owned(),
        };
        let disk = words(line).ok_or_else(wrong)?;
        disk.check()?;
        // Signs, zeroes and spaces that are read but never written.
        match disk.to_string() == line {
            true => Ok(disk),
            false => Err(wrong()),
        }
    }
}

/// The disk that a line describes, if it describes one at all.
fn words(line: &str) -> Option<DiskConfig> {
    let mut words = line.strip_prefix(PREFIX)?.split(' ').peekable();
    let sectors = words.next()?.strip_prefix("sectors=")?.parse().ok()?;
    let read_only = words.next_if_eq(&"ro").is_some();
    let id = words.next()?.strip_prefix("id=")?.to_owned();
    let sharing = match words.next()? {
        "private" => DiskSharing::Private {
            copy: hexadecimal(words.next()?.strip_prefix("copy=")?)?,
        },
        reads => DiskSharing::Shared {
            reads: reads.strip_prefix("reads=")?.parse().ok()?,
        },
    };
    let block = BlockConfig {
        sectors,
        read_only,
        id,
    };
    words
        .next()
        .is_none()
        .then_some(DiskConfig { block, sharing })
}

fn hexadecimal(text: &str) -> Option<String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disk(id: &str, sharing: DiskSharing) -> DiskConfig {
        let block = BlockConfig {
            sectors: 2048,
            read_only: false,
            id: id.to_owned(),
        };
        DiskConfig { block, sharing }
    }

    const LOGGED: DiskSharing = DiskSharing::Shared { reads: Reads::Log };

    #[test]
    fn lines_are_those_of_the_page() {
        let root = disk("root", LOGGED);
        assert_eq!(
            root.to_string(),
            "virtio-blk sectors=2048 id=root reads=log"
        );
        let reads = Reads::SelfRead;
        let mut tools = disk("tools", DiskSharing::Shared { reads });
        tools.block.read_only = true;
        assert_eq!(
            tools.to_string(),
            "virtio-blk sectors=2048 ro id=tools reads=self"
        );
        let copy = "6f70".to_owned();
        let scratch = disk("scratch", DiskSharing::Private { copy });
        assert_eq!(
            scratch.to_string(),
            "virtio-blk sectors=2048 id=scratch private copy=6f70"
        );
    }

    #[test]
    fn ids_and_sizes_that_cannot_be_are_refused() {
        for bad in ["", "a b", "a\n", "naïve", "123456789012345678901"] {
            let refused = disk(bad, LOGGED).check().expect_err(bad);
            assert!(refused.to_string().contains("without spaces"), "{refused}");
        }
        assert_eq!(disk("12345678901234567890", LOGGED).check(), Ok(()));
        let mut huge = disk("huge", LOGGED);
        huge.block.sectors = u64::MAX / 512 + 1;
        assert!(matches!(huge.check(), Err(DiskConfigError::Size { .. })));
        assert!(huge.to_string().parse::<DiskConfig>().is_err());
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in [
            "",
            "virtio-rng",
            "virtio-blk",
            "virtio-blk sectors=8 id=a",
            "virtio-blk sectors=+8 id=a reads=log",
            "virtio-blk sectors=08 id=a reads=log",
            "virtio-blk sectors=8 id= reads=log",
            "virtio-blk sectors=8 id=a ro reads=log",
            "virtio-blk sectors=8 id=a reads=both",
            "virtio-blk sectors=8 id=a reads=log ",
            "virtio-blk sectors=8  id=a reads=log",
            "virtio-blk sectors=8 id=a private",
            "virtio-blk sectors=8 id=a private copy=",
            "virtio-blk sectors=8 id=a private copy=xy",
            "virtio-blk sectors=8 id=a private copy=ab reads=log",
        ] {
            assert!(bad.parse::<DiskConfig>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sectors in 0..=DISK_LIMIT_SECTORS,
            read_only: bool,
            id in "[!-~]{1,20}",
            private in proptest::option::of("[0-9a-f]{1,64}"),
            alone: bool,
        ) {
            let reads = if alone { Reads::SelfRead } else { Reads::Log };
            let sharing = match private {
                Some(copy) => DiskSharing::Private { copy },
                None => DiskSharing::Shared { reads },
            };
            let disk = DiskConfig { block: BlockConfig { sectors, read_only, id }, sharing };
            prop_assert_eq!(disk.to_string().parse(), Ok(disk));
        }
    }
}
