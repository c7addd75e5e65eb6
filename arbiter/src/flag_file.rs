//! The state file on its disk: made once, locked, loaded, saved. Blocking.
//!
//! - **Making it.** A whole file is written under a name of its own, flushed, and then *linked* to
//!   its real name, which fails if that exists: of two processes that start at once one makes the
//!   file and both use it, and nobody ever sees half of it. `link` is atomic over NFS too, where
//!   `RENAME_NOREPLACE` and `O_TMPFILE` are not to be had.
//! - **Locking it.** With `flock`. It belongs to the open file and not to the process, so that two
//!   handles in one process exclude each other, and it ends with its holder, also by SIGKILL.
//!   Over NFS Linux turns it into a lock of the whole file at the server (flock(2), "NFS details";
//!   do not mount with `local_lock`). A host that lost touch for longer than its lease loses the
//!   lock, and then gets EIO for what it still writes (leave `nfs.recover_lost_locks` at its 0).
//!   Cluster file systems such as GFS2 and OCFS2 hold it cluster-wide. POSIX `fcntl` locks reach
//!   as far, but are lost when the process closes any other descriptor of the file.
//! - **Reading and writing it.** With O_DIRECT, so that what is read is what is on the shared disk
//!   and not what this host once cached. A file system that refuses O_DIRECT with EINVAL (tmpfs of
//!   older kernels, some of FUSE) is used through the page cache, with the same flushes: that is
//!   correct on one host, and on NFS, whose client drops its cache when it takes the lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::block::{BLOCK_BYTES, Blocks, FILE_BYTES};
use crate::core::{Identity, State};
use crate::deadline::Deadline;
use crate::error::{ArbiterError, file_address};

#[cfg(test)]
mod tests;

/// Between two looks at a lock that somebody else holds: at first, and at most.
const LOCK_PAUSE_FIRST: Duration = Duration::from_millis(1);
const LOCK_PAUSE_LONGEST: Duration = Duration::from_millis(8);

/// The state file, open and under this handle's exclusive lock until dropped.
#[derive(Debug)]
pub(crate) struct FlagFile<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> FlagFile<'a> {
    /// Opens the file, which must exist, and waits for its lock until `deadline`.
    ///
    /// The lock is polled for and not waited for: a claim whose deadline has passed must not be
    /// carried out whenever a stopped holder happens to go on.
    pub(crate) fn lock(path: &'a Path, deadline: Deadline) -> Result<Self, ArbiterError> {
        let file = open_existing(path)?;
        let mut pause = LOCK_PAUSE_FIRST;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, path }),
                Err(Errno::WOULDBLOCK) if deadline.has_passed() => {
                    return Err(ArbiterError::Unreachable {
                        address: file_address(path),
                        reason: "another process holds its lock".to_owned(),
                    });
                }
                Err(Errno::WOULDBLOCK) => {
                    std::thread::sleep(pause.min(deadline.left()));
                    pause = LOCK_PAUSE_LONGEST.min(pause * 2);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ArbiterError::state_file("lock", path, errno.into())),
            }
        }
    }

    /// The state in the file. Afterwards it is in both blocks, and on the disk.
    pub(crate) fn load(&self) -> Result<State, ArbiterError> {
        let length = self
            .file
            .metadata()
            .map_err(|e| self.error("examine", e))?
            .len();
        if length != FILE_BYTES as u64 {
            return Err(self.corrupt(format!("it has {length} bytes, not {FILE_BYTES}")));
        }
        let mut blocks = Blocks::zeroed();
        self.file
            .read_exact_at(blocks.as_bytes_mut(), 0)
            .map_err(|e| self.error("read", e))?;
        let contents = blocks.contents().map_err(|reason| self.corrupt(reason))?;
        if contents.stale.contains(&true) {
            self.flush()?;
            let whole = Blocks::holding(&contents.state);
            for (copy, _) in contents
                .stale
                .iter()
                .enumerate()
                .filter(|(_, stale)| **stale)
            {
                self.write_block(&whole, copy)?;
            }
        }
        Ok(contents.state)
    }

    /// Puts `state` in both blocks, one after the other; on the disk when this returns.
    pub(crate) fn save(&self, state: &State) -> Result<(), ArbiterError> {
        self.flush()?;
        let blocks = Blocks::holding(state);
        for copy in 0..blocks.0.len() {
            self.write_block(&blocks, copy)?;
        }
        Ok(())
    }

    fn write_block(&self, blocks: &Blocks, copy: usize) -> Result<(), ArbiterError> {
        let offset = copy * BLOCK_BYTES;
        self.file
            .write_all_at(&blocks.0[copy], offset as u64)
            .map_err(|e| self.error("write", e))?;
        self.flush()
    }

    /// Comes after each block, and before the first: a process that was killed may have left the
    /// other block on its way to the disk, and with two on the way the power can tear both.
    fn flush(&self) -> Result<(), ArbiterError> {
        self.file.sync_data().map_err(|e| self.error("flush", e))
    }

    fn error(&self, action: &'static str, source: io::Error) -> ArbiterError {
        ArbiterError::state_file(action, self.path, source)
    }

    fn corrupt(&self, reason: String) -> ArbiterError {
        let path = self.path.to_owned();
        ArbiterError::Corrupt { path, reason }
    }
}

