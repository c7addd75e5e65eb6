//! Cuts a torn tail off a log.
//!
//! In: a log whose keeper was killed. Out: the same log up to its last whole frame, which reads to its end. What always holds: only what
//! a killed keeper can have left is cut. Damage anywhere else stays as it is and is reported; and a cut that is itself killed
//! leaves a log that can be cut again.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use super::files::later_segments;
use super::reader::open_segment;
use super::{LogError, LogReader, segment_path};

/// What was cut off a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment with the unfinished frame.
    pub file: PathBuf,
    /// Where that frame began: the segment's length now, or 0 if it had no whole header and was removed.
    pub offset: u64,
    /// How much of the frame there was.
    pub bytes: u64,
    /// The log's last entry now, 0 if it has none.
    pub last_entry: u64,
}

/// Shortens the log at `path` to its last whole frame, if it is torn. It must not be written meanwhile.
///
/// # Errors
///
/// The log cannot be read or written, is damaged elsewhere than at its tail, or has not even a header.
pub fn cut_torn_tail(path: &Path) -> Result<Option<Cut>, LogError> {
    let mut reader = LogReader::open(path)?;
    let torn = loop {
        match reader.next_batch() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error @ LogError::Torn { .. }) => break error,
            Err(error) => return Err(error),
        }
    };
    let LogError::Torn {
        file,
        offset,
        bytes,
        last_entry,
    } = torn
    else {
        unreachable!("the loop ends with this error alone")
    };
    let number = reader.segment_number();
    let in_next_header = file != segment_path(path, number);
    check_nothing_follows(path, number, in_next_header)?;
    if in_next_header {
        // Without its mark, what is left of the log is whole before the next segment is removed and after.
        if let Some(mark) = reader.continued_at() {
            shorten(&segment_path(path, number), mark)?;
        }
    } else {
        shorten(&file, offset)?;
    }
    for later in later_segments(path)? {
        if later > number {
            let path = segment_path(path, later);
            fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
        }
    }
    Ok(Some(Cut {
        file,
        offset,
        bytes,
        last_entry,
    }))
}

/// A keeper that is killed leaves at most one segment after the one it writes to, and that has its header at most.
fn check_nothing_follows(log: &Path, number: u32, torn_header: bool) -> Result<(), LogError> {
    for later in later_segments(log)? {
        if later <= number || later == number + 1 && torn_header {
            continue;
        }
        let path = segment_path(log, later);
        let bare = match open_segment(path.clone(), 0) {
            Ok((mut segment, _)) => matches!(segment.next(0), Ok(None)),
            Err(LogError::Torn { .. }) => true,
            Err(error) => return Err(error),
        };
        if later > number + 1 || !bare {
            return Err(LogError::Unexpected {
                file: path,
                offset: 0,
                found: "a segment".to_owned(),
                expected: "nothing, as the segment before it is torn".to_owned(),
            });
        }
    }
    Ok(())
}

fn shorten(path: &Path, bytes: u64) -> Result<(), LogError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(bytes))
        .map_err(LogError::io("shorten", path))
}
