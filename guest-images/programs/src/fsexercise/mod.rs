//! A stock exercise of a file system: made on the disk, filled from an archive, synced, unmounted, mounted, compared.
//!
//! ```text
//! lockstep: fsexercise: built
//! lockstep: fsexercise: unpacked 50 files
//! …
//! lockstep: fsexercise: synced
//! lockstep: fsexercise: compared 300 files: equal, checksum 0b1c2d3e
//! ```
//!
//! What was on the disk is lost. `lockstep.fsexercise=FILES` says how many files, 300 without it; their sum is some 17 KiB for each.

mod files;
mod mkfs;
mod ustar;

use std::fs::{File, OpenOptions};
use std::io::{Error, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use self::files::Archive;
use self::mkfs::Piece;
use crate::command_line;
use crate::console::say;
use crate::disk;

/// How many files there are if the command line does not say it.
const FILES: u32 = 300;
/// Files between two lines that tell how far it is.
const PROGRESS_FILES: u32 = 50;
/// What file systems put into their root themselves.
const OWN: &str = "lost+found";

/// Runs all of it and says what came out.
pub fn run(command_line: &str) {
    if let Err(error) = exercise(command_line) {
        say(&format!("fsexercise FAILED: {error}"));
    }
}

fn exercise(command_line: &str) -> Result<(), Error> {
    let files = match command_line::value(command_line, "lockstep.fsexercise=") {
        Some(text) => text.parse().map_err(Error::other)?,
        None => FILES,
    };
    let device = disk::device(command_line);
    build(device)?;
    say("fsexercise: built");
    disk::mount(device)?;
    let folder = Path::new(disk::MOUNT_POINT);
    unpack(folder, files)?;
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::sync() };
    say("fsexercise: synced");
    // So that what is compared comes from the disk.
    disk::unmount()?;
    disk::mount(device)?;
    let checksum = compare(folder, files)?;
    disk::unmount()?;
    say(&format!(
        "fsexercise: compared {files} files: equal, checksum {checksum:08x}"
    ));
    Ok(())
}

/// Makes an empty file system on `device`.
fn build(device: &str) -> Result<(), Error> {
    let mut device = OpenOptions::new().read(true).write(true).open(device)?;
    let bytes = device.seek(SeekFrom::End(0))?;
    let pieces = mkfs::ext4(bytes)
        .ok_or_else(|| Error::other(format!("a disk of {bytes} bytes is too small")))?;
    for piece in pieces {
        match piece {
            Piece::Bytes { at, bytes } => device.write_all_at(&bytes, at)?,
            Piece::Zeroes { at, bytes } => write_zeroes(&device, at, bytes)?,
        }
    }
    device.sync_all()
}

fn write_zeroes(device: &File, at: u64, bytes: u64) -> Result<(), Error> {
    let zeroes = [0; 16 * mkfs::BLOCK_BYTES as usize];
    let mut done = 0;
    while done < bytes {
        let length = zeroes.len().min((bytes - done) as usize);
        device.write_all_at(&zeroes[..length], at + done)?;
        done += length as u64;
    }
    Ok(())
}

fn unpack(folder: &Path, files: u32) -> Result<(), Error> {
    let mut archive = Archive::new(files);
    let mut unpacked = 0;
    while let Some(member) = ustar::unpack(&mut archive)? {
        let path = folder.join(&member.name);
        let Some(contents) = member.contents else {
            std::fs::create_dir(path)?;
            continue;
        };
        std::fs::write(path, contents)?;
        unpacked += 1;
        if unpacked % PROGRESS_FILES == 0 || unpacked == files {
            say(&format!("fsexercise: unpacked {unpacked} files"));
        }
    }
    Ok(())
}

/// Compares every file with what it should be, and their number. Returns a checksum over all of them.
fn compare(folder: &Path, files: u32) -> Result<u32, Error> {
    let mut checksum = crc32fast::Hasher::new();
    for number in 0..files {
        let name = files::name(number);
        let found = std::fs::read(folder.join(&name))?;
        if found != files::contents(number) {
            return Err(Error::other(format!("{name} is not what was unpacked")));
        }
        checksum.update(&found);
    }
    let found = count(folder)?;
    if found != files {
        return Err(Error::other(format!(
            "there are {found} files, not {files}"
        )));
    }
    Ok(checksum.finalize())
}

fn count(folder: &Path) -> Result<u32, Error> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files += 1;
        } else if entry.file_name() != OWN {
            files += count(&entry.path())?;
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_compares_equal_and_damage_is_found() {
        let folder = std::env::temp_dir().join(format!("fsexercise-{}", std::process::id()));
        std::fs::create_dir_all(folder.join(OWN)).expect("a folder");
        unpack(&folder, 60).expect("unpacked");
        compare(&folder, 60).expect("equal");
        std::fs::write(folder.join("more"), "").expect("written");
        let error = compare(&folder, 60).expect_err("one too many");
        assert!(error.to_string().contains("61 files"), "{error}");
        std::fs::write(folder.join(files::name(41)), "damage").expect("written");
        let error = compare(&folder, 60).expect_err("damaged");
        assert!(error.to_string().contains("f00041"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_file_system_is_built_on_what_was_there() {
        let path = std::env::temp_dir().join(format!("fsexercise-{}.image", std::process::id()));
        std::fs::write(&path, vec![0xA5; 20 << 20]).expect("written");
        build(path.to_str().expect("text")).expect("built");
        let output = std::process::Command::new("e2fsck")
            .arg("-fn")
            .arg(&path)
            .output();
        let output = output.expect("e2fsprogs is installed");
        std::fs::remove_file(&path).expect("removed");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
    }
}