/// Unlocks by name and not by closing, because a child that was just being forked may still hold
/// a copy of the descriptor, and with it the lock.
impl Drop for FlagFile<'_> {
    fn drop(&mut self) {
        // Failing that, closing the file does it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Makes the file, at term 0, unless it exists; its name is on the disk when this returns.
pub(crate) fn ensure_exists(path: &Path) -> Result<(), ArbiterError> {
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(ArbiterError::state_file("examine", path, error)),
    }
    // Also when somebody else made it: they may have been killed before they came to this.
    sync_directory(path).map_err(|e| ArbiterError::state_file("flush the directory of", path, e))
}

fn create(path: &Path) -> Result<(), ArbiterError> {
    let draft = draft_path(path)?;
    let linked = write_draft(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        // Somebody else was faster: their file is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // A draft that cannot be removed is harmless; the answer that counts is `linked`.
    let _ = fs::remove_file(&draft);
    linked.map_err(|error| ArbiterError::state_file("create", path, error))
}

fn write_draft(draft: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Not create_new: an open that O_DIRECT made fail may have made the file (open(2), "BUGS").
    options.write(true).create(true).truncate(true);
    let file = open_direct(&mut options, draft)?;
    for (copy, block) in Blocks::holding(&State::FRESH).0.iter().enumerate() {
        file.write_all_at(block, (copy * BLOCK_BYTES) as u64)?;
    }
    file.sync_all()
}

/// A name beside `path` that nobody else takes.
fn draft_path(path: &Path) -> Result<PathBuf, ArbiterError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", Identity::random()?));
    Ok(PathBuf::from(name))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(directory)?.sync_all() {
        // Some network file systems have nothing to flush in a directory, and say so.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        other => other,
    }
}

fn open_existing(path: &Path) -> Result<File, ArbiterError> {
    let file = match open_direct(OpenOptions::new().read(true).write(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(ArbiterError::Missing { path });
        }
        Err(error) => return Err(ArbiterError::state_file("open", path, error)),
    };
    let metadata = file
        .metadata()
        .map_err(|e| ArbiterError::state_file("examine", path, e))?;
    if !metadata.is_file() {
        // A device or a pipe may take locks, but not such that another host sees them.
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(ArbiterError::state_file("use", path, error));
    }
    Ok(file)
}

/// Opens with O_DIRECT, or without where the file system will not have it.
fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Flags are small and positive; NONBLOCK keeps a pipe or a device from holding us up.
    let flags = |flags: OFlags| flags.bits().cast_signed();
    let plain = OFlags::NOCTTY | OFlags::NONBLOCK;
    match options
        .custom_flags(flags(plain | OFlags::DIRECT))
        .open(path)
    {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            options.custom_flags(flags(plain)).open(path)
        }
        other => other,
    }
}
