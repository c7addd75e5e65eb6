//! The log as it arrives: what is received, replayed and still to be kept.
//!
//! Always `released ≤ received` and `executed ≤ received`; each only rises. Every queue is bounded: `outputs` by the limit on kept ones, the others
//! by the entries received and not yet executed.

use std::collections::VecDeque;

use crate::entry::{DiskOutcome, Entry, Event};

#[derive(Debug, Default)]
pub(super) struct IncomingLog {
    received: u64,
    executed: u64,
    /// The `executed` that the primary was last told.
    executed_told: u64,
    released: u64,
    ended: bool,
    /// Last sequence number and bytes of received batches not yet executed.
    batches: VecDeque<(u64, u64)>,
    unexecuted_bytes: u64,
    /// Output entries received and not yet released by the primary, in order.
    outputs: VecDeque<u64>,
    /// Entries received and not yet executed whose execution the primary waits for, in order.
    awaited: VecDeque<u64>,
}

impl IncomingLog {
    /// The primary has released its outputs up to `through`. True if it says so for the first time.
    pub(super) fn released(&mut self, through: u64) -> Result<bool, String> {
        if through > self.received {
            return Err(format!(
                "it released outputs up to {through}, but was acknowledged only {}",
                self.received
            ));
        }
        if through < self.released {
            return Err(format!(
                "its released outputs went back from {} to {through}",
                self.released
            ));
        }
        let risen = through > self.released;
        self.released = through;
        while self.outputs.front().is_some_and(|&seq| seq <= through) {
            self.outputs.pop_front();
        }
        Ok(risen)
    }

    /// Takes the next entries, all or none. No more than `kept_limit` outputs may have to be kept.
    pub(super) fn receive(&mut self, entries: &[Entry], kept_limit: usize) -> Result<(), String> {
        self.check(entries)?;
        let Some(last) = entries.last() else {
            return Ok(());
        };
        let is_output =
            |entry: &&Entry| matches!(entry.event, Event::Output { kind, .. } if kind.is_held());
        let outputs = entries.iter().filter(is_output).map(|entry| entry.seq);
        let kept = self.outputs.len() + outputs.clone().count();
        if kept > kept_limit {
            return Err(format!(
                "{kept} outputs are to be kept, more than the limit of {kept_limit}"
            ));
        }
        self.outputs.extend(outputs);
        let awaited = entries.iter().filter(|entry| is_awaited(entry));
        self.awaited.extend(awaited.map(|entry| entry.seq));
        let bytes = entries.iter().map(Entry::size_bytes).sum();
        self.batches.push_back((last.seq, bytes));
        self.unexecuted_bytes += bytes;
        self.received = last.seq;
        self.ended = matches!(last.event, Event::End { .. });
        Ok(())
    }

    fn check(&self, entries: &[Entry]) -> Result<(), String> {
        let (mut last, mut ended) = (self.received, self.ended);
        for entry in entries {
            if ended {
                return Err(format!("entry {} after the end of the log", entry.seq));
            }
            if entry.seq.checked_sub(1) != Some(last) {
                return Err(format!("entry {} after entry {last}", entry.seq));
            }
            last = entry.seq;
            ended = matches!(entry.event, Event::End { .. });
        }
        Ok(())
    }

    /// Replay has come to `through`. True if the primary waits to be told.
    pub(super) fn executed(&mut self, through: u64) -> bool {
        assert!(
            through <= self.received,
            "entry {through} was executed, but only {} were received",
            self.received
        );
        self.executed = self.executed.max(through);
        while let Some(&(last, bytes)) = self.batches.front()
            && last <= self.executed
        {
            self.unexecuted_bytes -= bytes;
            self.batches.pop_front();
        }
        let behind = self.awaited.partition_point(|&seq| seq <= self.executed);
        self.awaited.drain(..behind).len() > 0
    }

    pub(super) fn executed_all(&mut self) {
        self.executed(self.received);
    }

    pub(super) fn unexecuted(&self) -> u64 {
        self.received - self.executed
    }

    pub(super) fn unexecuted_bytes(&self) -> u64 {
        self.unexecuted_bytes
    }

    pub(super) fn has_progress_to_tell(&self) -> bool {
        self.executed > self.executed_told
    }

    /// `received` and `executed`, for an ack.
    pub(super) fn progress_to_tell(&mut self) -> (u64, u64) {
        self.executed_told = self.executed;
        (self.received, self.executed)
    }
}

/// A request that every replica performs for itself: the primary may hold a write back until the backup has read what is under it.
fn is_awaited(entry: &Entry) -> bool {
    let outcome = match &entry.event {
        Event::Disk { outcome, .. } => outcome,
        _ => return false,
    };
    matches!(outcome, DiskOutcome::DoneApart { .. })
}
