//! The primary's log on its way out, and the output rule.
//!
//! ```text
//!  appended → pending → in flight → acknowledged
//!             (≤ flush_interval)   └─ outputs among them may leave → released
//! ```
//!
//! Sequence numbers only rise, and always
//! `released ≤ permitted ≤ acked ≤ transmitted ≤ appended` until the primary runs alone, which
//! permits everything.

use std::collections::VecDeque;
use std::time::Duration;

use crate::entry::{Entry, Event};

#[derive(Debug, Default)]
pub(super) struct OutgoingLog {
    appended: u64,
    transmitted: u64,
    acked: u64,
    executed: u64,
    permitted: u64,
    released: u64,
    /// The `released` that the backup was last told.
    released_told: u64,
    ended: bool,

    pending: VecDeque<Entry>,
    pending_bytes: u64,
    in_flight: VecDeque<Batch>,
    in_flight_bytes: u64,
    /// Appended while nobody listens.
    held_bytes: u64,
    /// Entries of held outputs not yet released, in order.
    outputs: VecDeque<u64>,
    /// When pending entries or a risen `released` must be sent.
    flush_at: Option<Duration>,
}

#[derive(Debug)]
struct Batch {
    through: u64,
    bytes: u64,
    sent_at: Duration,
}

impl OutgoingLog {
    /// Takes `entry`, to be sent by `flush_at`. True if it must be sent at once.
    pub(super) fn append(&mut self, entry: Entry, flush_at: Duration) -> bool {
        let urgent = self.count(&entry);
        self.pending_bytes += entry.size_bytes();
        self.pending.push_back(entry);
        self.flush_by(flush_at);
        urgent
    }

    /// Takes note of `entry`; it will not be sent.
    pub(super) fn append_unsent(&mut self, entry: &Entry) {
        self.count(entry);
        self.held_bytes += entry.size_bytes();
    }

    fn count(&mut self, entry: &Entry) -> bool {
        assert_eq!(entry.seq, self.appended + 1, "the log has no gap");
        assert!(!self.ended, "End is the last entry of a log");
        self.appended = entry.seq;
        self.ended = matches!(entry.event, Event::End { .. });
        let output = matches!(entry.event, Event::Output { kind, .. } if kind.is_held());
        if output {
            self.outputs.push_back(entry.seq);
        }
        output || self.ended
    }

    fn flush_by(&mut self, at: Duration) {
        self.flush_at = Some(self.flush_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// The next message's entries and `released_through`, until everything is told.
    pub(super) fn next_batch(
        &mut self,
        batch_bytes: u64,
        now: Duration,
    ) -> Option<(Vec<Entry>, u64)> {
        self.flush_at = None;
        if self.pending.is_empty() && self.released_told == self.released {
            return None;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.pending.front()
            && (entries.is_empty() || bytes + entry.size_bytes() <= batch_bytes)
        {
            bytes += entry.size_bytes();
            entries.extend(self.pending.pop_front());
        }
        self.released_told = self.released;
        if let Some(last) = entries.last() {
            self.transmitted = last.seq;
            self.pending_bytes -= bytes;
            self.in_flight_bytes += bytes;
            self.in_flight.push_back(Batch {
                through: last.seq,
                bytes,
                sent_at: now,
            });
        }
        Some((entries, self.released))
    }

    /// The backup acknowledges. Returns when the newest batch it proves to have heard was sent.
    pub(super) fn acknowledge(
        &mut self,
        received: u64,
        executed: u64,
    ) -> Result<Option<Duration>, String> {
        if received > self.transmitted {
            return Err(format!(
                "it acknowledges entry {received}, but only {} were sent",
                self.transmitted
            ));
        }
        if received < self.acked || executed < self.executed {
            return Err(format!(
                "its ack went back from {}/{} to {received}/{executed}",
                self.acked, self.executed
            ));
        }
        if executed > received {
            return Err(format!(
                "it executed entry {executed}, but received only {received}"
            ));
        }
        self.acked = received;
        self.executed = executed;
        let mut sent_at = None;
        while let Some(batch) = self.in_flight.front()
            && batch.through <= received
        {
            self.in_flight_bytes -= batch.bytes;
            sent_at = Some(batch.sent_at);
            self.in_flight.pop_front();
        }
        Ok(sent_at)
    }

    /// The output rule: a new limit up to which outputs may leave, if there are any below it.
    pub(super) fn permit_acknowledged(&mut self) -> Option<u64> {
        self.permit(self.acked)
    }

    /// Alone: nobody needs to have anything.
    pub(super) fn permit_all(&mut self) -> Option<u64> {
        self.permit(self.appended)
    }

    fn permit(&mut self, through: u64) -> Option<u64> {
        let below = self.outputs.partition_point(|&seq| seq <= through);
        let last = *self.outputs.get(below.checked_sub(1)?)?;
        if last <= self.permitted {
            return None;
        }
        self.permitted = through;
        Some(through)
    }

    /// Outputs up to `through` have left; the backup is to be told by `flush_at`.
    pub(super) fn released(&mut self, through: u64, flush_at: Duration) {
        assert!(
            through <= self.permitted,
            "output {through} left before its entry was acknowledged ({})",
            self.permitted
        );
        if through <= self.released {
            return;
        }
        self.released = through;
        while self.outputs.front().is_some_and(|&seq| seq <= through) {
            self.outputs.pop_front();
        }
        self.flush_by(flush_at);
    }

    /// Nobody listens any more: what waits to be sent or acknowledged only takes room.
    pub(super) fn stop_sending(&mut self) {
        self.held_bytes = self.backlog_bytes();
        self.pending = VecDeque::new();
        self.in_flight = VecDeque::new();
        self.pending_bytes = 0;
        self.in_flight_bytes = 0;
        self.flush_at = None;
    }

    pub(super) fn backlog_bytes(&self) -> u64 {
        self.pending_bytes + self.in_flight_bytes + self.held_bytes
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    pub(super) fn held_outputs(&self) -> usize {
        self.outputs.len()
    }

    pub(super) fn flush_at(&self) -> Option<Duration> {
        self.flush_at
    }

    pub(super) fn executed(&self) -> u64 {
        self.executed
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        self.acked == self.appended
    }
}
