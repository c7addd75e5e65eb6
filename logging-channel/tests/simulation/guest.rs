//! A toy deterministic machine: its state is a hash chain over its entries, its outputs are
//! derived from its state.

use logging_channel::{Digest, EndReason, Entry, Event, OutputKind, Position};

use crate::random::{Random, mix};

#[derive(Default)]
pub struct Guest {
    state: u64,
    pub last_seq: u64,
    pub ended: bool,
}

impl Guest {
    /// Runs on by one entry, of which chance decides the kind.
    pub fn record(&mut self, random: &mut Random, end: bool) -> Entry {
        let event = match random.between(0, 9) {
            _ if end => Event::End {
                reason: EndReason::Halted,
                digest: self.digest(),
            },
            0..=2 => Event::Output {
                kind: OutputKind::Frame,
                digest: self.digest(),
            },
            3..=5 => Event::Frame {
                bytes: random.next().to_le_bytes().to_vec(),
            },
            _ => Event::Tick {
                guest_ns: random.next(),
            },
        };
        let entry = Entry {
            seq: self.last_seq + 1,
            at: Position {
                exits: self.last_seq + 1,
                instructions: 0,
            },
            event,
        };
        self.replay(&entry).expect("a guest agrees with itself");
        entry
    }

    /// Runs on by one given entry. Gives the state after it.
    pub fn replay(&mut self, entry: &Entry) -> Result<u64, String> {
        if entry.seq != self.last_seq + 1 || self.ended {
            return Err(format!("entry {} after {}", entry.seq, self.last_seq));
        }
        let input = match &entry.event {
            Event::Tick { guest_ns } => *guest_ns,
            Event::Frame { bytes } => bytes.iter().fold(1, |hash, &b| mix(hash ^ u64::from(b))),
            Event::Output { digest, .. } | Event::End { digest, .. } => {
                if *digest != self.digest() {
                    return Err(format!("another output at entry {}", entry.seq));
                }
                2
            }
            other => return Err(format!("{other:?} is nothing the toy guest records")),
        };
        self.ended = matches!(entry.event, Event::End { .. });
        self.last_seq = entry.seq;
        self.state = mix(self.state.wrapping_add(input) ^ entry.seq);
        Ok(self.state)
    }

    pub fn state(&self) -> u64 {
        self.state
    }

    fn digest(&self) -> Digest {
        let half = self.state.to_le_bytes();
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&half);
        digest[8..].copy_from_slice(&half);
        Digest(digest)
    }
}
