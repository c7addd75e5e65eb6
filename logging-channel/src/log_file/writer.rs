//! Writes a log: collects entries to frames, and files to segments.
//!
//! ```text
//!   append ──→ collected entries ──(128 KiB, or flush)──→ frame ──→ FILE
//!                                                                    │ rotate_bytes reached
//!                                       header of FILE.1 ←───────────┤ 1.
//!                                       FILE's mark of a next segment┘ 2., then entries go to FILE.1
//! ```
//!
//! What always holds: after [`flush`](LogWriter::flush) the end of this process loses nothing appended before. Between any two
//! writes the files are a log that reads whole, within a write one that reads torn.

use std::path::{Path, PathBuf};

use super::segment::{FileFrame, SegmentWriter};
use super::{Image, LogError, LogHeader, LogOptions, files, images};
use crate::Entry;
use crate::protocol::Limits;

/// Writes a log. Dropping it flushes, as well as that works without telling.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    header: LogHeader,
    rotate_bytes: u64,
    segment: SegmentWriter,
    last_entry: u64,
    collected: Vec<Entry>,
    collected_bytes: u64,
    /// A write failed: nothing may follow what it left.
    failed: bool,
}

impl LogWriter {
    /// Begins a log at `path`, in place of one that may be there with all its segments. The header's `segment` is taken as 0.
    ///
    /// # Errors
    ///
    /// The file cannot be written; an image is not the one that the identity names; a file that is no log has the name of a segment.
    ///
    /// # Panics
    ///
    /// If the header's `first_seq` is 0, and if there are two images of a kind.
    pub fn create(path: &Path, header: &LogHeader, options: &LogOptions) -> Result<Self, LogError> {
        assert!(header.first_seq > 0, "entries begin at 1");
        check_images(header, &options.images)?;
        let header = LogHeader {
            segment: 0,
            ..header.clone()
        };
        files::remove_stale_segments(path)?;
        let segment = SegmentWriter::create(path.to_owned(), header.clone())?;
        let mut writer = Self {
            path: path.to_owned(),
            last_entry: header.first_seq - 1,
            header,
            rotate_bytes: options.rotate_bytes.unwrap_or(u64::MAX),
            segment,
            collected: Vec::new(),
            collected_bytes: 0,
            failed: false,
        };
        writer.write_images(&options.images)?;
        Ok(writer)
    }

    /// Puts images into a log that was begun without, as [`create`](Self::create) does.
    ///
    /// # Errors
    ///
    /// The file failed, or an image is not the one that the identity names. Nothing can be written any more.
    ///
    /// # Panics
    ///
    /// If there are entries already, or two images of a kind.
    pub fn keep_images(&mut self, images: &[Image]) -> Result<(), LogError> {
        assert_eq!(
            self.last_entry + 1,
            self.header.first_seq,
            "images come before entries"
        );
        check_images(&self.header, images)
            .and_then(|()| self.write_images(images))
            .inspect_err(|_| self.failed = true)
    }

    fn write_images(&mut self, images: &[Image]) -> Result<(), LogError> {
        images
            .iter()
            .try_for_each(|image| images::write(&mut self.segment, image))
    }

    /// Takes the next entries of the log. They are in the file after the next [`flush`](Self::flush) at the latest.
    ///
    /// # Errors
    ///
    /// The file failed, now or before, or an entry is too large for a frame. Nothing can be written any more.
    ///
    /// # Panics
    ///
    /// If the entries do not follow those before.
    pub fn append(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), LogError> {
        self.check_alive()?;
        let limit = Limits::default().batch_bytes;
        for entry in entries {
            assert_eq!(entry.seq, self.last_entry + 1, "the log has no gap");
            self.last_entry = entry.seq;
            if self.collected_bytes + entry.size_bytes() > limit {
                self.flush()?;
            }
            self.collected_bytes += entry.size_bytes();
            self.collected.push(entry);
        }
        Ok(())
    }

    /// Hands all that was appended to the system.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.check_alive()?;
        if self.collected.is_empty() {
            return Ok(());
        }
        self.collected_bytes = 0;
        let entries = std::mem::take(&mut self.collected);
        // Until it is known to have worked.
        self.failed = true;
        if self.segment.bytes() >= self.rotate_bytes {
            self.rotate(entries[0].seq)?;
        }
        self.segment.write(&FileFrame::Entries(entries))?;
        self.failed = false;
        Ok(())
    }

    /// The number of the last entry that was appended.
    #[must_use]
    pub fn last_entry(&self) -> u64 {
        self.last_entry
    }

    /// The first file of the log.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_alive(&self) -> Result<(), LogError> {
        if self.failed {
            let file = self.path.clone();
            return Err(LogError::Ended { file });
        }
        Ok(())
    }

    fn rotate(&mut self, first_seq: u64) -> Result<(), LogError> {
        self.header.segment += 1;
        self.header.first_seq = first_seq;
        let path = files::segment_path(&self.path, self.header.segment);
        let next = SegmentWriter::create(path, self.header.clone())?;
        self.segment.write(&FileFrame::Continued)?;
        self.segment = next;
        Ok(())
    }
}

/// Whether each is the one that the header's identity names.
fn check_images(header: &LogHeader, images: &[Image]) -> Result<(), LogError> {
    for (place, image) in images.iter().enumerate() {
        let before = &images[..place];
        assert!(before.iter().all(|other| other.kind != image.kind));
        image.check(header)?;
    }
    Ok(())
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Who wants to know flushes before.
        drop(self.flush());
    }
}
