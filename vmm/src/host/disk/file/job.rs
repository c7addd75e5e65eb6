//! A request on its way: which system calls on the file it takes, one after the other.
//!
//! In: a request, then how each call ended. Out: [`Step`]s until there is none, then the outcome. Pure: whoever performs the steps, a thread
//! by a system call or the kernel's ring, performs the same ones. What always holds: a step's memory stays where it is until the job is dropped.
//!
//! ```text
//!          ┌──────────── ended(result) ◄────────────┐
//!          ▼                                        │
//!   new ─► next() ─ Some(step) ─► performed ────────┘      a short read or write: the rest is the next step
//!            └───── None ───────► outcome()
//!
//!   zeroes:  punch a hole ─ error ─► zero the range ─ error ─► write zeroes
//! ```

use std::ops::Range;

use rustix::{fs::FallocateFlags, io::Errno};

use super::buffer::{Buffer, Source};
use crate::effect::{DiskOperation, DiskRequest, SECTOR_BYTES};

/// The longest step. The kernel moves up to 2 GiB less a page at once (read(2)).
const STEP_BYTES: usize = 1 << 30;
/// How many zeroes are written at once, where the storage cannot make them itself.
const ZEROES_BYTES: u64 = 1 << 20;
/// How often in a row the system may ask for a step again, or do nothing of it.
const STALLS: u32 = 1000;

/// The file, as far as a job has to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Its size when it was opened.
    pub(super) bytes: u64,
    /// Whether it was opened with O_DIRECT: it is then read and written by whole sectors.
    pub(super) direct: bool,
    /// What memory must be a multiple of, a power of two up to 512.
    pub(super) memory_alignment: usize,
}

