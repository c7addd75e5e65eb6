//! A log's inputs under somebody's hand: the machine stops where it is told to, and the log notices nothing.
//!
//! In: a log in memory, and a [`Bound`]. Out: what the log says, with runs cut short at the bound. What always holds: the machine
//! is told the same at the same positions, wherever it is stopped; what it prints is kept once, however often it goes
//! over the same ground.

use std::sync::Arc;

use logging_channel::{Digest, EndReason, Entry, Position};

use crate::{
    effect::Effect,
    engine::{ClockKind, Goal},
    inputs::{InputError, Inputs, Logged, Next, Situation, logged::LogSource},
};

/// A log in memory, and the place in it. Clones share the entries.
#[derive(Clone)]
pub(super) struct Tape {
    entries: Arc<[Entry]>,
    index: usize,
}

impl LogSource for Tape {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        let entry = self.entries.get(self.index).cloned();
        self.index += usize::from(entry.is_some());
        Ok(entry)
    }

    fn replayed(&mut self, _seq: u64, _suppressed: Option<Effect>) {}
}

/// Where the machine is stopped at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Here, as soon as nothing is left to be put in.
    Here,
    /// At this position, or once so many instructions have retired since the machine began.
    At { position: Position, retired: u64 },
}

/// The inputs of a [`super::TimeMachine`].
pub(super) struct Steered {
    logged: Logged<Tape>,
    entries: Arc<[Entry]>,
    bound: Bound,
    /// A stretch that was cut, and that the log would not tell again: after which exit it is, and its goal.
    stretch: Option<(u64, Goal)>,
    holds: bool,
    printed: Vec<u8>,
    /// Number of the last entry whose output was kept.
    printed_through: u64,
}

impl Steered {
    pub(super) fn new(entries: Arc<[Entry]>) -> Self {
        Self {
            logged: beginning(&entries),
            entries,
            bound: Bound::Here,
            stretch: None,
            holds: false,
            printed: Vec::new(),
            printed_through: 0,
        }
    }

    /// Where the machine is to be stopped in the next turn.
    pub(super) fn set_bound(&mut self, bound: Bound) {
        self.bound = bound;
    }

    /// Whether the last turn found that nothing is left to be put in here.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Number of the last entry that was replayed.
    pub(super) fn last_seq(&self) -> u64 {
        self.logged.last_seq()
    }

    /// The place in the log. Only where no stretch is unfinished.
    pub(super) fn place(&self) -> Option<Logged<Tape>> {
        self.stretch.is_none().then(|| self.logged.clone())
    }

    /// Goes on from an earlier place, or from the log's beginning.
    pub(super) fn go_back(&mut self, place: Option<&Logged<Tape>>) {
        self.logged = place.cloned().unwrap_or_else(|| beginning(&self.entries));
        self.stretch = None;
        self.holds = false;
    }

    /// What was printed for the first time since the last call.
    pub(super) fn take_printed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.printed)
    }

    fn keep_stretch(&mut self, goal: Goal, at: Position) {
        if matches!(goal, Goal::Interruptible { .. }) {
            self.stretch = Some((at.exits, goal));
        }
    }

    /// The rest of a stretch that was cut, unless it ended otherwise.
    fn rest_of_stretch(&mut self, at: Position, machine: &dyn Situation) -> Option<Goal> {
        let (exits, goal) = self.stretch.take()?;
        let Goal::Interruptible { limit } = goal else {
            return None;
        };
        let goes_on = exits == at.exits && at.instructions < limit && !machine.accepts_interrupts();
        goes_on.then_some(goal)
    }

    fn cut(&mut self, goal: Goal, at: Position, machine: &dyn Situation) -> Goal {
        let Bound::At { position, retired } = self.bound else {
            return goal;
        };
        let there = if position.exits == at.exits {
            position.instructions
        } else {
            u64::MAX
        };
        let by_count = machine.retired().map_or(u64::MAX, |now| {
            at.instructions
                .saturating_add(retired.saturating_sub(now).max(1))
        });
        let end = there.min(by_count);
        let cut = match goal {
            Goal::Interruptible { limit } => Goal::Interruptible {
                limit: limit.min(end),
            },
            // It would have to single-step: the position is not one of this clock's.
            Goal::Exit if machine.clock_kind() == ClockKind::Exits => goal,
            Goal::Exit if end == u64::MAX => goal,
            Goal::Exit => Goal::Instructions(end),
            Goal::Instructions(count) => Goal::Instructions(count.min(end)),
        };
        if cut != goal {
            self.keep_stretch(goal, at);
        }
        cut
    }
}

fn beginning(entries: &Arc<[Entry]>) -> Logged<Tape> {
    Logged::new(Tape {
        entries: entries.clone(),
        index: 0,
    })
}

impl Inputs for Steered {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        self.logged.time(at)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        self.holds = false;
        let goal = match self.rest_of_stretch(at, machine) {
            Some(goal) => goal,
            None => match self.logged.next(at, machine)? {
                Next::Run(goal) => goal,
                next => return Ok(next),
            },
        };
        if self.bound == Bound::Here {
            self.holds = true;
            self.keep_stretch(goal, at);
            return Ok(Next::Hold);
        }
        Ok(Next::Run(self.cut(goal, at, machine)))
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        self.logged.interrupted(at, vector)
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        let printed = match &effect {
            Effect::Print(bytes) => Some(bytes.clone()),
            Effect::SendFrame(_) | Effect::Disk(_) => None,
        };
        self.logged.output(at, effect)?;
        let seq = self.logged.last_seq();
        if seq > self.printed_through {
            self.printed_through = seq;
            self.printed.extend(printed.unwrap_or_default());
        }
        Ok(())
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.logged.digest(at, digest)
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.logged.end(at, reason, digest)
    }
}
