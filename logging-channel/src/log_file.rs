//! Record files: the bytes that a primary would have sent, in a file.
//!
//! A record begins with the frame of [`Message::Hello`] (its term and session are 0) and goes on
//! with frames of [`Message::Entries`]. Its entries begin at 1 and have no gap. A file that ends
//! inside a frame has a *torn tail*: everything before it is good, and the reader says where it ends.

use std::io::{self, Read, Write};

use crate::Entry;
use crate::codec::{CodecError, Decoder, encode_message};
use crate::identity::{BootChoices, Identity};
use crate::protocol::{Limits, Message};

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file failed.
    #[error("Cannot access the record")]
    Io(#[from] io::Error),
    /// A value is too large to be recorded.
    #[error("Cannot record an entry")]
    Encode(#[source] CodecError),
    /// Bytes inside the record are damaged, or it is no record at all.
    #[error("Record is damaged at byte {offset}, after entry {last_entry}")]
    Damaged {
        /// Where the damaged frame begins.
        offset: u64,
        /// The last good entry, 0 if there is none.
        last_entry: u64,
        /// What is wrong there.
        source: CodecError,
    },
    /// The record ends in the middle of a frame.
    #[error(
        "Record is torn at byte {offset}: {bytes} bytes of an unfinished frame follow entry {last_entry}"
    )]
    Torn {
        /// Where the unfinished frame begins.
        offset: u64,
        /// How much of it there is.
        bytes: usize,
        /// The last good entry, 0 if there is none.
        last_entry: u64,
    },
    /// A good frame that has no place in a record, or not there.
    #[error("Record has {found} at byte {offset} instead of {expected}")]
    Unexpected {
        /// Where the frame begins or ends.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
}

/// Writes a record.
#[derive(Debug)]
pub struct LogWriter<W: Write> {
    file: W,
    last_entry: u64,
}

impl<W: Write> LogWriter<W> {
    /// Begins a record of a guest of this identity. Nothing is buffered: hand in a
    /// [`BufWriter`](io::BufWriter) for many small appends.
    ///
    /// # Errors
    ///
    /// The file failed.
    pub fn new(mut file: W, identity: Identity, boot: BootChoices) -> Result<Self, LogError> {
        let hello = Message::Hello {
            identity,
            boot,
            term: 0,
            session: 0,
            failure_timeout_ms: 0,
        };
        file.write_all(&encode_message(&hello).map_err(LogError::Encode)?)?;
        Ok(Self {
            file,
            last_entry: 0,
        })
    }

    /// Writes the next entries of the log.
    ///
    /// # Errors
    ///
    /// The file failed, or an entry is too large for a frame.
    ///
    /// # Panics
    ///
    /// If the entries do not follow those before.
    pub fn append(&mut self, entries: Vec<Entry>) -> Result<(), LogError> {
        let limit = Limits::default().batch_bytes;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            assert_eq!(entry.seq, self.last_entry + 1, "the log has no gap");
            self.last_entry = entry.seq;
            if bytes + entry.size_bytes() > limit && !batch.is_empty() {
                self.write(std::mem::take(&mut batch))?;
                bytes = 0;
            }
            bytes += entry.size_bytes();
            batch.push(entry);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch)
    }

    fn write(&mut self, entries: Vec<Entry>) -> Result<(), LogError> {
        let message = Message::Entries {
            entries,
            released_through: 0,
        };
        let frame = encode_message(&message).map_err(LogError::Encode)?;
        Ok(self.file.write_all(&frame)?)
    }

    /// Hands what the file buffers to the system.
    ///
    /// # Errors
    ///
    /// The file failed.
    pub fn flush(&mut self) -> Result<(), LogError> {
        Ok(self.file.flush()?)
    }

    /// The file, flushed.
    ///
    /// # Errors
    ///
    /// The file failed.
    pub fn into_inner(mut self) -> Result<W, LogError> {
        self.file.flush()?;
        Ok(self.file)
    }
}

/// Reads a record.
#[derive(Debug)]
pub struct LogReader<R: Read> {
    file: R,
    decoder: Decoder,
    last_entry: u64,
    identity: Identity,
    boot: BootChoices,
}

