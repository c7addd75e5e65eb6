//! The lock on an image, by which the machines and servers of one host keep off each other's disks.
//!
//! It is an open file description lock (fcntl_locking(2)) on the whole file: it conflicts with every lock on any part of it by anybody else,
//! other virtual machine monitors' locks on single bytes included, and ends with the description: when the process is gone *and* what it had under way in the
//! kernel has ended.

use std::{fs::File, io, os::fd::AsRawFd};

/// Why the lock was not to be had.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else has it: the process, where the kernel tells.
    Taken {
        /// Which process.
        pid: Option<i32>,
    },
    /// The file system's answer.
    Refused(io::Error),
}

/// Takes the whole of `file`: for this description alone, or shared with others that only read. A lock that it has already is changed into this one.
///
/// # Errors
/// See [`LockError`].
pub fn lock(file: &File, exclusive: bool) -> Result<(), LockError> {
    let kind = match exclusive {
        true => libc::F_WRLCK,
        false => libc::F_RDLCK,
    };
    let mut whole = whole_file(kind);
    let Err(error) = control(file, libc::F_OFD_SETLK, &mut whole) else {
        return Ok(());
    };
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Err(LockError::Taken {
            pid: holder(file, kind),
        }),
        _ => Err(LockError::Refused(error)),
    }
}

/// Lets go.
///
/// # Errors
/// The file system's answer.
pub fn unlock(file: &File) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, &mut whole_file(libc::F_UNLCK))
}

/// The process that has a conflicting lock. Locks of open file descriptions belong to no process: the kernel says -1.
fn holder(file: &File, kind: libc::c_int) -> Option<i32> {
    let mut answer = whole_file(kind);
    control(file, libc::F_OFD_GETLK, &mut answer).ok()?;
    let taken = libc::c_int::from(answer.l_type) != libc::F_UNLCK;
    (taken && answer.l_pid > 0).then_some(answer.l_pid)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        // To the end, however far the file grows.
        l_len: 0,
        // Must be 0 for these commands.
        l_pid: 0,
    }
}

fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    debug_assert!([libc::F_OFD_SETLK, libc::F_OFD_GETLK].contains(&command));
    // SAFETY: both commands read and at most rewrite one `struct flock`, which outlives the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
