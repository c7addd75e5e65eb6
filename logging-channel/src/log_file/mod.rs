//! Log files: what a recorder, a primary or a backup keeps of a guest's course.
//!
//! In: entries. Out: files, and the same entries again. A log is a file, or several that follow each other: *segments* `FILE`, `FILE.1`,
//! `FILE.2`, …. Each begins with a [`LogHeader`] and has frames with the compact form of entries ([`crate::codec`]),
//! compressed as one zstd stream. `docs/log-format.md` describes every byte.
//!
//! A log that ends inside a frame has a *torn tail*: everything before it is good, and the reader says where it ends.

mod compression;
mod cut;
mod files;
mod header;
mod images;
mod keeper;
mod reader;
mod segment;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::CodecError;

pub use cut::{Cut, cut_torn_tail};
pub use files::segment_path;
pub use header::{Image, ImageKind, Keeper, LogHeader, LogOptions, MAX_IMAGE_BYTES};
pub use keeper::{KEEPER_QUEUE_BYTES, LogKeeper};
pub use reader::{LogReader, Place};
pub use writer::LogWriter;

/// Why a log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file failed.
    #[error("Cannot {doing} the log file {path}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A value is too large to be recorded.
    #[error("Cannot record an entry")]
    Encode(#[source] CodecError),
    /// A write failed before: what follows would not be readable.
    #[error("Log {file} has ended at an earlier error", file = file.display())]
    Ended {
        /// The log.
        file: PathBuf,
    },
    /// Bytes inside the log are damaged, or it is no log at all.
    #[error("Log {file} is damaged at byte {offset}, after entry {last_entry}", file = file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the damaged frame begins.
        offset: u64,
        /// The last good entry, 0 if there is none.
        last_entry: u64,
        /// What is wrong there.
        source: CodecError,
    },
    /// The log ends in the middle of a frame.
    #[error(
        "Log {file} is torn at byte {offset}: {bytes} bytes of an unfinished frame follow entry {last_entry}",
        file = file.display()
    )]
    Torn {
        /// The segment.
        file: PathBuf,
        /// Where the unfinished frame begins.
        offset: u64,
        /// How much of it there is.
        bytes: u64,
        /// The last good entry, 0 if there is none.
        last_entry: u64,
    },
    /// The log ends within its first frame.
    #[error(
        "Log {file} ends within its header, after {bytes} bytes: it was cut before anything was recorded",
        file = file.display()
    )]
    NoHeader {
        /// The first segment.
        file: PathBuf,
        /// How much of the header there is.
        bytes: u64,
    },
    /// A good frame that has no place in a log, or not there.
    #[error("Log {file} has {found} at byte {offset} instead of {expected}", file = file.display())]
    Unexpected {
        /// The segment.
        file: PathBuf,
        /// Where the frame begins or ends.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The log goes on in a file that is not there.
    #[error(
        "Log goes on after entry {last_entry} in {file}, which is not there: keep all segments of a log together",
        file = file.display()
    )]
    MissingSegment {
        /// The missing segment.
        file: PathBuf,
        /// The last good entry before it.
        last_entry: u64,
    },
    /// The next segment belongs elsewhere.
    #[error(
        "{file} does not go on with this log after entry {last_entry}: it is a segment of another log, or from another place",
        file = file.display()
    )]
    ForeignSegment {
        /// The segment.
        file: PathBuf,
        /// The last good entry before it.
        last_entry: u64,
    },
    /// A new log would have to overwrite what is no log.
    #[error(
        "{file} has the name of a segment of this log and is none: move it away, or name the log differently",
        file = file.display()
    )]
    InTheWay {
        /// The file.
        file: PathBuf,
    },
    /// More entries came than the file could take: see [`LogKeeper`].
    #[error(
        "Log ends before entry {first_lost}: {bytes} bytes wait to be written, its disk is too slow"
    )]
    TooSlow {
        /// What waited then.
        bytes: u64,
        /// The first entry that the log does not have.
        first_lost: u64,
    },
    /// An image is not what it should be.
    #[error("The {kind} of {bytes} bytes is not the one that the log's identity names")]
    Image {
        /// Which.
        kind: ImageKind,
        /// Its size.
        bytes: u64,
    },
}

impl LogError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
