//! Why a file is no disk for a guest.

use std::{io, path::PathBuf};

/// Why a file or block device cannot be a disk, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskOpenError {
    /// Nothing has this name.
    #[error(
        "There is no disk image {path:?}: make one with `truncate --size=SIZE {}`",
        path.display()
    )]
    NotFound {
        /// The name.
        path: PathBuf,
    },
    /// A folder, a pipe, a terminal and the like.
    #[error("{path:?} is {kind}: a disk is a raw image file or a block device")]
    NotADisk {
        /// The name.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// It holds nothing.
    #[error(
        "The disk image {path:?} is empty: give it a size with `truncate --size=SIZE {}`",
        path.display()
    )]
    Empty {
        /// The name.
        path: PathBuf,
    },
    /// It ends within a sector.
    #[error(
        "The disk image {path:?} has {bytes} bytes, which is no multiple of 512: is it a raw image? `truncate --size=%512 {}` fills up its last sector",
        path.display()
    )]
    Size {
        /// The name.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// This user may not.
    #[error(
        "Cannot open the disk image {path:?}: this user may not read and write it; let them, or give the disk with `,ro` if they may read it"
    )]
    Permission {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This user may not even read.
    #[error("Cannot open the disk image {path:?}: this user may not read it")]
    PermissionToRead {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody may write there.
    #[error(
        "Cannot open the disk image {path:?} for writing: its file system is read-only; give the disk with `,ro`"
    )]
    ReadOnlyFileSystem {
        /// The name.
        path: PathBuf,
    },
    /// Anything else that the system says.
    #[error("Cannot open the disk image {path:?}: see the cause")]
    Open {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `io_uring` alone was asked for, and the kernel refuses it.
    #[error("The kernel refuses io_uring for the disk image {path:?}: use the threads instead")]
    Ring {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No thread can be started.
    #[error("Cannot start a thread for the disk image {path:?}: is there a limit on processes?")]
    Thread {
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
