//! One file of a log: frames, each with its piece of the file's zstd stream.
//!
//! In: frames. Out: bytes of a file, and back. What always holds: a frame that was written is whole in the file before the next one
//! begins; a frame that is read was whole, had good checksums, and decoded. A payload's checksum covers the stream from its beginning,
//! so no frame can be missing before it or have changed places.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compression::{Compressor, Decompressor};
use super::{ImageKind, LogError, LogHeader};
use crate::Entry;
use crate::codec::frame::{FILE_MAGIC, HEADER_BYTES, Header, decode_payload, encode_payload, seal};
use crate::codec::{CodecError, MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES};

/// What a frame of a file says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FileFrame {
    /// The first frame of every segment.
    Header(Box<LogHeader>),
    /// A piece of an image; only in segment 0, between header and entries.
    Image {
        kind: ImageKind,
        image_bytes: u64,
        /// Where in the image the piece belongs; pieces follow each other.
        offset: u64,
        bytes: Vec<u8>,
    },
    /// The next entries, at least one.
    Entries(#[serde(with = "crate::codec::batch")] Vec<Entry>),
    /// The last frame of a segment that another one follows. That one's header was written before.
    Continued,
}

impl FileFrame {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Header(_) => "a header",
            Self::Image { .. } => "an image",
            Self::Entries(_) => "entries",
            Self::Continued => "the mark of a next segment",
        }
    }

    /// Whether a reader would take it, of this encoded size.
    fn check_size(&self, encoded_bytes: usize) -> Result<(), CodecError> {
        let (bytes, limit) = match self {
            Self::Entries(entries) => {
                (entries.iter().map(Entry::size_bytes).sum(), MAX_BATCH_BYTES)
            }
            _ => (encoded_bytes as u64, MAX_PAYLOAD_BYTES),
        };
        if bytes > limit as u64 {
            let what = self.name();
            return Err(CodecError::Oversized { what, bytes, limit });
        }
        Ok(())
    }
}

/// Writes one segment.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    path: PathBuf,
    file: File,
    compressor: Compressor,
    bytes: u64,
    /// Of the stream so far.
    crc: u32,
}

impl SegmentWriter {
    pub(super) fn create(path: PathBuf, header: LogHeader) -> Result<Self, LogError> {
        let file = File::create(&path).map_err(LogError::io("create", &path))?;
        let compressor = Compressor::new().map_err(LogError::io("compress", &path))?;
        let mut segment = Self {
            path,
            file,
            compressor,
            bytes: 0,
            crc: 0,
        };
        segment.write(&FileFrame::Header(Box::new(header)))?;
        Ok(segment)
    }

    /// Writes a frame. When it returns, the system has it: the end of this process changes nothing. After an error the file may end
    /// in a part of a frame, and nothing may follow.
    pub(super) fn write(&mut self, frame: &FileFrame) -> Result<(), LogError> {
        let mut plain = Vec::new();
        encode_payload(frame, &mut plain).map_err(LogError::Encode)?;
        frame.check_size(plain.len()).map_err(LogError::Encode)?;
        let mut sealed = vec![0; HEADER_BYTES];
        self.compressor
            .compress(&plain, &mut sealed)
            .map_err(LogError::io("compress", &self.path))?;
        self.crc = seal(FILE_MAGIC, self.crc, &mut sealed).map_err(LogError::Encode)?;
        self.file
            .write_all(&sealed)
            .map_err(LogError::io("write", &self.path))?;
        self.bytes += sealed.len() as u64;
        Ok(())
    }

    /// Bytes of the file so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Reads one segment.
#[derive(Debug)]
pub(super) struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    decompressor: Decompressor,
    payload: Vec<u8>,
    offset: u64,
    /// Of the stream so far.
    crc: u32,
}

impl SegmentReader {
    pub(super) fn open(path: PathBuf) -> Result<Self, LogError> {
        let file = File::open(&path).map_err(LogError::io("open", &path))?;
        let decompressor = Decompressor::new().map_err(LogError::io("decompress", &path))?;
        Ok(Self {
            path,
            file: BufReader::with_capacity(64 << 10, file),
            decompressor,
            payload: Vec::new(),
            offset: 0,
            crc: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `None` at the end of the file. `last_entry` is for the error.
    pub(super) fn next(&mut self, last_entry: u64) -> Result<Option<FileFrame>, LogError> {
        let mut header = [0; HEADER_BYTES];
        match self.fill(&mut header)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            bytes => return Err(self.torn(bytes, last_entry)),
        }
        let header =
            Header::parse(FILE_MAGIC, &header).map_err(|error| self.damaged(error, last_entry))?;
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(header.payload_bytes, 0);
        let bytes = self.fill(&mut payload)?;
        self.payload = payload;
        if bytes < header.payload_bytes {
            return Err(self.torn(HEADER_BYTES + bytes, last_entry));
        }
        let frame = self
            .decode(&header)
            .map_err(|error| self.damaged(error, last_entry))?;
        self.offset += (HEADER_BYTES + header.payload_bytes) as u64;
        Ok(Some(frame))
    }

    /// What the payload that was read says. It goes through the decompressor only if all of the stream before it did.
    fn decode(&mut self, header: &Header) -> Result<FileFrame, CodecError> {
        self.crc = header.check_payload(self.crc, &self.payload)?;
        decode_payload(self.decompressor.decompress(&self.payload)?)
    }

    /// Reads into `buffer` what the file still has; how much.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LogError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(LogError::io("read", &self.path)(error)),
            }
        }
        Ok(filled)
    }

    fn torn(&self, bytes: usize, last_entry: u64) -> LogError {
        LogError::Torn {
            file: self.path.clone(),
            offset: self.offset,
            bytes: bytes as u64,
            last_entry,
        }
    }

    fn damaged(&self, source: CodecError, last_entry: u64) -> LogError {
        LogError::Damaged {
            file: self.path.clone(),
            offset: self.offset,
            last_entry,
            source,
        }
    }

    /// The error of a frame that does not belong where it is, or of an end that comes too soon.
    pub(super) fn unexpected(&self, found: impl Into<String>, expected: &str) -> LogError {
        LogError::Unexpected {
            file: self.path.clone(),
            offset: self.offset,
            found: found.into(),
            expected: expected.to_owned(),
        }
    }
}
