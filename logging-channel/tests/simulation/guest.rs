//! A toy deterministic machine: its state is a hash chain over its entries; its outputs and its requests to the disk are
//! derived from its state.

use std::collections::VecDeque;

use logging_channel::{Digest, DiskOutcome, EndReason, Entry, Event, OutputKind, Position};

use crate::random::{Random, mix};
use crate::table::{Block, Request, Table};

/// What the disk answered: which request, and what was read unless it failed.
pub type Answer = (u64, Option<Vec<Block>>);

#[derive(Default)]
pub struct Guest {
    state: u64,
    pub last_seq: u64,
    pub ended: bool,
    pub table: Table,
    /// What the guest reads is not in the log.
    pub reads_apart: bool,
}

/// What the guest did at an entry, as far as somebody else has to act.
#[derive(Debug)]
pub enum Did {
    Nothing,
    Sent(Digest),
    /// Put into the table. It is issued at an entry of its own.
    Made(Request),
    Issued(Request),
    /// With what was read, unless it failed.
    Completed(Request, Option<Vec<Block>>),
}

/// Why an entry cannot be replayed.
#[derive(Debug)]
pub enum Divergence {
    /// This replica read something else than the other.
    Read(String),
    Entry(String),
}

impl Guest {
    pub fn new(reads_apart: bool, ignores_conflicts: bool) -> Self {
        let mut guest = Self {
            reads_apart,
            ..Self::default()
        };
        guest.table.ignores_conflicts = ignores_conflicts;
        guest
    }

    /// Runs on by one entry, of which chance decides the kind. Takes from `answers` what it is told of.
    pub fn record(
        &mut self,
        random: &mut Random,
        answers: &mut VecDeque<Answer>,
        end: bool,
    ) -> Result<(Entry, Did), Divergence> {
        let mut own = None;
        let event = if let Some(request) = self.table.ready() {
            output(OutputKind::Disk, request.digest())
        } else if end {
            let (reason, digest) = (EndReason::Halted, self.digest());
            Event::End { reason, digest }
        } else if random.percent(60)
            && let Some((request, read)) = answers.pop_front()
        {
            let outcome = self.outcome(request, read.as_deref())?;
            own = read;
            Event::Disk {
                disk: 0,
                request,
                outcome,
            }
        } else {
            self.something(random)
        };
        let entry = Entry {
            seq: self.last_seq + 1,
            at: Position {
                exits: self.last_seq + 1,
                instructions: 0,
            },
            event,
        };
        let did = self.replay(&entry, own.as_deref())?;
        Ok((entry, did))
    }

    fn something(&self, random: &mut Random) -> Event {
        match random.between(0, 9) {
            0..=2 => output(OutputKind::Frame, self.digest()),
            3..=5 => Event::Frame {
                bytes: random.next().to_le_bytes().to_vec(),
            },
            _ => Event::Tick {
                guest_ns: random.next(),
            },
        }
    }

    fn outcome(&self, id: u64, read: Option<&[Block]>) -> Result<DiskOutcome, Divergence> {
        let request = self.under_way(id)?;
        Ok(match read {
            None => DiskOutcome::Failed,
            Some(blocks) if self.reads_apart && request.operation.is_read() => {
                let checksum = checksum(blocks);
                DiskOutcome::DoneApart { checksum }
            }
            Some(blocks) => DiskOutcome::Done {
                bytes: blocks
                    .iter()
                    .flat_map(|b| b.to_le_bytes())
                    .collect::<Vec<u8>>()
                    .into(),
            },
        })
    }

    fn under_way(&self, id: u64) -> Result<&Request, Divergence> {
        let missing =
            || Divergence::Entry(format!("(e) request {id} completes, but is not under way"));
        self.table.under_way(id).ok_or_else(missing)
    }

    /// Runs on by one given entry. `own` is what this replica read for itself, if the entry needs it.
    pub fn replay(&mut self, entry: &Entry, own: Option<&[Block]>) -> Result<Did, Divergence> {
        let seq = entry.seq;
        if seq != self.last_seq + 1 || self.ended {
            let order = format!("entry {seq} after {}", self.last_seq);
            return Err(Divergence::Entry(order));
        }
        let (input, mut did) = self.apply(entry, own)?;
        self.last_seq = seq;
        self.state = mix(self.state.wrapping_add(input) ^ seq);
        if matches!(entry.event, Event::Tick { .. })
            && let Some(request) = self.table.make(self.state)
        {
            did = Did::Made(request);
        }
        Ok(did)
    }

    fn apply(&mut self, entry: &Entry, own: Option<&[Block]>) -> Result<(u64, Did), Divergence> {
        match &entry.event {
            Event::Tick { guest_ns } => Ok((*guest_ns, Did::Nothing)),
            Event::Frame { bytes } => Ok((hash(bytes.iter().map(|&b| b.into())), Did::Nothing)),
            Event::Output { kind, digest } => Ok((2, self.put_out(*kind, *digest)?)),
            Event::End { digest, .. } if *digest == self.digest() => {
                self.ended = true;
                Ok((3, Did::Nothing))
            }
            Event::Disk {
                request, outcome, ..
            } => self.complete(*request, outcome, own),
            other => {
                let what = format!("{other:?} is not what happens to the guest here");
                Err(Divergence::Entry(what))
            }
        }
    }

    fn put_out(&mut self, kind: OutputKind, digest: Digest) -> Result<Did, Divergence> {
        let ready = self.table.ready().map(Request::digest);
        match kind {
            OutputKind::Disk if ready == Some(digest) => {
                Ok(self.table.issue().map_or(Did::Nothing, Did::Issued))
            }
            OutputKind::Frame if ready.is_none() && digest == self.digest() => {
                Ok(Did::Sent(digest))
            }
            _ => {
                let other = format!("another output after entry {}", self.last_seq);
                Err(Divergence::Entry(other))
            }
        }
    }

    fn complete(
        &mut self,
        id: u64,
        outcome: &DiskOutcome,
        own: Option<&[Block]>,
    ) -> Result<(u64, Did), Divergence> {
        self.under_way(id)?;
        let read = match (outcome, own) {
            (DiskOutcome::Done { bytes }, _) => Some(to_blocks(bytes)),
            (DiskOutcome::DoneApart { checksum: expected }, Some(own)) => {
                if checksum(own) != *expected {
                    let other = format!("request {id} reads something else here");
                    return Err(Divergence::Read(other));
                }
                Some(own.to_vec())
            }
            (DiskOutcome::Failed, _) => None,
            other => return Err(Divergence::Entry(format!("{other:?}"))),
        };
        let input = read
            .as_ref()
            .map_or(5, |blocks| hash(blocks.iter().copied()));
        let did = match self.table.complete(id) {
            Some(request) => Did::Completed(request, read),
            None => Did::Nothing,
        };
        Ok((input ^ id, did))
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

fn output(kind: OutputKind, digest: Digest) -> Event {
    Event::Output { kind, digest }
}

fn hash(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(1, |hash, word| mix(hash ^ word))
}

fn checksum(blocks: &[Block]) -> u32 {
    let hash = hash(blocks.iter().copied());
    u32::try_from(hash >> 32).expect("32 bits")
}

fn to_blocks(bytes: &[u8]) -> Vec<Block> {
    let words = bytes.chunks_exact(8);
    words
        .map(|word| Block::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect()
}
