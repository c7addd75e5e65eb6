//! A disk on a raw image file or a block device.
//!
//! In: [`DiskRequest`]s, from any thread. Out: their completions, to the sink, in any order. What flows where:
//!
//! ```text
//!   submit ─► Requests::admit ─► Job ─► threads or ring ─► steps: pread, pwrite, fdatasync, fallocate
//!               counted, or        (the same steps, whoever performs them)          │
//!               refused                                                             ▼
//!   sink ◄──────────────────────────── Requests::complete ◄──────────── the job's outcome
//! ```
//!
//! What always holds:
//! - Opening locks nothing and changes nothing: a backup opens the image that its primary uses. Nothing is written before a [`Grant`] allows it, and once
//!   [`Grant::ReadOnly`] was given back nothing is being written any more.
//! - A flush covers every write that had *completed* when it was submitted (fdatasync(2)). Nothing else is ordered: the machine's disks submit no two
//!   requests at once that conflict.
//! - What was discarded or cleared reads as zeroes. Where the storage cannot do that by itself, zeroes are written.
//! - Each completion is delivered once, on the disk's own threads. A failure is told first, as a [`super::DiskEvent`].
//!
//! The host's page cache is left out (O_DIRECT) where the storage allows single sectors to be read and written so. Where it does not, pages that this
//! host read before another host wrote may be stale: they are dropped when the disk is granted, but a disk that two *hosts* use should be one
//! that is [direct](Access::direct).
//!
//! The lock that [`FileDisk::grant`] takes keeps two machines of *one* host apart (and those of several, on file systems that share locks). It is
//! no fence: between hosts, plain files are for tests and for storage that fences by itself.

mod buffer;
mod error;
mod job;
mod open;
mod requests;
mod ring;
mod threads;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use disk_server::lock::{self, LockError};
use rustix::fs::{Advice, fadvise};

pub use self::error::DiskOpenError;
use self::{
    job::{Job, Shape},
    requests::{Admitted, Requests},
    ring::Ring,
    threads::Pool,
};
use super::{DiskSink, Grant, HostDisk};
use crate::effect::{DiskOperation, DiskRequest, SECTOR_BYTES};

/// How an image is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// Changes are refused, and the image need not be writable.
    pub read_only: bool,
    /// Whether the host's page cache is used.
    pub direct: Direct,
    /// What becomes of a grant while somebody else has the image locked.
    pub lock: LockPolicy,
    /// Who performs the requests.
    pub backend: Backend,
}

/// Whether the host's page cache is left out (O_DIRECT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// Where the storage allows.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What becomes of a grant while somebody else has the image locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockPolicy {
    /// It is refused.
    #[default]
    Must,
    /// It is given all the same: for a backup that has won against a primary that was perhaps only stopped, and may still have the lock.
    Try,
}

/// Who performs requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The ring, and where the kernel refuses it the threads.
    #[default]
    Auto,
    /// `io_uring`.
    Ring,
    /// Threads that make system calls.
    Threads,
}

/// How an image is in fact used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Without the host's page cache.
    pub direct: bool,
    /// By whom: never [`Backend::Auto`].
    pub backend: Backend,
}

/// A disk on a file. See the module's documentation.
pub struct FileDisk {
    performer: Performer,
    file: Arc<File>,
    shape: Shape,
    requests: Arc<Requests>,
    path: PathBuf,
    options: FileOptions,
    /// Whether the disk may be changed: one grant at a time.
    granted: Mutex<bool>,
}

enum Performer {
    Ring(Ring),
    Threads(Pool),
}

impl FileDisk {
    /// Opens the image at `path` as disk number `disk` and starts its threads. The image is not changed and not locked.
    ///
    /// # Errors
    ///
    /// [`DiskOpenError`]: it is not there, no disk, of no whole sectors, or may not be used.
    pub fn open(
        disk: u8,
        path: &Path,
        options: FileOptions,
        sink: Arc<dyn DiskSink>,
    ) -> Result<Self, DiskOpenError> {
        let (file, shape) = open::open(path, options)?;
        let file = Arc::new(file);
        let place = path.display().to_string();
        let requests = Arc::new(Requests::new(disk, place, sink));
        let performer = Performer::start(path, options.backend, &file, &requests)?;
        Ok(Self {
            performer,
            file,
            shape,
            requests,
            path: path.into(),
            options,
            granted: Mutex::new(false),
        })
    }

