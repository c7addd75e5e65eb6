//! Events by kind: their names in commands, reports and statistics, and each event in words.
//!
//! In: an [`Event`]. Out: its [`EventKind`], its payload's size, a line of text without the payload.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DiskOutcome, Event, OutputKind, PageRange};

/// What kind of event an entry tells; declared in the order of the log format's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// [`Event::Time`].
    Time,
    /// [`Event::Tick`].
    Tick,
    /// [`Event::Interrupt`].
    Interrupt,
    /// [`Event::Frame`].
    Frame,
    /// [`Event::ConsoleInput`].
    ConsoleInput,
    /// [`Event::Entropy`].
    Entropy,
    /// [`Event::Step`].
    Step,
    /// [`Event::Output`].
    Output,
    /// [`Event::Digest`].
    Digest,
    /// [`Event::End`].
    End,
    /// [`Event::Clock`].
    Clock,
    /// [`Event::Pages`].
    Pages,
    /// [`Event::State`].
    State,
    /// [`Event::Disk`].
    Disk,
}

impl EventKind {
    /// Every kind, in the order of the log format.
    pub const ALL: [Self; 14] = [
        Self::Time,
        Self::Tick,
        Self::Interrupt,
        Self::Frame,
        Self::ConsoleInput,
        Self::Entropy,
        Self::Step,
        Self::Output,
        Self::Digest,
        Self::End,
        Self::Clock,
        Self::Pages,
        Self::State,
        Self::Disk,
    ];

    /// As in `--kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Tick => "tick",
            Self::Interrupt => "interrupt",
            Self::Frame => "frame",
            Self::ConsoleInput => "console-input",
            Self::Entropy => "entropy",
            Self::Step => "step",
            Self::Output => "output",
            Self::Digest => "digest",
            Self::End => "end",
            Self::Clock => "clock",
            Self::Pages => "pages",
            Self::State => "state",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not the name of a kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of event; there are {kinds}", kinds = EventKind::ALL.map(EventKind::name).join(", "))]
pub struct UnknownKind(String);

impl std::str::FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

impl Event {
    /// What kind of event it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Time { .. } => EventKind::Time,
            Self::Tick { .. } => EventKind::Tick,
            Self::Interrupt { .. } => EventKind::Interrupt,
            Self::Frame { .. } => EventKind::Frame,
            Self::ConsoleInput { .. } => EventKind::ConsoleInput,
            Self::Entropy { .. } => EventKind::Entropy,
            Self::Step { .. } => EventKind::Step,
            Self::Output { .. } => EventKind::Output,
            Self::Digest { .. } => EventKind::Digest,
            Self::End { .. } => EventKind::End,
            Self::Clock { .. } => EventKind::Clock,
            Self::Pages { .. } => EventKind::Pages,
            Self::State { .. } => EventKind::State,
            Self::Disk { .. } => EventKind::Disk,
        }
    }

    /// Bytes that travel in the event, of an input or a state delta; 0 where there are none.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Frame { bytes }
            | Self::ConsoleInput { bytes }
            | Self::Entropy { bytes }
            | Self::State { bytes, .. } => bytes.len(),
            Self::Disk {
                outcome: DiskOutcome::Done { bytes },
                ..
            } => bytes.len(),
            // A range takes at most 14 bytes encoded, and 16 in memory.
            Self::Pages { ranges, bytes, .. } => {
                ranges.len() * size_of::<PageRange>() + bytes.len()
            }
            _ => 0,
        }
    }

    /// The guest time that the event tells, nanoseconds since boot.
    #[must_use]
    pub fn guest_ns(&self) -> Option<u64> {
        match self {
            Self::Time { guest_ns } | Self::Tick { guest_ns } | Self::Clock { guest_ns, .. } => {
                Some(*guest_ns)
            }
            _ => None,
        }
    }
}

/// One line, without the payload.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Time { guest_ns } | Self::Tick { guest_ns } => write!(f, "{kind} {guest_ns} ns"),
            Self::Clock {
                guest_ns,
                ps_per_instruction,
            } => write!(
                f,
                "{kind} {guest_ns} ns, {ps_per_instruction} ps an instruction"
            ),
            Self::Interrupt { vector } => write!(f, "{kind} vector {vector:#04x}"),
            Self::Frame { bytes } | Self::ConsoleInput { bytes } | Self::Entropy { bytes } => {
                write!(f, "{kind} of {} bytes", bytes.len())
            }
            Self::Pages {
                part,
                ranges,
                bytes,
            } => {
                let pages: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
                let length = bytes.len();
                write!(f, "{kind}, part {part}: {pages} pages in {length} bytes")
            }
            Self::State { parts, bytes } => {
                let length = bytes.len();
                write!(f, "{kind} after {parts} parts, {length} bytes")
            }
            Self::Step { limit } => write!(f, "{kind} to at most instruction {limit}"),
            Self::Output {
                kind: OutputKind::Frame,
                digest,
            } => write!(f, "{kind} of a frame, digest {digest}"),
            Self::Output {
                kind: OutputKind::Console,
                digest,
            } => write!(f, "{kind} on the console, digest {digest}"),
            Self::Output {
                kind: OutputKind::Disk,
                digest,
            } => write!(f, "{kind} to a disk, digest {digest}"),
            Self::Output {
                kind: OutputKind::DiskRead,
                digest,
            } => write!(f, "{kind}: a disk is read, digest {digest}"),
            Self::Disk {
                disk,
                request,
                outcome,
            } => {
                write!(f, "{kind} {disk} has ")?;
                match outcome {
                    DiskOutcome::Done { bytes } if bytes.is_empty() => {
                        write!(f, "done request {request}")
                    }
                    DiskOutcome::Done { bytes } => {
                        write!(f, "read {} bytes for request {request}", bytes.len())
                    }
                    DiskOutcome::DoneApart { checksum } => write!(
                        f,
                        "done request {request}, as each replica does, checksum {checksum:08x}"
                    ),
                    DiskOutcome::Failed => write!(f, "failed at request {request}"),
                    DiskOutcome::Unsupported => write!(f, "no such request as {request}"),
                }
            }
            Self::Digest { digest } => write!(f, "{kind} {digest}"),
            Self::End { reason, digest } => write!(f, "{kind} {reason:?}, digest {digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_that_is_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            let json = serde_json::to_value(kind).expect("a name");
            assert_eq!(json, kind.name());
        }
        let error = "ticks".parse::<EventKind>().expect_err("no such kind");
        assert!(
            error.to_string().contains("\"ticks\" is no kind"),
            "{error}"
        );
    }

    #[test]
    fn kinds_stand_in_their_order() {
        for (number, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
