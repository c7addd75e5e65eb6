//! A raw image: a file or a block device, locked for as long as it is open.
//!
//! The kernel lets go of the lock ([`lock`](crate::lock)) when the last reference to the open file
//! description is gone. A thread inside a write holds one, so that a process that was killed keeps
//! the lock until its writes have ended: whoever gets it next can rely on that.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::{Errno, retry_on_intr},
};

use crate::{
    DiskServerError, Storage,
    lock::{self, LockError},
};

/// Between two looks at a lock that somebody else holds.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Written at once where the file system cannot make zeroes itself.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// A raw image.
#[derive(Debug)]
pub struct Image {
    file: File,
    size_bytes: u64,
    /// A flush has failed: the kernel tells of lost pages once, and later flushes would lie.
    lost_writes: AtomicBool,
}

impl Image {
    /// Opens and locks the image at `path`: against all others, or with `read_only` against writers.
    /// Blocks, up to `patience` for a lock that somebody holds.
    ///
    /// # Errors
    /// If it cannot be opened, is no file or block device, or stays locked.
    pub fn open(path: &Path, read_only: bool, patience: Duration) -> Result<Self, DiskServerError> {
        let fail = |action, source| DiskServerError::Image {
            action,
            path: PathBuf::from(path),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .map_err(|error| fail("open", error))?;
        let kind = file.metadata().map_err(|error| fail("examine", error))?;
        if !kind.is_file() && !kind.file_type().is_block_device() {
            let error = io::Error::other("it is neither a file nor a block device");
            return Err(fail("use", error));
        }
        if !lock(&file, !read_only, patience).map_err(|error| fail("lock", error))? {
            let path = PathBuf::from(path);
            return Err(DiskServerError::Locked { path });
        }
        // A block device has no length in its metadata.
        let size_bytes = file
            .seek(SeekFrom::End(0))
            .map_err(|error| fail("measure", error))?;
        Ok(Self {
            file,
            size_bytes,
            lost_writes: AtomicBool::new(false),
        })
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let piece = (end - at).min(ZEROES.len() as u64);
            self.file.write_all_at(&ZEROES[..piece as usize], at)?;
            at += piece;
        }
        Ok(())
    }
}

impl Storage for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_exact_at(data, offset);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the image has become shorter since the server started",
            ),
            _ => error,
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn zero(&self, offset: u64, length: u64, keep_space: bool) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let flags = match keep_space {
            true => FallocateFlags::ZERO_RANGE,
            false => FallocateFlags::PUNCH_HOLE,
        } | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.file, flags, offset, length)) {
            Ok(()) => Ok(()),
            // File systems without either say the first, devices one of the others.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => {
                self.write_zeroes(offset, length)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        if self.lost_writes.load(Ordering::SeqCst) {
            return Err(io::Error::other(
                "an earlier flush failed, and what was written before it may be lost; restart the server to go on",
            ));
        }
        let flushed = self.file.sync_data();
        if flushed.is_err() {
            self.lost_writes.store(true, Ordering::SeqCst);
        }
        flushed
    }
}

/// Locks the whole file; gives whether the lock could be had within `patience`.
fn lock(file: &File, exclusive: bool, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match lock::lock(file, exclusive) {
            Ok(()) => return Ok(true),
            Err(LockError::Taken { .. }) if begun.elapsed() < patience => {
                // Of a server that was killed, and whose last writes are still on their way.
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(LockError::Taken { .. }) => return Ok(false),
            Err(LockError::Refused(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
