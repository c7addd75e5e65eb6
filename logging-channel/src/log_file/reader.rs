//! Reads a log through all its segments.
//!
//! In: the path of its first file. Out: its header, its images, its entries in batches, and at last where and how it ends. What
//! always holds: entries come in sequence without a gap, from one session; every one of them was covered by a checksum; and after the first error
//! nothing more comes.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{later_segments, segment_path};
use super::segment::{FileFrame, SegmentReader};
use super::{Image, LogError, LogHeader, images};
use crate::Entry;

/// Where a reader is in the files of its log, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Where in it the next frame begins, bytes.
    pub offset: u64,
}

/// Reads a log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    header: LogHeader,
    segment: SegmentReader,
    number: u32,
    last_entry: u64,
    /// Where in this segment the mark of a next one begins, if it was read.
    continued_at: Option<u64>,
    /// Bytes of the segments before this one.
    bytes_before: u64,
    total_bytes: u64,
    /// After an error, or at the end.
    ended: bool,
}

impl LogReader {
    /// Opens the log that begins in the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no log, is one of another version, or ends within its header.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let (segment, header) = open_segment(path.to_owned(), 0).map_err(|error| match error {
            LogError::Torn { file, bytes, .. } => LogError::NoHeader { file, bytes },
            other => other,
        })?;
        if header.segment != 0 {
            let found = format!("segment {}", header.segment);
            return Err(segment.unexpected(found, "the first segment of a log"));
        }
        if header.first_seq == 0 {
            return Err(segment.unexpected("a first entry 0", "1 or more"));
        }
        Ok(Self {
            path: path.to_owned(),
            last_entry: header.first_seq - 1,
            header,
            segment,
            number: 0,
            continued_at: None,
            bytes_before: 0,
            total_bytes: total_bytes(path)?,
            ended: false,
        })
    }

    /// What the log says about itself: the header of its first segment.
    #[must_use]
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// The images that are in the log, none if it has none. They are read each time, whatever of the log has been read before.
    ///
    /// # Errors
    ///
    /// The log is torn or damaged there, or an image is not the one that the identity names.
    pub fn images(&self) -> Result<Vec<Image>, LogError> {
        let (mut segment, header) = open_segment(self.path.clone(), 0)?;
        images::read(&mut segment, &header)
    }

    /// The next entries, at least one; `None` at the end of a whole log, and after an error.
    ///
    /// # Errors
    ///
    /// The log is torn or damaged here. All entries before were good.
    pub fn next_batch(&mut self) -> Result<Option<Vec<Entry>>, LogError> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        let batch = self.read_batch()?;
        self.ended = batch.is_none();
        Ok(batch)
    }

    /// Bytes read so far, over all segments: whole frames.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_before + self.segment.offset()
    }

    /// Bytes of all segments when the log was opened.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Where the next frame is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            file: self.segment.path().to_owned(),
            offset: self.segment.offset(),
        }
    }

    /// The number of the segment that is read.
    pub(super) fn segment_number(&self) -> u32 {
        self.number
    }

    /// Where in that segment the mark of a next one begins, if it was read.
    pub(super) fn continued_at(&self) -> Option<u64> {
        self.continued_at
    }

    fn read_batch(&mut self) -> Result<Option<Vec<Entry>>, LogError> {
        loop {
            let begin = self.segment.offset();
            let Some(frame) = self.segment.next(self.last_entry)? else {
                if self.open_next()? {
                    continue;
                }
                return Ok(None);
            };
            let first_frames = self.number == 0 && self.next_seq() == self.header.first_seq;
            match frame {
                _ if self.continued_at.is_some() => {
                    return Err(self.segment.unexpected(frame.name(), "the segment's end"));
                }
                FileFrame::Entries(entries) => return self.accept(entries).map(Some),
                FileFrame::Continued => self.continued_at = Some(begin),
                FileFrame::Image { .. } if first_frames => {}
                FileFrame::Image { .. } | FileFrame::Header(_) => {
                    return Err(self.segment.unexpected(frame.name(), "entries"));
                }
            }
        }
    }

    /// Wraps rather than panics in a log that claims to have 2⁶⁴ entries.
    fn next_seq(&self) -> u64 {
        self.last_entry.wrapping_add(1)
    }

    fn accept(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, LogError> {
        let next = self.next_seq();
        match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if first.seq == next => {
                self.last_entry = last.seq;
                Ok(entries)
            }
            (first, _) => {
                let found = first.map_or("no entry".to_owned(), |e| format!("entry {}", e.seq));
                Err(self.segment.unexpected(found, &format!("entry {next}")))
            }
        }
    }

    /// Goes on to the next segment, if there is or must be one.
    fn open_next(&mut self) -> Result<bool, LogError> {
        let number = self.number + 1;
        let path = segment_path(&self.path, number);
        let later = later_segments(&self.path)?;
        if !later.contains(&number) {
            if self.continued_at.is_none() && later.last().is_none_or(|last| *last < number) {
                return Ok(false);
            }
            return Err(LogError::MissingSegment {
                file: path,
                last_entry: self.last_entry,
            });
        }
        let (segment, header) = open_segment(path.clone(), self.last_entry)?;
        let expected = LogHeader {
            segment: number,
            first_seq: self.next_seq(),
            ..self.header.clone()
        };
        if header != expected {
            return Err(LogError::ForeignSegment {
                file: path,
                last_entry: self.last_entry,
            });
        }
        self.bytes_before += self.segment.offset();
        self.segment = segment;
        self.number = number;
        self.continued_at = None;
        Ok(true)
    }
}

/// A segment whose header was read.
pub(super) fn open_segment(
    path: PathBuf,
    last_entry: u64,
) -> Result<(SegmentReader, LogHeader), LogError> {
    let mut segment = SegmentReader::open(path)?;
    match segment.next(last_entry)? {
        Some(FileFrame::Header(header)) => Ok((segment, *header)),
        Some(other) => Err(segment.unexpected(other.name(), "a header")),
        None => Err(LogError::Torn {
            file: segment.path().to_owned(),
            offset: 0,
            bytes: 0,
            last_entry,
        }),
    }
}

fn total_bytes(log: &Path) -> Result<u64, LogError> {
    let mut total = 0;
    for number in std::iter::once(0).chain(later_segments(log)?) {
        let path = segment_path(log, number);
        let metadata = fs::metadata(&path).map_err(LogError::io("examine", &path))?;
        total += metadata.len();
    }
    Ok(total)
}
