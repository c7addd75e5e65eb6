//! The events file (`--events FILE`): what a replica lives through, one JSON object a line.
//!
//! Programs read it while it grows (the demo's timeline, tests), so each line is complete at once, carries the
//! time on two clocks, and keeps its names. `mono_ns` is `CLOCK_MONOTONIC`: lines of all processes on
//! one host can be put on one timeline. `time_ns` is `CLOCK_REALTIME`, for different hosts.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logging_channel::Position;
use serde::{Deserialize, Serialize};

use super::{HostError, clock};
use crate::engine::EngineKind;

/// What a process is in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A guest without a backup.
    Solo,
    /// Runs the guest and records.
    Primary,
    /// Replays.
    Backup,
    /// Decides who is live.
    Arbiter,
    /// Serves disks, and decides who may write them.
    DiskServer,
    /// Replays a record file.
    Replay,
}

/// Something that happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process started, as this.
    Role {
        /// Its part in the pair.
        role: Role,
    },
    /// What runs the guest.
    Engine {
        /// The engine.
        engine: EngineKind,
        /// Why this one.
        why: String,
    },
    /// Primary and backup agreed to be a pair.
    PairFormed {
        /// The pair's term.
        term: u64,
    },
    /// The other replica is suspected dead.
    PeerLost {
        /// Connection closed, or silence.
        why: String,
    },
    /// Asks the arbiter for a term.
    Claiming {
        /// The term that this replica wants to be alone in.
        term: u64,
    },
    /// The arbiter does not answer; nobody goes live until it does.
    WaitingForArbiter,
    /// The arbiter granted the term.
    ClaimWon {
        /// The term.
        term: u64,
    },
    /// The arbiter had given the term to the other.
    ClaimLost {
        /// The term.
        term: u64,
    },
    /// The guest's outputs and inputs are this replica's alone.
    Live {
        /// In this term.
        term: u64,
    },
    /// Something happened to a disk.
    Disk {
        /// `failed`, `waiting`, `back`, `given-up` or `cut-off`.
        what: String,
        /// The same in a sentence, with the disk and the reason.
        text: String,
    },
    /// The replica stopped for good.
    Halted {
        /// Why.
        reason: String,
    },
    /// How far the backup is behind.
    Lag {
        /// Entries recorded and not yet replayed.
        entries: u64,
        /// Age of the oldest of them, milliseconds.
        ms: u64,
    },
    /// The backup is not a copy of the primary any more.
    Divergence {
        /// Where in the guest's instruction stream.
        position: Position,
        /// What the log says.
        expected: String,
        /// What the backup has.
        actual: String,
        /// The instruction pointer there.
        rip: u64,
        /// What kind of code that is.
        mode: String,
        /// Its function, where symbols are known.
        symbol: Option<String>,
        /// The last entries that agreed, the oldest first.
        last_entries: Vec<String>,
    },
    /// What a second replay says of a divergence.
    SecondOpinion {
        /// In words.
        text: String,
        /// The last position at which two replays are alike, where they part.
        alike_at: Option<Position>,
        /// The next one, at which they differ.
        different_at: Option<Position>,
    },
    /// The log that is replayed ends, and the guest had not.
    LogEnded {
        /// Where.
        position: Position,
        /// Of the whole machine there, in hexadecimal.
        digest: String,
    },
    /// A replay stopped where it was told to.
    Stopped {
        /// Where it stands.
        position: Position,
        /// RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8 to R15.
        general: [u64; 16],
        /// Instruction pointer.
        rip: u64,
        /// RFLAGS.
        rflags: u64,
        /// CR0, CR2, CR3, CR4.
        control: [u64; 4],
        /// Bases of FS and GS.
        segment_bases: [u64; 2],
        /// What kind of code comes next.
        mode: String,
        /// Its function, where symbols are known.
        symbol: Option<String>,
        /// Of the whole machine, in hexadecimal.
        digest: String,
    },
    /// The guest ended by itself.
    Ended {
        /// Reset, halted or triple fault.
        reason: String,
        /// Of the whole machine, in hexadecimal.
        digest: String,
    },
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedEvent {
    /// `CLOCK_REALTIME`, nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub mono_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl StampedEvent {
    /// `event`, which happened just now.
    #[must_use]
    pub fn now(event: Event) -> Self {
        Self {
            time_ns: clock::realtime_ns(),
            mono_ns: clock::host_monotonic_ns(),
            event,
        }
    }

    /// Reads a line of an events file.
    ///
    /// # Errors
    ///
    /// Where it is no such line, says `serde_json`.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// Writes events. Clones write to the same file; any thread may.
#[derive(Clone, Debug, Default)]
pub struct EventSink {
    file: Option<Arc<EventsFile>>,
}

#[derive(Debug)]
struct EventsFile {
    file: File,
    failed: AtomicBool,
}

impl EventSink {
    /// Events go nowhere.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Appends events to the file at `path`, and creates it if it is not there.
    ///
    /// # Errors
    ///
    /// [`HostError::EventsFile`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| HostError::EventsFile {
                path: path.to_owned(),
                source,
            })?;
        let file = EventsFile {
            file,
            failed: AtomicBool::new(false),
        };
        Ok(Self {
            file: Some(Arc::new(file)),
        })
    }

    /// Writes `event` with the time, in one write. If the file does not take it the guest goes on:
    /// the first such failure is told on standard error, and the event is lost.
    pub fn emit(&self, event: &Event) {
        let Some(file) = &self.file else { return };
        let mut line =
            serde_json::to_vec(&StampedEvent::now(event.clone())).expect("events are plain data");
        line.push(b'\n');
        // O_APPEND puts one write after all others, also those of other processes. `write_all` needs
        // more than one only where the file is a pipe or the disk fills up.
        if let Err(error) = (&file.file).write_all(&line)
            && !file.failed.swap(true, Ordering::Relaxed)
        {
            super::say(&format!(
                "lockstep: cannot write to the events file, events are lost: {error}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_events() -> Vec<Event> {
        vec![
            Event::Role { role: Role::Backup },
            Event::PairFormed { term: 1 },
            Event::PeerLost {
                why: "silence for 500 ms".into(),
            },
            Event::Claiming { term: 2 },
            Event::WaitingForArbiter,
            Event::ClaimWon { term: 2 },
            Event::ClaimLost { term: 2 },
            Event::Live { term: 2 },
            Event::Halted {
                reason: "a \"quoted\"\nreason".into(),
            },
            Event::Lag { entries: 17, ms: 3 },
            Event::Divergence {
                position: Position {
                    exits: 60,
                    instructions: 2,
                },
                expected: "out 0x3f8".into(),
                actual: "hlt".into(),
                rip: 0xFFFF_FFFF_8100_0000,
                mode: "64-bit kernel mode".into(),
                symbol: Some("start_kernel".into()),
                last_entries: vec!["entry 7 at 60+0: tick 9 ns".into()],
            },
            Event::Ended {
                reason: "reset".into(),
                digest: "00ff".into(),
            },
            Event::Engine {
                engine: EngineKind::Soft,
                why: "it was asked for".into(),
            },
            Event::Disk {
                what: "failed".into(),
                text: "disk 0 (image): a write failed".into(),
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let before = clock::host_monotonic_ns();
        let sink = EventSink::open(&path).unwrap();
        all_events()
            .iter()
            .for_each(|event| sink.clone().emit(event));
        let after = clock::host_monotonic_ns();

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| StampedEvent::parse(line).unwrap())
            .collect();
        let events: Vec<_> = lines.iter().map(|line| line.event.clone()).collect();
        assert_eq!(events, all_events());
        assert!(lines.is_sorted_by_key(|line| line.mono_ns));
        assert!(before <= lines[0].mono_ns && lines[12].mono_ns <= after);
    }

    #[test]
    fn the_names_in_the_file_are_fixed() {
        let json = |event| {
            serde_json::to_string(&StampedEvent {
                time_ns: 5,
                mono_ns: 7,
                event,
            })
            .unwrap()
        };
        let events = all_events();
        assert_eq!(
            json(events[0].clone()),
            r#"{"time_ns":5,"mono_ns":7,"event":"role","role":"backup"}"#
        );
        assert_eq!(
            json(events[4].clone()),
            r#"{"time_ns":5,"mono_ns":7,"event":"waiting_for_arbiter"}"#
        );
        assert_eq!(
            json(events[10].clone()),
            r#"{"time_ns":5,"mono_ns":7,"event":"divergence","position":{"exits":60,"instructions":2},"expected":"out 0x3f8","actual":"hlt","rip":18446744071578845184,"mode":"64-bit kernel mode","symbol":"start_kernel","last_entries":["entry 7 at 60+0: tick 9 ns"]}"#
        );
        assert_eq!(
            json(events[12].clone()),
            r#"{"time_ns":5,"mono_ns":7,"event":"engine","engine":"soft","why":"it was asked for"}"#
        );
        assert_eq!(
            json(events.last().cloned().unwrap()),
            r#"{"time_ns":5,"mono_ns":7,"event":"disk","what":"failed","text":"disk 0 (image): a write failed"}"#
        );
    }

    #[test]
    fn threads_and_other_writers_do_not_tear_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // Two sinks of their own, as two processes would have.
                let sink = EventSink::open(&path).unwrap();
                scope.spawn(move || (0..100).for_each(|term| sink.emit(&Event::Live { term })));
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| StampedEvent::parse(line).is_ok())
                .count(),
            400
        );
    }

    #[test]
    fn a_sink_to_nowhere_and_a_full_disk_do_not_stop_the_guest() {
        EventSink::none().emit(&Event::WaitingForArbiter);
        let full = EventSink::open(Path::new("/dev/full")).unwrap();
        full.emit(&Event::WaitingForArbiter);
        full.emit(&Event::WaitingForArbiter);
        let error = EventSink::open(Path::new("/nowhere/events")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/events"), "{error}");
    }
}