    /// How the image is in fact used.
    #[must_use]
    pub fn access(&self) -> Access {
        let backend = match self.performer {
            Performer::Ring(_) => Backend::Ring,
            Performer::Threads(_) => Backend::Threads,
        };
        Access {
            direct: self.shape.direct,
            backend,
        }
    }

    /// A read-only disk is shared with others that only read it.
    fn take(&self) -> Result<(), String> {
        match (
            lock::lock(&self.file, !self.options.read_only),
            self.options.lock,
        ) {
            (Ok(()), _) | (Err(_), LockPolicy::Try) => {}
            (Err(error), LockPolicy::Must) => return Err(self.in_words(&error)),
        }
        if !self.shape.direct {
            // What this host has cached may be older than what another one wrote. Only advice: see the module's documentation.
            let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        }
        if !self.options.read_only {
            self.requests.allow_changes();
        }
        Ok(())
    }

    fn give_back(&self) -> Result<(), String> {
        self.requests.forbid_changes();
        lock::unlock(&self.file)
            .map_err(|error| format!("Cannot unlock {}: {error}", self.path.display()))
    }

    fn in_words(&self, error: &LockError) -> String {
        let path = self.path.display();
        match error {
            LockError::Taken { pid: Some(pid) } => format!(
                "{path} is locked by another process (pid {pid}): is it another machine's disk?"
            ),
            LockError::Taken { pid: None } => {
                format!("{path} is locked by another process: is it another machine's disk?")
            }
            LockError::Refused(error) => format!(
                "Cannot lock {path}, so another machine could use it at the same time: {error}"
            ),
        }
    }
}

impl HostDisk for FileDisk {
    fn sectors(&self) -> u64 {
        self.shape.bytes / SECTOR_BYTES
    }

    fn submit(&self, request: DiskRequest) {
        let changes = matches!(
            request.operation,
            DiskOperation::Write { .. }
                | DiskOperation::Discard { .. }
                | DiskOperation::WriteZeroes { .. }
        );
        let job = Job::new(request, self.shape);
        let admitted = self.requests.admit(job, changes);
        self.performer.submit(admitted);
    }

    fn grant(&self, grant: Grant) -> Result<(), String> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = grant != Grant::ReadOnly;
        match (*granted, wanted) {
            (false, true) => self.take()?,
            (true, false) => self.give_back()?,
            // The file asks for no name and no term.
            (false, false) | (true, true) => {}
        }
        *granted = wanted;
        Ok(())
    }

    fn settle(&self) {
        self.requests.settle();
    }
}

impl Performer {
    fn start(
        path: &Path,
        backend: Backend,
        file: &Arc<File>,
        requests: &Arc<Requests>,
    ) -> Result<Self, DiskOpenError> {
        let path = path.to_owned();
        if backend != Backend::Threads {
            match (Ring::start(file, requests), backend) {
                (Ok(ring), _) => return Ok(Self::Ring(ring)),
                (Err(source), Backend::Ring) => return Err(DiskOpenError::Ring { path, source }),
                // An old kernel, or one that was told to refuse: sysctl, seccomp, a limit on locked memory.
                (Err(_), _) => {}
            }
        }
        match Pool::start(file, requests) {
            Ok(pool) => Ok(Self::Threads(pool)),
            Err(source) => Err(DiskOpenError::Thread { path, source }),
        }
    }

    fn submit(&self, admitted: Admitted) {
        match self {
            Self::Ring(ring) => ring.submit(admitted),
            Self::Threads(pool) => pool.submit(admitted),
        }
    }
}

#[cfg(test)]
mod tests;
