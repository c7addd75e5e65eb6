//! The last entries that were replayed, for the report of a divergence.
//!
//! In: every replayed entry. Out: the last few as lines of text. What always holds: remembering one allocates nothing.

use logging_channel::{DiskOutcome, Entry, Event, EventKind, Position};

/// How many are remembered.
pub const RECENT_ENTRIES: usize = 8;

/// An entry without its payload.
#[derive(Clone, Debug)]
struct Remembered {
    seq: u64,
    at: Position,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Event(Event),
    Payload(EventKind, usize),
}

/// The last entries that were replayed.
#[derive(Clone, Debug, Default)]
pub struct RecentEntries {
    ring: [Option<Remembered>; RECENT_ENTRIES],
    /// Where the oldest one is, and the next one goes.
    next: usize,
}

impl RecentEntries {
    /// Remembers `entry`, and forgets another.
    pub fn remember(&mut self, entry: &Entry) {
        let what = match &entry.event {
            Event::Frame { .. } | Event::ConsoleInput { .. } | Event::Entropy { .. } => {
                What::Payload(entry.event.kind(), entry.event.payload_bytes())
            }
            Event::Disk {
                outcome: DiskOutcome::Done { bytes },
                ..
            } if !bytes.is_empty() => What::Payload(EventKind::Disk, bytes.len()),
            plain => What::Event(plain.clone()),
        };
        self.ring[self.next] = Some(Remembered {
            seq: entry.seq,
            at: entry.at,
            what,
        });
        self.next = (self.next + 1) % RECENT_ENTRIES;
    }

    /// A line for each, the oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (newer, older) = self.ring.split_at(self.next);
        let entries = older.iter().chain(newer).flatten();
        entries.map(ToString::to_string).collect()
    }
}

impl std::fmt::Display for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seq, at, what } = self;
        match what {
            What::Event(event) => write!(f, "entry {seq} at {at}: {event}"),
            What::Payload(kind, bytes) => write!(f, "entry {seq} at {at}: {kind} of {bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entries_are_told_oldest_first_and_without_payload() {
        let mut recent = RecentEntries::default();
        assert_eq!(recent.lines(), [""; 0]);
        for seq in 1..=RECENT_ENTRIES as u64 + 2 {
            let event = match seq % 2 {
                0 => Event::Frame { bytes: vec![0; 60] },
                _ => Event::Interrupt { vector: 32 },
            };
            let at = Position {
                exits: seq,
                instructions: 1,
            };
            recent.remember(&Entry { seq, at, event });
        }
        let lines = recent.lines();
        assert_eq!(lines.len(), RECENT_ENTRIES);
        assert_eq!(lines[0], "entry 3 at 3+1: interrupt vector 0x20");
        assert_eq!(lines[7], "entry 10 at 10+1: frame of 60 bytes");
    }
}
