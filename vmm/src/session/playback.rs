//! Recording to a file and replaying one: no tap, no network, no clock.
//!
//! In: a log file. Out: the machine's end, and on the way what it printed. The machine is the same, only its inputs come
//! from the file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufReader, BufWriter},
    path::Path,
};

use logging_channel::{
    Entry, Event,
    identity::{BootChoices, Identity},
    log_file::{LogError, LogReader, LogWriter},
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
    writer: LogWriter<BufWriter<File>>,
    batch: Vec<Entry>,
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
        let file = File::create(path).map_err(|source| log_failed("create", path, source))?;
        Ok(Self {
            writer: LogWriter::new(BufWriter::new(file), identity, boot)?,
            batch: Vec::new(),
        })
    }
}

fn log_failed(doing: &'static str, path: &Path, source: std::io::Error) -> SessionError {
    SessionError::LogFile {
        doing,
        path: path.to_owned(),
        source,
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
        self.batch.push(entry);
        // What somebody has seen must be in the log, should the recorder be killed.
        if self.batch.len() == BATCH_ENTRIES || seen {
            self.writer
                .append(std::mem::take(&mut self.batch))
                .map_err(not_written)?;
            self.writer.flush().map_err(not_written)?;
        }
        Ok(())
    }
}

/// Opens the log file at `path`.
///
/// # Errors
/// If it cannot be read or is no log.
pub fn open(path: &Path) -> Result<LogReader<BufReader<File>>, SessionError> {
    let file = File::open(path).map_err(|source| log_failed("open", path, source))?;
    Ok(LogReader::new(BufReader::new(file))?)
}

/// Entries from a file; what the machine prints goes to a console.
struct FileSource {
    reader: LogReader<BufReader<File>>,
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
    reader: LogReader<BufReader<File>>,
    console: ConsoleOutput,
) -> Result<Ending, SessionError> {
    let source = FileSource {
        reader,
        batch: VecDeque::new(),
        console,
    };
    Ok(Replica::new(machine, Logged::new(source)).run()?)
}
