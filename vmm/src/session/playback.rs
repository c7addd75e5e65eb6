//! Recording to a file and replaying one: no tap, no network, no clock.
//!
//! In: a log file. Out: the machine's end, and on the way what it printed. The machine is the same, only its inputs come
//! from the file. A log whose keeper died ends somewhere: all that is whole of it is replayed, and [`Finish`] says where and why it ends.

use std::{collections::VecDeque, path::Path, sync::Arc};

use logging_channel::{
    Digest, Entry, Event, Position,
    log_file::{LogError, LogHeader, LogOptions, LogReader, LogWriter},
};

use super::{
    SessionError,
    divergence::DivergenceReport,
    replica::{Ending, Replica, ReplicaError},
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
        header: &LogHeader,
        options: &LogOptions,
    ) -> Result<Self, SessionError> {
        Ok(Self {
            writer: LogWriter::create(path, header, options)?,
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
        self.writer.append([entry]).map_err(not_written)?;
        self.unwritten += 1;
        // What somebody has seen must be in the log, should the recorder be killed.
        if self.unwritten == BATCH_ENTRIES || seen {
            self.writer.flush().map_err(not_written)?;
            self.unwritten = 0;
        }
        Ok(())
    }
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where the machine stands.
    pub at: Position,
    /// Entries replayed.
    pub entries: u64,
    /// Guest time, nanoseconds since boot.
    pub guest_ns: u64,
    /// Bytes of the log that were read; they run ahead of the machine by a frame.
    pub bytes_read: u64,
    /// Bytes of the log.
    pub bytes_total: u64,
}

/// How a replay ended.
#[derive(Debug)]
pub enum Finish {
    /// With the guest's end.
    Ended(Ending),
    /// The log has no more: its keeper was stopped, or died.
    LogEnds {
        /// Where the machine stands.
        at: Position,
        /// Registers, devices and all of memory there.
        digest: Digest,
        /// If the log was cut or is damaged there: how.
        why: Option<LogError>,
    },
    /// The machine went another way than its log.
    Diverged(Box<DivergenceReport>),
}

/// Entries from a file; what the machine prints goes to a console.
struct FileSource {
    reader: LogReader,
    batch: VecDeque<Entry>,
    console: ConsoleOutput,
    /// Why the log ends, if it is not whole.
    cut: Option<LogError>,
}

impl LogSource for FileSource {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        while self.batch.is_empty() {
            match self.reader.next_batch() {
                Ok(Some(batch)) => self.batch.extend(batch),
                Ok(None) => return Ok(None),
                Err(error) => self.cut = Some(error),
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

/// Whether a replay compares the machine's periodic digests. Outputs, interrupts, positions and the end are compared in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    /// Each is worked out and compared.
    Compared,
    /// They are passed over.
    PassedOver,
}

/// A replay under way.
pub struct Playback<E> {
    replica: Replica<E, Logged<FileSource>>,
}

impl<E: Engine> Playback<E> {
    /// A replay of the whole log that `reader` has just opened, on a machine that has just booted.
    #[must_use]
    pub fn new(
        machine: Machine<E>,
        reader: LogReader,
        console: ConsoleOutput,
        digests: Digests,
    ) -> Self {
        let logged = Logged::new(FileSource {
            reader,
            batch: VecDeque::new(),
            console,
            cut: None,
        });
        let inputs = match digests {
            Digests::Compared => logged,
            Digests::PassedOver => logged.passing_over_digests(),
        };
        Self {
            replica: Replica::new(machine, inputs),
        }
    }

    /// Replays on for so many turns at most. `None`: there is more.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn advance(&mut self, turns: u32) -> Result<Option<Finish>, SessionError> {
        match self.replica.run_turns(turns) {
            Ok(ending) => Ok(ending.map(Finish::Ended)),
            Err(ReplicaError::Inputs(InputError::Exhausted { at })) => {
                let digest = self.replica.machine_mut().full_digest();
                Ok(Some(Finish::LogEnds {
                    at,
                    digest: digest.map_err(ReplicaError::from)?,
                    why: self.replica.inputs_mut().source_mut().cut.take(),
                }))
            }
            Err(ReplicaError::Diverged(report)) => Ok(Some(Finish::Diverged(report))),
            Err(error) => Err(error.into()),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let inputs = self.replica.inputs();
        let reader = &inputs.source().reader;
        Progress {
            at: self.replica.machine().position(),
            entries: inputs.last_seq(),
            guest_ns: self.replica.machine().time_ns(),
            bytes_read: reader.bytes_read(),
            bytes_total: reader.total_bytes(),
        }
    }

    /// The machine as it stands.
    pub fn machine_mut(&mut self) -> &mut Machine<E> {
        self.replica.machine_mut()
    }
}

/// A log in memory.
pub struct LoadedLog {
    /// Every entry that can be read.
    pub entries: Arc<[Entry]>,
    /// If the log is not whole: how it ends.
    pub cut: Option<LogError>,
}

/// Reads the rest of a log into memory.
#[must_use]
pub fn load(mut reader: LogReader) -> LoadedLog {
    let mut entries = Vec::new();
    let cut = loop {
        match reader.next_batch() {
            Ok(Some(batch)) => entries.extend(batch),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    LoadedLog {
        entries: entries.into(),
        cut,
    }
}
