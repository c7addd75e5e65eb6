//! Logged inputs: answers from the log, and compares.
//!
//! In: entries, in order, from a [`LogSource`]. Out: events for the machine, at their positions. What always holds: every entry is
//! either applied or compared with what the machine did, at its own position, and the machine never runs past a
//! position up to which the log is not yet known. On a clock of instructions that is bounded: a machine that computes on
//! without the exit at which the next entry is has parted from its log, and is not waited for.

use logging_channel::{Digest, DiskOutcome, EndReason, Entry, Event, Position};

use super::{
    Divergence, InputError, Inputs, MAX_SILENT_INSTRUCTIONS, Next, apart,
    delta::{Assembly, DeltaError, PackedDelta},
    recent::RecentEntries,
};
use crate::{
    effect::Effect,
    engine::{ClockKind, Goal},
    inputs::Situation,
};

/// Where entries come from: a file, or the channel.
pub trait LogSource: Send {
    /// The next entry; waits for it. `None`: the log ends here.
    ///
    /// # Errors
    /// See [`InputError`].
    fn next(&mut self) -> Result<Option<Entry>, InputError>;

    /// The machine has replayed every entry up to and including `seq`. `suppressed` is the output, if the entry was one.
    fn replayed(&mut self, seq: u64, suppressed: Option<Effect>);

    /// What this replica's own request to a disk, of those that each replica does for itself, has read; nothing where it reads nothing. Waits until it is done.
    ///
    /// # Errors
    /// See [`InputError`]. A log alone cannot say.
    fn done_apart(&mut self, _disk: u8, _request: u64) -> Result<Vec<u8>, InputError> {
        let text = "The log does not hold what its disks did: each replica of its pair did that for itself";
        Err(InputError::Disk(text.to_owned()))
    }

    /// The log says how this request to a disk ended: what this replica's own becomes does not matter.
    ///
    /// # Errors
    /// See [`InputError`]. It may matter after all: where each replica has a copy of its own, and one of them was not changed.
    fn told(&mut self, _disk: u8, _request: u64) -> Result<(), InputError> {
        Ok(())
    }
}

/// A log as inputs. A clone goes on from the same place, if its source does.
#[derive(Clone)]
pub struct Logged<S> {
    source: S,
    next: Option<Entry>,
    last_seq: u64,
    last_at: Position,
    last_time_ns: u64,
    recent: RecentEntries,
    passes_over_digests: bool,
    /// A state delta whose `State` has not come yet.
    delta: Assembly,
}

impl<S: LogSource> Logged<S> {
    /// Inputs from the log's first entry on.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self {
            source,
            next: None,
            last_seq: 0,
            last_at: Position::default(),
            last_time_ns: 0,
            recent: RecentEntries::default(),
            passes_over_digests: false,
            delta: Assembly::default(),
        }
    }

    /// The same, but the machine's periodic digests are not asked for.
    #[must_use]
    pub fn passing_over_digests(mut self) -> Self {
        self.passes_over_digests = true;
        self
    }

    /// Where the entries come from.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Where the entries come from.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Number of the last entry that was replayed, 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The latest guest time in the log so far, nanoseconds since boot.
    #[must_use]
    pub fn last_time_ns(&self) -> u64 {
        self.last_time_ns
    }

    fn peek(&mut self, at: Position) -> Result<&Entry, InputError> {
        if self.next.is_none() {
            self.next = self.source.next()?;
        }
        self.next.as_ref().ok_or(InputError::Exhausted { at })
    }

    /// Finds the entry that belongs to what the machine just did; `actual` describes that.
    fn expect(
        &mut self,
        at: Position,
        actual: &dyn std::fmt::Display,
    ) -> Result<&Event, InputError> {
        if self.peek(at)?.at != at {
            return Err(self.parted(at, actual));
        }
        Ok(&self.expected().event)
    }

    /// The entry that was peeked at.
    fn expected(&self) -> &Entry {
        self.next.as_ref().expect("just peeked")
    }

    /// What the next entry says is not what the machine did.
    fn parted(&self, at: Position, actual: &dyn std::fmt::Display) -> InputError {
        let Entry {
            seq,
            at: place,
            event,
        } = self.expected();
        InputError::Diverged(Divergence {
            at,
            expected: format!("entry {seq} at {place}: {event}"),
            actual: actual.to_string(),
            last_entries: self.recent.lines(),
        })
    }

    /// How far to run from `at`, towards the next entry, which is at `to`.
    fn run_to(&mut self, to: Position, at: Position, clock: ClockKind) -> Result<Goal, InputError> {
        if to.exits == at.exits {
            return Ok(Goal::Instructions(to.instructions));
        }
        if clock == ClockKind::Exits {
            return Ok(Goal::Exit);
        }
        let since = if self.last_at.exits == at.exits {
            self.last_at.instructions
        } else {
            0
        };
        let limit = since + MAX_SILENT_INSTRUCTIONS;
        if at.instructions < limit {
            return Ok(Goal::Instructions(limit));
        }
        Err(self.parted(at, &"a machine that computes on without an exit"))
    }

    /// Takes the entries of a state delta at `at`. `None` if it was cut off: the machine goes on from where it stands.
    fn take_delta(&mut self, at: Position) -> Result<Option<PackedDelta>, InputError> {
        loop {
            let entry = self.peek(at)?;
            if entry.at != at || !is_delta(&entry.event) {
                self.delta.clear();
                return Ok(None);
            }
            // Done before the rest has come: the sender of a large delta may need the room.
            match self.done(None) {
                Event::Pages {
                    part,
                    ranges,
                    bytes,
                } => {
                    let added = self.delta.add(part, ranges, bytes);
                    added.map_err(|error| self.broken(at, &error))?;
                }
                Event::State { parts, bytes } => {
                    let whole = self.delta.finish(parts, bytes);
                    return whole.map(Some).map_err(|error| self.broken(at, &error));
                }
                other => unreachable!("{other} belongs to no delta"),
            }
        }
    }

    /// The delta that was just taken is none.
    fn broken(&self, at: Position, error: &DeltaError) -> InputError {
        InputError::Diverged(error.divergence(at, self.recent.lines()))
    }

    /// The entry that was peeked at says that a disk has finished a request.
    fn disk_done(
        &mut self,
        at: Position,
        disk: u8,
        request: u64,
        machine: &dyn Situation,
    ) -> Result<Next, InputError> {
        if machine.disk_request(disk, request).is_none() {
            return Err(self.parted(at, &"a machine that waits for no such request"));
        }
        let checksum = match &self.expected().event {
            Event::Disk {
                outcome: DiskOutcome::DoneApart { checksum },
                ..
            } => *checksum,
            _ => {
                self.source.told(disk, request)?;
                return Ok(Next::Apply(self.done(None)));
            }
        };
        let bytes = self.source.done_apart(disk, request)?;
        let found = apart::checksum(&bytes);
        if found != checksum {
            let actual = format!("{} other bytes, checksum {found:08x}", bytes.len());
            return Err(self.parted(at, &actual));
        }
        self.done(None);
        let outcome = DiskOutcome::Done {
            bytes: bytes.into(),
        };
        Ok(Next::Apply(Event::Disk {
            disk,
            request,
            outcome,
        }))
    }

    fn pass_over_digests(&mut self, at: Position) -> Result<(), InputError> {
        loop {
            let entry = self.peek(at)?;
            if entry.at != at || !matches!(entry.event, Event::Digest { .. }) {
                return Ok(());
            }
            self.done(None);
        }
    }

    /// The entry that was peeked at is replayed.
    fn done(&mut self, suppressed: Option<Effect>) -> Event {
        let entry = self.next.take().expect("just peeked");
        self.last_seq = entry.seq;
        self.last_at = entry.at;
        self.recent.remember(&entry);
        if let Some(guest_ns) = entry.event.guest_ns() {
            self.last_time_ns = guest_ns;
        }
        self.source.replayed(entry.seq, suppressed);
        entry.event
    }

    /// Takes the next entry and compares it with what the machine did.
    fn compare(
        &mut self,
        at: Position,
        actual: &Event,
        suppressed: Option<Effect>,
    ) -> Result<(), InputError> {
        if self.expect(at, actual)? != actual {
            return Err(self.parted(at, actual));
        }
        self.done(suppressed);
        Ok(())
    }
}

