//! A file system with little room, for whoever wants a full disk.
//!
//! It is in a mount namespace of the calling thread, and of the processes that the thread starts: the kernel removes both with the last of them.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A small file system, until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts an empty file system with room for `kibibytes`, for this thread and the processes that it starts from now on. A thread does not come
    /// back from its namespace.
    ///
    /// # Panics
    /// If this is not root, or the kernel refuses.
    #[must_use]
    pub fn mount(kibibytes: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // SAFETY: NEWNS changes which files the thread's later system calls find under a path; no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("a mount namespace");
        // Nothing of this is seen outside.
        run(Command::new("mount").args(["--make-rprivate", "/"]));
        let size = format!("size={kibibytes}k");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path()));
        Self { folder }
    }

    /// Its root.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// So that its folder can be removed.
impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Where it fails an empty folder is left behind.
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("mount can be run");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