impl<R: Read> LogReader<R> {
    /// Reads a record's beginning.
    ///
    /// # Errors
    ///
    /// It is no record, or damaged, or empty.
    pub fn new(mut file: R) -> Result<Self, LogError> {
        let mut decoder = Decoder::new();
        let (found, expected) = match next_message(&mut file, &mut decoder, 0)? {
            Some(Message::Hello { identity, boot, .. }) => {
                return Ok(Self {
                    file,
                    decoder,
                    last_entry: 0,
                    identity,
                    boot,
                });
            }
            Some(other) => (other.name(), "Hello"),
            None => ("the end", "a record"),
        };
        Err(LogError::Unexpected {
            offset: 0,
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    }

    /// Whose record it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the recorded guest was given at boot.
    #[must_use]
    pub fn boot(&self) -> &BootChoices {
        &self.boot
    }

    /// The next entries, at least one; `None` at the end of a whole record.
    ///
    /// # Errors
    ///
    /// The record is torn or damaged here. All entries before were good.
    pub fn next_batch(&mut self) -> Result<Option<Vec<Entry>>, LogError> {
        loop {
            let message = next_message(&mut self.file, &mut self.decoder, self.last_entry)?;
            let (found, expected) = match message {
                None => return Ok(None),
                Some(Message::Entries { entries, .. }) => {
                    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                        continue;
                    };
                    let next = self.last_entry + 1;
                    if first.seq == next {
                        self.last_entry = last.seq;
                        return Ok(Some(entries));
                    }
                    (format!("entry {}", first.seq), format!("entry {next}"))
                }
                Some(other) => (other.name().to_owned(), "Entries".to_owned()),
            };
            return Err(LogError::Unexpected {
                offset: self.decoder.position(),
                found,
                expected,
            });
        }
    }
}

fn next_message(
    file: &mut impl Read,
    decoder: &mut Decoder,
    last_entry: u64,
) -> Result<Option<Message>, LogError> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        let offset = decoder.position();
        let pulled = decoder.pull().map_err(|source| LogError::Damaged {
            offset,
            last_entry,
            source,
        })?;
        if pulled.is_some() {
            return Ok(pulled);
        }
        let count = match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        match (count, decoder.unread_bytes()) {
            (0, 0) => return Ok(None),
            (0, bytes) => {
                return Err(LogError::Torn {
                    offset,
                    bytes,
                    last_entry,
                });
            }
            _ => decoder.push(&chunk[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Event, Position};

    fn identity() -> Identity {
        Identity {
            format_version: 1,
            clock: "exits".to_owned(),
            cpu_model: "model".to_owned(),
            memory_bytes: 1 << 20,
            command_line: String::new(),
            kernel: Digest::of(b"kernel"),
            boot: "auto".to_owned(),
            initrd: None,
            devices: vec![],
        }
    }

    fn boot() -> BootChoices {
        BootChoices {
            unix_time_s: 7,
            rng_seed: [1; 32],
        }
    }

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            at: Position::default(),
            event: Event::Frame {
                bytes: vec![3; 5000],
            },
        }
    }

    /// A record of 100 entries, appended in three pieces, the second of several frames.
    fn record() -> Vec<u8> {
        let mut writer = LogWriter::new(Vec::new(), identity(), boot()).unwrap();
        for range in [1..=2, 3..=99, 100..=100] {
            writer.append(range.map(entry).collect()).unwrap();
        }
        writer.append(vec![]).unwrap();
        writer.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> (u64, Result<(), LogError>) {
        let mut reader = match LogReader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return (0, Err(error)),
        };
        let mut count = 0;
        loop {
            match reader.next_batch() {
                Ok(Some(entries)) => count += entries.len() as u64,
                Ok(None) => return (count, Ok(())),
                Err(error) => return (count, Err(error)),
            }
        }
    }

    #[test]
    fn a_record_reads_back() {
        let record = record();
        let reader = LogReader::new(&record[..]).unwrap();
        assert_eq!((reader.identity(), reader.boot()), (&identity(), &boot()));
        let (count, end) = read(&record);
        assert_eq!(count, 100);
        end.unwrap();
    }

    #[test]
    fn a_torn_tail_is_told_from_a_whole_record_and_from_damage() {
        let record = record();
        let (count, end) = read(&record[..record.len() - 1]);
        assert_eq!(count, 99);
        let Err(LogError::Torn {
            offset,
            bytes,
            last_entry,
        }) = end
        else {
            panic!("{end:?}");
        };
        assert_eq!(last_entry, 99);
        assert_eq!(offset as usize + bytes, record.len() - 1);

        let mut damaged = record;
        let at = damaged.len() - 10;
        damaged[at] ^= 1;
        let (count, end) = read(&damaged);
        assert_eq!(count, 99);
        assert!(
            matches!(end, Err(LogError::Damaged { last_entry: 99, offset: o, .. }) if o == offset),
            "{end:?}"
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let goodbye = encode_message(&Message::Goodbye).unwrap();
        for (bytes, expected) in [
            (&b""[..], "Record has the end at byte 0 instead of a record"),
            (&goodbye, "Record has Goodbye at byte 0 instead of Hello"),
        ] {
            assert_eq!(LogReader::new(bytes).unwrap_err().to_string(), expected);
        }
        let elf = [b"\x7fELF", &[0; 60][..]].concat();
        let error = LogReader::new(&elf[..]).unwrap_err();
        assert!(
            matches!(
                error,
                LogError::Damaged {
                    offset: 0,
                    source: CodecError::Magic { .. },
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_missing_frame_is_found() {
        let mut record = record();
        let batch = |from: u64| Message::Entries {
            entries: vec![entry(from)],
            released_through: 0,
        };
        record.extend(encode_message(&batch(102)).unwrap());
        let (count, end) = read(&record);
        assert_eq!(count, 100);
        let error = end.unwrap_err().to_string();
        assert!(error.contains("entry 102"), "{error}");
        assert!(error.ends_with("instead of entry 101"), "{error}");
    }
}