/// A system call. Its memory belongs to the job.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// pread(2).
    Read { at: u64, into: &'a mut [u8] },
    /// pwrite(2).
    Write { at: u64, from: &'a [u8] },
    /// fdatasync(2).
    Sync,
    /// fallocate(2).
    Allocate {
        mode: FallocateFlags,
        at: u64,
        bytes: u64,
    },
}

/// A request and how far it is.
#[derive(Debug)]
pub(super) struct Job {
    request: u64,
    name: &'static str,
    /// Bytes of the file. Of a flush, 0 to 1.
    range: Range<u64>,
    /// How much of `range` is done.
    done: u64,
    stalls: u32,
    work: Work,
    failure: Option<String>,
    shape: Shape,
}

#[derive(Debug)]
enum Work {
    Read(Buffer),
    Write(Source),
    Sync,
    /// PUNCH_HOLE: reads as zeroes afterwards, on block devices too.
    Punch,
    /// ZERO_RANGE.
    ZeroRange,
    Zeroes(Buffer),
}

/// Both ways of having zeroes leave the file's size alone.
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

impl Job {
    /// What `request` takes on a file of this shape.
    pub(super) fn new(request: DiskRequest, shape: Shape) -> Self {
        let range = request.operation.range().unwrap_or(0..1);
        let (name, is_flush) = match &request.operation {
            DiskOperation::Read { .. } => ("read", false),
            DiskOperation::Write { .. } => ("write", false),
            DiskOperation::Flush => ("flush", true),
            DiskOperation::Discard { .. } => ("discard", false),
            DiskOperation::WriteZeroes { .. } => ("clearing", false),
        };
        let fits =
            range.end <= shape.bytes && (range.end - range.start).is_multiple_of(SECTOR_BYTES);
        let mut job = Self {
            request: request.id,
            name,
            range,
            done: 0,
            stalls: 0,
            work: Work::Sync,
            failure: None,
            shape,
        };
        match is_flush || fits {
            true => job.work = Work::new(request.operation, shape.memory_alignment),
            false => job.refuse(format!(
                "these are no sectors of a disk of {} bytes",
                shape.bytes
            )),
        }
        job
    }

    /// Does nothing, and fails for this reason.
    pub(super) fn refuse(&mut self, why: impl Into<String>) {
        self.failure = Some(why.into());
    }

    /// The request's name.
    pub(super) fn request(&self) -> u64 {
        self.request
    }

    /// The next call, if anything is left to do.
    pub(super) fn next(&mut self) -> Option<Step<'_>> {
        let at = self.range.start + self.done;
        let bytes = self.range.end - at;
        if bytes == 0 || self.failure.is_some() {
            return None;
        }
        let length = usize::try_from(bytes).map_or(STEP_BYTES, |bytes| bytes.min(STEP_BYTES));
        // A buffer is as long as the range, so what was done of one is an index of the other.
        let start = usize::try_from(self.done).unwrap_or(usize::MAX);
        let step = match &mut self.work {
            Work::Read(buffer) => Step::Read {
                at,
                into: &mut buffer.bytes_mut()[start..][..length],
            },
            Work::Write(source) => Step::Write {
                at,
                from: &source.bytes()[start..][..length],
            },
            Work::Zeroes(zeroes) => Step::Write {
                at,
                from: &zeroes.bytes()[..length.min(zeroes.bytes().len())],
            },
            Work::Sync => Step::Sync,
            Work::Punch => Step::Allocate {
                mode: PUNCH,
                at,
                bytes,
            },
            Work::ZeroRange => Step::Allocate {
                mode: ZERO,
                at,
                bytes,
            },
        };
        Some(step)
    }

    /// The call that [`Self::next`] asked for has ended: with the bytes that it moved, if it moves any.
    pub(super) fn ended(&mut self, result: Result<usize, Errno>) {
        match result {
            Ok(bytes) => self.advance(bytes),
            Err(errno @ (Errno::INTR | Errno::AGAIN)) => self.stall(&in_words(errno)),
            Err(errno) => self.fall_back(errno),
        }
    }

    /// Nothing is left to do: what was read, or why it failed.
    pub(super) fn outcome(self) -> Result<Vec<u8>, String> {
        match (self.failure, self.work) {
            (Some(failure), _) => Err(failure),
            (None, Work::Read(buffer)) => Ok(buffer.into_vec()),
            (None, _) => Ok(Vec::new()),
        }
    }

    /// Whether it is to have writes last.
    pub(super) fn is_flush(&self) -> bool {
        self.name == "flush"
    }

    /// What was tried, for the user.
    pub(super) fn describe(&self) -> String {
        let Self { name, range, .. } = self;
        match self.name {
            "flush" => "a flush".into(),
            _ => format!(
                "a {name} of {} bytes at byte {}",
                range.end - range.start,
                range.start
            ),
        }
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        // A direct transfer goes on at a sector, whatever part of it was done.
        let usable = match self.shape.direct {
            true => bytes - bytes % SECTOR_BYTES,
            false => bytes,
        };
        match (&self.work, usable) {
            (Work::Sync | Work::Punch | Work::ZeroRange, _) => {
                self.done = self.range.end - self.range.start;
            }
            (Work::Read(_), 0) => self.refuse(format!(
                "the image is shorter than {} bytes",
                self.shape.bytes
            )),
            (Work::Write(_) | Work::Zeroes(_), 0) => self.stall("the system writes nothing"),
            (_, usable) => {
                self.done += usable;
                self.stalls = 0;
            }
        }
    }

    /// The step is tried again, but not for ever.
    fn stall(&mut self, why: &str) {
        self.stalls += 1;
        if self.stalls > STALLS {
            self.refuse(why);
        }
    }

    /// Not every file system and device can make zeroes by itself, and each says so in its own way; all can be written to, and say then what is really wrong.
    fn fall_back(&mut self, errno: Errno) {
        match self.work {
            Work::Punch => self.work = Work::ZeroRange,
            Work::ZeroRange => {
                let bytes = (self.range.end - self.range.start).min(ZEROES_BYTES);
                let zeroes = Buffer::zeroed(bytes as usize, self.shape.memory_alignment);
                self.work = Work::Zeroes(zeroes);
            }
            _ => self.refuse(in_words(errno)),
        }
    }
}

impl Work {
    fn new(operation: DiskOperation, alignment: usize) -> Self {
        match operation {
            DiskOperation::Read { bytes, .. } => {
                Self::Read(Buffer::zeroed(bytes as usize, alignment))
            }
            DiskOperation::Write { data, .. } => Self::Write(Source::new(data, alignment)),
            DiskOperation::Flush => Self::Sync,
            DiskOperation::Discard { .. } | DiskOperation::WriteZeroes { unmap: true, .. } => {
                Self::Punch
            }
            DiskOperation::WriteZeroes { unmap: false, .. } => Self::ZeroRange,
        }
    }
}

fn in_words(errno: Errno) -> String {
    match errno {
        Errno::NOSPC => "no space left on the host's disk".into(),
        Errno::DQUOT => "no space left in the user's quota on the host's disk".into(),
        _ => std::io::Error::from(errno).to_string(),
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
