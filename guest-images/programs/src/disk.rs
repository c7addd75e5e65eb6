//! The guest's disk: which device, what is on it, mounted and unmounted.

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;

use crate::command_line;

/// Where the disk's file system is mounted.
pub const MOUNT_POINT: &str = "/disk";

/// The first virtio-blk device, as the kernel names it.
const FIRST_DISK: &str = "/dev/vda";
/// Two bytes that every ext2, ext3 and ext4 has: `s_magic`, 56 bytes into the superblock, which is 1024 bytes into the device.
const MAGIC_AT: u64 = 1024 + 56;
const MAGIC: [u8; 2] = 0xEF53_u16.to_le_bytes();
/// A file system with an error takes no more writes. (Ordered data is what ext4 does with a journal; asking for it is refused
/// without one.) Nothing but what clients ask for is written: no access times, no inode tables in the background.
const OPTIONS: &str = "errors=remount-ro,noinit_itable";

/// The device that `lockstep.disk=` names, without it the first disk.
pub fn device(command_line: &str) -> &str {
    command_line::value(command_line, "lockstep.disk=").unwrap_or(FIRST_DISK)
}

/// Whether ext2, ext3 or ext4 is on `device`.
pub fn carries_ext(device: &str) -> Result<bool, Error> {
    let mut magic = [0; MAGIC.len()];
    File::open(device)?.read_exact_at(&mut magic, MAGIC_AT)?;
    Ok(magic == MAGIC)
}

/// Mounts what is on `device`; the kernel's ext4 serves ext2 too, and repairs by its journal what a crash left.
pub fn mount(device: &str) -> Result<(), Error> {
    let (source, target) = (CString::new(device)?, CString::new(MOUNT_POINT)?);
    let options = CString::new(OPTIONS)?;
    // SAFETY: all of them are strings that outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            c"ext4".as_ptr(),
            libc::MS_NOATIME,
            options.as_ptr().cast(),
        )
    };
    outcome(result)
}

/// Unmounts it: everything is on the disk then, and the file system marked clean.
pub fn unmount() -> Result<(), Error> {
    let target = CString::new(MOUNT_POINT)?;
    // SAFETY: a string that outlives the call.
    outcome(unsafe { libc::umount(target.as_ptr()) })
}

fn outcome(result: libc::c_int) -> Result<(), Error> {
    if result == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_can_be_named() {
        assert_eq!(device("quiet"), "/dev/vda");
        assert_eq!(device("lockstep.disk=/dev/vdb quiet"), "/dev/vdb");
    }
}
