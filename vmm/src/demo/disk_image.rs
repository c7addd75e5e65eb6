//! Images of the guest's disk, by Debian's e2fsprogs: made with a file system, checked, and the journal taken out of them.
//!
//! No machine may run on an image meanwhile. Nothing here mounts anything, so it needs no root.

use std::{
    fs::File,
    path::Path,
    process::{Command, Output},
};

use super::DemoError;

/// A file system that the guest's kernel can mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// Without a journal of its own: clean only after a shutdown.
    Ext2,
    /// With one: what a crash leaves is repaired when it is mounted.
    Ext4,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext4 => "ext4",
        }
    }
}

/// Makes a sparse image of `bytes` with an empty file system, in place of what was at `image`.
///
/// # Errors
/// If the file cannot be made, or e2fsprogs is missing or fails.
pub fn make(image: &Path, file_system: FileSystem, bytes: u64) -> Result<(), DemoError> {
    File::create(image)
        .and_then(|file| file.set_len(bytes))
        .map_err(|source| DemoError::File {
            doing: "make the disk's image",
            path: image.to_owned(),
            source,
        })?;
    let output = run("mke2fs", &["-q", "-F", "-t", file_system.name()], image)?;
    succeeded("make a file system on", image, &output)
}

/// Whether the file system is clean and whole: `e2fsck -fn` has nothing to say against it. It changes nothing, repairs nothing, and
/// takes a file system whose own journal is not empty for one that is not clean.
///
/// # Errors
/// [`DemoError::Image`] with what it found; or e2fsprogs is missing.
pub fn check(image: &Path) -> Result<(), DemoError> {
    let output = run("e2fsck", &["-fn"], image)?;
    succeeded("find the file system clean on", image, &output)
}

/// Repairs, as a guest's mount would: applies the file system's own journal.
///
/// # Errors
/// [`DemoError::Image`] if anything but that was to be repaired; or e2fsprogs is missing.
pub fn recover(image: &Path) -> Result<(), DemoError> {
    let output = run("e2fsck", &["-p"], image)?;
    // 1: errors were corrected, which an applied journal is (e2fsck(8)).
    if output.status.code() == Some(1) {
        return check(image);
    }
    succeeded("recover the file system on", image, &output)
}

/// The bytes of `journald`'s journal; empty if there is none.
///
/// # Errors
/// If e2fsprogs is missing or fails, or what it wrote cannot be read.
pub fn journal(image: &Path) -> Result<Vec<u8>, DemoError> {
    let failed = |source| DemoError::File {
        doing: "read the journal that was taken from",
        path: image.to_owned(),
        source,
    };
    let copy = tempfile::NamedTempFile::new().map_err(failed)?;
    let request = format!("dump /journal {}", copy.path().display());
    let output = run("debugfs", &["-R", &request], image)?;
    succeeded("take the journal from", image, &output)?;
    std::fs::read(copy.path()).map_err(failed)
}

/// Finds out whether e2fsprogs is installed.
///
/// # Errors
/// [`DemoError::NoFileSystemProgram`].
pub fn expect_programs() -> Result<(), DemoError> {
    for program in ["mke2fs", "e2fsck", "debugfs"] {
        let tried = Command::new(program).arg("-V").output();
        tried.map_err(|source| DemoError::NoFileSystemProgram { program, source })?;
    }
    Ok(())
}

fn run(program: &'static str, arguments: &[&str], image: &Path) -> Result<Output, DemoError> {
    Command::new(program)
        .args(arguments)
        .arg(image)
        .output()
        .map_err(|source| DemoError::NoFileSystemProgram { program, source })
}

fn succeeded(doing: &'static str, image: &Path, output: &Output) -> Result<(), DemoError> {
    if output.status.success() {
        return Ok(());
    }
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    Err(DemoError::Image {
        doing,
        image: image.to_owned(),
        said: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 8 << 20;

    #[test]
    fn an_image_is_made_and_found_clean() {
        expect_programs().expect("e2fsprogs is installed");
        let folder = tempfile::tempdir().expect("a folder");
        for file_system in [FileSystem::Ext2, FileSystem::Ext4] {
            let image = folder.path().join(file_system.name());
            make(&image, file_system, BYTES).expect("made");
            check(&image).expect("clean");
            recover(&image).expect("nothing to do");
            assert_eq!(journal(&image).expect("readable"), b"");
        }
    }

    #[test]
    fn a_damaged_file_system_is_not_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        make(&image, FileSystem::Ext2, BYTES).expect("made");
        let request = "set_inode_field <2> links_count 9";
        let output = run("debugfs", &["-w", "-R", request], &image).expect("run");
        succeeded("damage", &image, &output).expect("damaged");
        let error = check(&image).expect_err("damaged");
        assert!(error.to_string().contains("ref count is 9"), "{error}");
    }

    #[test]
    fn the_journal_is_taken_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, source) = (folder.path().join("image"), folder.path().join("source"));
        make(&image, FileSystem::Ext4, BYTES).expect("made");
        std::fs::write(&source, b"what journald wrote").expect("written");
        let request = format!("write {} journal", source.display());
        let output = run("debugfs", &["-w", "-R", &request], &image).expect("run");
        succeeded("write to", &image, &output).expect("written");
        assert_eq!(journal(&image).expect("readable"), b"what journald wrote");
    }
}
