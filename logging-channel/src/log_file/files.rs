//! The names of a log's segments, and which of them are there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::LogError;
use crate::codec::frame::FILE_MAGIC;

/// The file of a log's segment: `FILE`, `FILE.1`, `FILE.2`, ….
#[must_use]
pub fn segment_path(log: &Path, segment: u32) -> PathBuf {
    if segment == 0 {
        return log.to_owned();
    }
    let mut name = OsString::from(log);
    name.push(format!(".{segment}"));
    name.into()
}

/// The numbers of the segments after the first that are there, in order.
pub(super) fn later_segments(log: &Path) -> Result<Vec<u32>, LogError> {
    let folder = match log.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let listing = fs::read_dir(folder).map_err(LogError::io("list", folder))?;
    let mut numbers = Vec::new();
    for entry in listing {
        let name = entry.map_err(LogError::io("list", folder))?.file_name();
        numbers.extend(number_of(log, &name.to_string_lossy()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn number_of(log: &Path, name: &str) -> Option<u32> {
    let log = log.file_name()?.to_string_lossy();
    let text = name.strip_prefix(&*log)?.strip_prefix('.')?;
    let number = text.parse().ok().filter(|number| *number > 0)?;
    // Only the name that we give: not `FILE.01` or `FILE.+1`.
    (u32::to_string(&number) == text).then_some(number)
}

/// Removes the segments after the first. The last goes first: what is left, should we be killed, is the beginning of one log.
pub(super) fn remove_stale_segments(log: &Path) -> Result<(), LogError> {
    let stale = later_segments(log)?;
    for number in &stale {
        let path = segment_path(log, *number);
        if !begins_like_a_log(&path)? {
            return Err(LogError::InTheWay { file: path });
        }
    }
    for number in stale.into_iter().rev() {
        let path = segment_path(log, number);
        fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
    }
    Ok(())
}

/// Also true of a log that was cut within its first bytes.
fn begins_like_a_log(path: &Path) -> Result<bool, LogError> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(LogError::io("read", path))?;
    Ok(FILE_MAGIC.starts_with(&start))
}
