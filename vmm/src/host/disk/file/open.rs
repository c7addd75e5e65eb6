//! Opening an image: what it is, how large, and whether it can be used without the host's page cache. Changes nothing and takes no lock.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustix::{
    fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, statx},
    io::Errno,
};

use super::{Direct, DiskOpenError, FileOptions, buffer::Buffer, job::Shape};
use crate::effect::SECTOR_BYTES;

const SECTOR: usize = SECTOR_BYTES as usize;

/// Opens the image at `path`.
pub(super) fn open(path: &Path, options: FileOptions) -> Result<(File, Shape), DiskOpenError> {
    let failed = |source| open_error(path, options.read_only, source);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    check_kind(path, &fs::metadata(path).map_err(failed)?)?;
    let file = OpenOptions::new()
        .read(true)
        .write(!options.read_only)
        .open(path)
        .map_err(failed)?;
    // Of block devices too, whose metadata say 0.
    let bytes = (&file).seek(SeekFrom::End(0)).map_err(failed)?;
    check_size(path, bytes)?;
    let buffered = Shape {
        bytes,
        direct: false,
        memory_alignment: 1,
    };
    let shape = match options.direct {
        Direct::Auto => try_direct(&file, bytes).unwrap_or(buffered),
        Direct::Off => buffered,
    };
    Ok((file, shape))
}

fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), DiskOpenError> {
    let kind = metadata.file_type();
    let other = match kind {
        _ if kind.is_file() || kind.is_block_device() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_char_device() => "a character device",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "something else",
    };
    Err(DiskOpenError::NotADisk {
        path: path.into(),
        kind: other,
    })
}

fn check_size(path: &Path, bytes: u64) -> Result<(), DiskOpenError> {
    let path = path.to_owned();
    match bytes {
        0 => Err(DiskOpenError::Empty { path }),
        _ if bytes.is_multiple_of(SECTOR_BYTES) => Ok(()),
        _ => Err(DiskOpenError::Size { path, bytes }),
    }
}

fn open_error(path: &Path, read_only: bool, source: io::Error) -> DiskOpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => DiskOpenError::NotFound { path },
        io::ErrorKind::PermissionDenied if read_only => {
            DiskOpenError::PermissionToRead { path, source }
        }
        io::ErrorKind::PermissionDenied => DiskOpenError::Permission { path, source },
        io::ErrorKind::ReadOnlyFilesystem => DiskOpenError::ReadOnlyFileSystem { path },
        _ => DiskOpenError::Open { path, source },
    }
}

/// Switches the file to O_DIRECT, if it can then be read and written by single sectors. Storage with larger blocks (4096 bytes) cannot, and some file systems know no O_DIRECT.
fn try_direct(file: &File, bytes: u64) -> Option<Shape> {
    let memory_alignment = memory_alignment(file)?;
    let flags = fcntl_getfl(file).ok()?;
    fcntl_setfl(file, flags | OFlags::DIRECT).ok()?;
    if probe(file, bytes, memory_alignment).is_err() {
        fcntl_setfl(file, flags).ok()?;
        return None;
    }
    Some(Shape {
        bytes,
        direct: true,
        memory_alignment,
    })
}

/// What statx(2) says that memory must be a multiple of; a sector, where it (an old kernel, some file systems) says nothing. `None` if single sectors cannot be had.
fn memory_alignment(file: &File) -> Option<usize> {
    let Ok(found) = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Some(SECTOR);
    };
    if found.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Some(SECTOR);
    }
    let memory = found.stx_dio_mem_align as usize;
    let offset = found.stx_dio_offset_align as usize;
    let fits = |alignment: usize| alignment.is_power_of_two() && alignment <= SECTOR;
    (fits(memory) && fits(offset)).then_some(memory)
}

/// Reads one sector, at an odd one if there is any.
fn probe(file: &File, bytes: u64, alignment: usize) -> Result<(), Errno> {
    let at = match bytes {
        SECTOR_BYTES => 0,
        _ => SECTOR_BYTES,
    };
    let mut sector = Buffer::zeroed(SECTOR, alignment);
    rustix::io::retry_on_intr(|| rustix::io::pread(file, sector.bytes_mut(), at))?;
    Ok(())
}
