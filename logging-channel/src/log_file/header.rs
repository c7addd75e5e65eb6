//! What a log says about itself, and what may be kept beside its entries.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::LogError;
use crate::Digest;
use crate::identity::{BootChoices, Identity};

/// An image in a log is no longer.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Who kept a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeper {
    /// `lockstep record`: a guest without a backup.
    Record,
    /// A primary: what it sent to its backup.
    Primary,
    /// A backup: what it received from its primary, and if it went live, what it recorded itself.
    Backup,
}

impl std::fmt::Display for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// The beginning of a log's segment. All segments of a log agree in all but `segment` and `first_seq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHeader {
    /// What a replay must have too.
    pub identity: Identity,
    /// What a replay adopts.
    pub boot: BootChoices,
    /// Who kept the log.
    pub keeper: Keeper,
    /// Version of the program that kept it.
    pub program: String,
    /// When it was begun, seconds since 1970 UTC on its host's clock.
    pub written_unix_s: u64,
    /// 0 for `FILE`, then 1 for `FILE.1` and so on.
    pub segment: u32,
    /// Sequence number of the segment's first entry; 1 in the first segment of a log that begins with the guest.
    pub first_seq: u64,
}

impl LogHeader {
    /// The header of a log that begins now, with the guest.
    #[must_use]
    pub fn new(identity: Identity, boot: BootChoices, keeper: Keeper) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            identity,
            boot,
            keeper,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            written_unix_s: now.map_or(0, |since| since.as_secs()),
            segment: 0,
            first_seq: 1,
        }
    }

    /// The digest that the guest's identity has of this image.
    pub(super) fn digest_of(&self, kind: ImageKind) -> Option<Digest> {
        match kind {
            ImageKind::Kernel => Some(self.identity.kernel),
            ImageKind::Initrd => self.identity.initrd,
        }
    }
}

/// What to keep in a log beside its entries, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Begin the next segment once a file has this many bytes; it may exceed them by one frame. `None`: one file.
    pub rotate_bytes: Option<u64>,
    /// Images to keep in the log, so that a replay needs no other file. Each must be one that the identity names.
    pub images: Vec<Image>,
}

/// A file that the machine was made from.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Which.
    pub kind: ImageKind,
    /// The whole file, at most [`MAX_IMAGE_BYTES`].
    pub bytes: Vec<u8>,
}

impl Image {
    /// Whether it is the image that the header's identity names.
    pub(super) fn check(&self, header: &LogHeader) -> Result<(), LogError> {
        let bytes = self.bytes.len() as u64;
        if bytes > MAX_IMAGE_BYTES || header.digest_of(self.kind) != Some(Digest::of(&self.bytes)) {
            return Err(LogError::Image {
                kind: self.kind,
                bytes,
            });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.kind, self.bytes.len())
    }
}

/// Which file an [`Image`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageKind {
    /// The guest's kernel.
    Kernel,
    /// The guest's initial RAM disk.
    Initrd,
}

impl std::fmt::Display for ImageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initial RAM disk",
        })
    }
}
