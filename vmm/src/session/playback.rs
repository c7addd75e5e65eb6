//! Recording to a file and replaying one: no tap, no network, no clock.
//!
//! In: a log file. Out: the machine's end, and on the way what it printed. The machine is the same, only its inputs come
//! from the file.

use std::{collections::VecDeque, path::Path};

use logging_channel::{
    Entry, Event,
    identity::{BootChoices, Identity},
    log_file::{Keeper, LogError, LogHeader, LogOptions, LogReader, LogWriter},
};

use super::{
    SessionError,
    replica::{Ending, Replica},
};
use crate::{
    effect::Effect,
    engine::Engine,
    host::ConsoleOutput,
    inputs::{InputError, Logged, logged::LogSource, recorder::Recorder},
    machine::Machine,
};

/// Entries that are written together.
const BATCH_ENTRIES: usize = 256;

/// Records into a file.
pub struct FileRecorder {
    writer: LogWriter,
    /// Entries since the last flush.
    unwritten: usize,
}

impl FileRecorder {
    /// Creates the log file at `path`.
    ///
    /// # Errors
    /// If it cannot be created or written.
    pub fn create(
        path: &Path,
        identity: Identity,
        boot: BootChoices,
    ) -> Result<Self, SessionError> {
        let header = LogHeader::new(identity, boot, Keeper::Record);
        Ok(Self {
            writer: LogWriter::create(path, &header, &LogOptions::default())?,
            unwritten: 0,
        })
    }
}

fn not_written(error: LogError) -> InputError {
    InputError::Host {
        doing: "Cannot write the log file",
        source: std::io::Error::other(error),
    }
}

impl Recorder for FileRecorder {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        let seen = matches!(entry.event, Event::Output { .. } | Event::End { .. });
        self.writer.append(vec![entry]).map_err(not_written)?;
        self.unwritten += 1;
        // What somebody has seen must be in the log, should the recorder be killed.
        if self.unwritten == BATCH_ENTRIES || seen {
            self.writer.flush().map_err(not_written)?;
            self.unwritten = 0;
        }
        Ok(())
    }
}

/// Opens the log file at `path`.
///
/// # Errors
/// If it cannot be read or is no log.
pub fn open(path: &Path) -> Result<LogReader, SessionError> {
    Ok(LogReader::open(path)?)
}

/// Entries from a file; what the machine prints goes to a console.
struct FileSource {
    reader: LogReader,
    batch: VecDeque<Entry>,
    console: ConsoleOutput,
}

impl LogSource for FileSource {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        while self.batch.is_empty() {
            let failed = |error| InputError::Host {
                doing: "Cannot read the log file",
                source: std::io::Error::other(error),
            };
            match self.reader.next_batch().map_err(failed)? {
                Some(batch) => self.batch.extend(batch),
                None => return Ok(None),
            }
        }
        Ok(self.batch.pop_front())
    }

    fn replayed(&mut self, _seq: u64, suppressed: Option<Effect>) {
        if let Some(Effect::Print(bytes)) = suppressed {
            // The console is a convenience here; that it cannot be written changes nothing in the replay.
            drop(self.console.write(&bytes));
        }
    }
}

/// Replays the log on `machine`, to its end.
///
/// # Errors
/// If the machine diverges, and if the log ends before the guest does.
pub fn replay<E: Engine>(
    machine: Machine<E>,
    reader: LogReader,
    console: ConsoleOutput,
) -> Result<Ending, SessionError> {
    let source = FileSource {
        reader,
        batch: VecDeque::new(),
        console,
    };
    Ok(Replica::new(machine, Logged::new(source)).run()?)
}