impl<S: LogSource> Inputs for Logged<S> {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        let last_ns = self.last_time_ns;
        let Event::Time { guest_ns } = *self.expect(at, &"a time read")? else {
            return Err(self.parted(at, &"a time read"));
        };
        if guest_ns < last_ns {
            return Err(self.parted(at, &already(last_ns)));
        }
        self.done(None);
        Ok(guest_ns)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        if self.passes_over_digests {
            self.pass_over_digests(at)?;
        }
        let entry = self.peek(at)?;
        if entry.at < at || (entry.at > at && machine.halted()) {
            let actual = if machine.halted() {
                "a vCPU waiting for an interrupt"
            } else {
                "a machine past that position"
            };
            return Err(self.parted(at, &actual));
        }
        if entry.at > at {
            let to = entry.at;
            return self.run_to(to, at, machine.clock_kind()).map(Next::Run);
        }
        match &entry.event {
            Event::Interrupt { .. } => Ok(Next::Interrupt),
            Event::Digest { .. } => Ok(Next::Digest),
            Event::Tick { guest_ns } | Event::Clock { guest_ns, .. }
                if *guest_ns < machine.time_ns() =>
            {
                Err(self.parted(at, &already(machine.time_ns())))
            }
            Event::Step { limit } => {
                let goal = Goal::Interruptible { limit: *limit };
                self.done(None);
                Ok(Next::Run(goal))
            }
            Event::Tick { .. }
            | Event::Clock { .. }
            | Event::Frame { .. }
            | Event::ConsoleInput { .. }
            | Event::Entropy { .. } => Ok(Next::Apply(self.done(None))),
            Event::Disk { disk, request, .. } => {
                let (disk, request) = (*disk, *request);
                self.disk_done(at, disk, request, machine)
            }
            Event::Pages { .. } | Event::State { .. } => match self.take_delta(at)? {
                Some(delta) => Ok(Next::Delta(delta)),
                None => self.next(at, machine),
            },
            Event::Time { .. } | Event::Output { .. } | Event::End { .. } => {
                Err(self.parted(at, &"a machine that did nothing of the kind"))
            }
        }
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        match vector {
            Some(vector) => self.compare(at, &Event::Interrupt { vector }, None),
            None => {
                self.expect(at, &"no interrupt")?;
                Err(self.parted(at, &"no interrupt pending, or none accepted"))
            }
        }
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        let event = Event::Output {
            kind: effect.kind(),
            digest: effect.digest(),
        };
        self.compare(at, &event, Some(effect))
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.compare(at, &Event::Digest { digest }, None)
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.compare(at, &Event::End { reason, digest }, None)
    }
}

fn is_delta(event: &Event) -> bool {
    matches!(event, Event::Pages { .. } | Event::State { .. })
}

fn already(guest_ns: u64) -> String {
    format!("guest time {guest_ns} ns already")
}

#[cfg(test)]
mod tests;
