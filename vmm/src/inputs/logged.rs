//! Logged inputs: answers from the log, and compares.
//!
//! In: entries, in order, from a [`LogSource`]. Out: events for the machine, at their positions. What always holds: every entry is
//! either applied or compared with what the machine did, at its own position, and the machine never runs past a
//! position up to which the log is not yet known. On a clock of instructions that is bounded: a machine that computes on
//! without the exit at which the next entry is has parted from its log, and is not waited for.

use logging_channel::{Digest, EndReason, Entry, Event, Position};

use super::{Divergence, InputError, Inputs, MAX_SILENT_INSTRUCTIONS, Next};
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
}

/// A log as inputs.
pub struct Logged<S> {
    source: S,
    next: Option<Entry>,
    last_seq: u64,
    last_at: Position,
    last_time_ns: u64,
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
        }
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

    /// Takes the entry that belongs to what the machine just did; `actual` describes that.
    fn expect(&mut self, at: Position, actual: &dyn Fn() -> String) -> Result<Entry, InputError> {
        let entry = self.peek(at)?;
        if entry.at != at {
            return Err(divergence(entry, at, actual()).into());
        }
        Ok(self.next.take().expect("just peeked"))
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
        let actual = "a machine that computes on without an exit".to_owned();
        Err(divergence(self.peek(at)?, at, actual).into())
    }

    fn replayed(&mut self, entry: &Entry, suppressed: Option<Effect>) {
        self.last_seq = entry.seq;
        self.last_at = entry.at;
        if let Event::Time { guest_ns } | Event::Tick { guest_ns } | Event::Clock { guest_ns, .. } =
            entry.event
        {
            self.last_time_ns = guest_ns;
        }
        self.source.replayed(entry.seq, suppressed);
    }

    /// Takes the next entry and compares it with what the machine did.
    fn compare(
        &mut self,
        at: Position,
        actual: &Event,
        suppressed: Option<Effect>,
    ) -> Result<(), InputError> {
        let entry = self.expect(at, &|| describe(actual))?;
        if entry.event != *actual {
            return Err(divergence(&entry, at, describe(actual)).into());
        }
        self.replayed(&entry, suppressed);
        Ok(())
    }
}

fn divergence(entry: &Entry, at: Position, actual: String) -> Divergence {
    Divergence {
        at,
        expected: format!(
            "entry {} at {}: {}",
            entry.seq,
            entry.at,
            describe(&entry.event)
        ),
        actual,
    }
}

/// An event in words, without its payload.
fn describe(event: &Event) -> String {
    match event {
        Event::Frame { bytes } => format!("a received frame of {} bytes", bytes.len()),
        Event::ConsoleInput { bytes } => format!("{} bytes of console input", bytes.len()),
        Event::Entropy { bytes } => format!("{} bytes of entropy", bytes.len()),
        other => format!("{other:?}"),
    }
}

impl<S: LogSource> Inputs for Logged<S> {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        let last_ns = self.last_time_ns;
        let entry = self.expect(at, &|| "a time read".to_owned())?;
        let Event::Time { guest_ns } = entry.event else {
            return Err(divergence(&entry, at, "a time read".to_owned()).into());
        };
        if guest_ns < last_ns {
            return Err(divergence(&entry, at, format!("guest time {last_ns} ns already")).into());
        }
        self.replayed(&entry, None);
        Ok(guest_ns)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        let entry = self.peek(at)?;
        if entry.at < at || (entry.at > at && machine.halted()) {
            let actual = if machine.halted() {
                "a vCPU waiting for an interrupt"
            } else {
                "a machine past that position"
            };
            return Err(divergence(entry, at, actual.to_owned()).into());
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
                let now_ns = machine.time_ns();
                Err(divergence(entry, at, format!("guest time {now_ns} ns already")).into())
            }
            Event::Step { limit } => {
                let goal = Goal::Interruptible { limit: *limit };
                let entry = self.next.take().expect("just peeked");
                self.replayed(&entry, None);
                Ok(Next::Run(goal))
            }
            Event::Tick { .. }
            | Event::Clock { .. }
            | Event::Frame { .. }
            | Event::ConsoleInput { .. }
            | Event::Entropy { .. } => {
                let entry = self.next.take().expect("just peeked");
                self.replayed(&entry, None);
                Ok(Next::Apply(entry.event))
            }
            Event::Time { .. } | Event::Output { .. } | Event::End { .. } => Err(divergence(
                entry,
                at,
                "a machine that did nothing of the kind".to_owned(),
            )
            .into()),
        }
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        match vector {
            Some(vector) => self.compare(at, &Event::Interrupt { vector }, None),
            None => {
                let entry = self.expect(at, &|| "no interrupt".to_owned())?;
                Err(divergence(
                    &entry,
                    at,
                    "no interrupt pending, or none accepted".to_owned(),
                )
                .into())
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
