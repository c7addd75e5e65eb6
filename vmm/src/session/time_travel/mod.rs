//! A replay that goes to any position of its log, forwards and backwards.
//!
//! In: a machine that has just booted, its log in memory, and where to go. Out: the machine as it was there. What always holds: whatever the way
//! there, the machine at a moment is the same machine, to the last bit.
//!
//! ```text
//!              advance, run_to ──►                          run_to(earlier), step_back
//!   snapshot ───────┬──────────── snapshot ──────┬──── now ────┐
//!      ▲            │                 ▲          │             │ the nearest snapshot not after it, or a machine
//!      └────────────┴─────────────────┴──────────┴─────────────┘ booted anew; from there forwards
//! ```
//!
//! A position is passed through in two moments at least:
//!
//! - *arrival*: the machine has reached it, the exit there is answered, nothing else was put in. [`TimeMachine::run_to`] stops there.
//! - *departure*: everything that the log has for this position is put in, an interrupt delivered; the next thing is
//!   an instruction. [`TimeMachine::settle`] goes there, and steps lead from departure to departure: a step over HLT
//!   leads to the first instruction of the handler that wakes the vCPU.

mod breakpoints;
mod origin;
mod snapshots;
mod steer;

use std::sync::Arc;

use logging_channel::{Entry, Position};

pub use breakpoints::{Found, Halt, Search, Stops, Watched};
pub use origin::{Described, Origin};
pub use snapshots::Limits;

use super::{
    replica::{Ending, Replica, ReplicaError},
    setup::SetupError,
};
use crate::{
    engine::{Checkpoint, ClockKind, EngineError, checkpoint::Point},
    inputs::{Divergence, InputError, Situation},
    machine::{Machine, state::RestoreError},
};
use snapshots::Snapshots;
use steer::{Bound, Steered};

/// Who goes back step by step starts each time from the nearest snapshot: one this close behind costs less to replay from than
/// looking at memory does.
const NEAR_INSTRUCTIONS: u64 = 2_000_000;

/// Where a way through the log came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The machine stands there, and has just arrived.
    Reached,
    /// There is no such moment: the guest exited before, or the engine cannot stop there. The machine stands at the next that there is.
    Passed,
    /// The guest ended before.
    Ended(Ending),
    /// The log ends before.
    LogEnds,
    /// The machine does not follow its log. It is left as it was when that was found.
    Diverged(Divergence),
}

/// Why a replay cannot go where it should.
#[derive(Debug, thiserror::Error)]
pub enum TravelError {
    /// See [`ReplicaError`].
    #[error(transparent)]
    Replica(ReplicaError),
    /// See [`RestoreError`].
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// See [`SetupError`].
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Neither a snapshot nor a way to boot anew.
    #[error(
        "Cannot go back from {at} to {to}: this engine keeps no earlier states; try --engine soft"
    )]
    NoWayBack {
        /// Where the machine stands.
        at: Position,
        /// Where it should go.
        to: Position,
    },
}

/// A replay that goes anywhere.
pub struct TimeMachine<E: Checkpoint> {
    replica: Replica<E, Steered>,
    snapshots: Option<Snapshots<E::Saved>>,
    origin: Option<Box<dyn Origin<E>>>,
    /// Nothing was put in since the machine arrived where it stands.
    fresh: bool,
    /// Why it cannot go on from here.
    stop: Option<Arrival>,
    /// A snapshot is taken once so many instructions have retired.
    wish: Option<u64>,
}

impl<E: Checkpoint> TimeMachine<E> {
    /// A replay of `entries`, the whole log from its first entry on, by a machine that has just booted. It keeps snapshots within
    /// `limits`, if its engine can; without limits, none.
    #[must_use]
    pub fn new(machine: Machine<E>, entries: Arc<[Entry]>, limits: Option<Limits>) -> Self {
        Self {
            replica: Replica::new(machine, Steered::new(entries)),
            snapshots: limits.map(Snapshots::new),
            origin: None,
            fresh: true,
            stop: None,
            wish: None,
        }
    }

    /// With a way to boot anew, where there is no snapshot to go back to.
    #[must_use]
    pub fn with_origin(mut self, origin: Box<dyn Origin<E>>) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Where the machine stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.machine().position()
    }

    /// The machine as it stands.
    #[must_use]
    pub fn machine(&self) -> &Machine<E> {
        self.replica.machine()
    }

    /// The machine as it stands: for what an engine must be asked with `&mut`. Whoever changes it replays something else.
    #[must_use]
    pub fn machine_mut(&mut self) -> &mut Machine<E> {
        self.replica.machine_mut()
    }

    /// Number of the last entry that was replayed, 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.replica.inputs().last_seq()
    }

    /// Why the machine cannot go on from here, if it was tried.
    #[must_use]
    pub fn stopped(&self) -> Option<&Arrival> {
        self.stop.as_ref()
    }

    /// What the guest printed since the last call, where it went for the first time.
    #[must_use]
    pub fn take_printed(&mut self) -> Vec<u8> {
        self.replica.inputs_mut().take_printed()
    }

    /// Snapshots that are kept, and what their memory takes, bytes.
    #[must_use]
    pub fn kept(&self) -> (usize, u64) {
        let kept = self.snapshots.as_ref();
        kept.map_or((0, 0), |kept| (kept.count(), kept.bytes()))
    }

    /// Goes to the arrival at `to`, forwards or backwards.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn run_to(&mut self, to: Position) -> Result<Arrival, TravelError> {
        loop {
            if let Some(arrival) = self.advance(to, u64::MAX)? {
                return Ok(arrival);
            }
        }
    }

    /// Goes on to where there is no further: the guest's end, the log's, or a divergence.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn run_to_end(&mut self) -> Result<Arrival, TravelError> {
        self.run_to(Position {
            exits: u64::MAX,
            instructions: u64::MAX,
        })
    }

    /// Goes towards the arrival at `to`, but only for about so many `instructions`. `None`: not there yet. If `to` is behind, it first goes
    /// back as far as it must.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn advance(
        &mut self,
        to: Position,
        instructions: u64,
    ) -> Result<Option<Arrival>, TravelError> {
        let at = self.position();
        if to < at || (to == at && !self.fresh) {
            self.go_back(to)?;
        }
        let until = self.retired().saturating_add(instructions);
        loop {
            let at = self.position();
            if at == to && self.fresh {
                return Ok(Some(Arrival::Reached));
            }
            if let Some(stop) = &self.stop {
                return Ok(Some(stop.clone()));
            }
            if at >= to {
                return Ok(Some(Arrival::Passed));
            }
            if self.retired() >= until {
                return Ok(None);
            }
            self.turn(Bound::At {
                position: to,
                retired: until,
            })?;
        }
    }

    /// Goes to the departure from here. `None` if it stands there, else why there is none.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn settle(&mut self) -> Result<Option<Arrival>, TravelError> {
        while self.stop.is_none() {
            self.turn(Bound::Here)?;
            if self.replica.inputs().holds() {
                break;
            }
        }
        Ok(self.stop.clone())
    }

    /// Executes an instruction, an iteration of a repeated string instruction or the delivery of an exception, and goes to the departure
    /// after it. `None` if it stands there, else why there is none.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn step(&mut self) -> Result<Option<Arrival>, TravelError> {
        if let Some(stop) = self.settle()? {
            return Ok(Some(stop));
        }
        let at = self.position();
        self.turn(Bound::At {
            position: Position {
                instructions: at.instructions + 1,
                ..at
            },
            retired: u64::MAX,
        })?;
        self.settle()
    }

    /// Goes back to the departure that [`Self::step`] would have come here from. `false` if there is none: this is the log's beginning, to whose
    /// departure it goes.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn step_back(&mut self) -> Result<bool, TravelError> {
        let at = self.position();
        let whole = self.fresh || self.stop.is_none();
        self.wish_for_near(at, self.retired());
        if at.instructions > 0 {
            let instructions = at.instructions - 1;
            self.run_to(Position { instructions, ..at })?;
        } else if let Some(exits) = at.exits.checked_sub(1) {
            self.run_to_last_before_exit(exits, whole)?;
        } else {
            self.run_to(at)?;
            self.settle()?;
            return Ok(false);
        }
        self.settle()?;
        Ok(true)
    }

    /// From a machine that stands right after an exit to the last position before it, `exits`+?.
    fn run_to_last_before_exit(&mut self, exits: u64, whole: bool) -> Result<(), TravelError> {
        let retired = self.retired();
        let after_exit = Position {
            exits,
            instructions: 0,
        };
        self.run_to(after_exit)?;
        // The instruction that exits has retired as well, once its exit is answered.
        let between = retired - self.retired();
        let mut instructions = between.saturating_sub(u64::from(whole));
        while instructions > 0 {
            let last = Position {
                exits,
                instructions,
            };
            if self.run_to(last)? == Arrival::Reached {
                return Ok(());
            }
            instructions -= 1;
        }
        self.run_to(after_exit).map(drop)
    }

    /// Instructions since the machine began, or exits where nobody counts.
    fn retired(&self) -> u64 {
        let machine = self.machine();
        machine
            .retired()
            .unwrap_or_else(|| machine.position().exits)
    }

    /// Whether the engine stops after every instruction.
    #[must_use]
    pub fn stops_anywhere(&self) -> bool {
        self.machine().clock_kind() == ClockKind::Instructions
    }

    /// Sees to it that there will be a snapshot not far behind a moment that the machine has been at.
    fn wish_for_near(&mut self, at: Position, retired: u64) {
        let nearest = self.snapshots.as_ref().and_then(|kept| kept.before(at));
        if nearest.is_some_and(|nearest| retired - nearest.retired > 4 * NEAR_INSTRUCTIONS) {
            self.wish = Some(retired - NEAR_INSTRUCTIONS);
        }
    }

    /// Once around the replica's figure.
    fn turn(&mut self, bound: Bound) -> Result<(), TravelError> {
        self.keep()?;
        let before = (self.position(), self.last_seq());
        let bound = self.with_wish(bound);
        self.replica.inputs_mut().set_bound(bound);
        let failed = match self.replica.turn() {
            Ok(None) => false,
            Ok(Some(ending)) => {
                self.stop = Some(Arrival::Ended(ending));
                false
            }
            Err(ReplicaError::Inputs(InputError::Diverged(divergence))) => {
                self.stop = Some(Arrival::Diverged(divergence));
                true
            }
            Err(ReplicaError::Inputs(InputError::Exhausted { .. })) => {
                self.stop = Some(Arrival::LogEnds);
                // Nothing is half done unless it was an exit that needed the entry.
                self.position() != before.0
            }
            Err(error) => return Err(TravelError::Replica(error)),
        };
        if self.position() != before.0 {
            self.fresh = !failed;
        } else if failed || self.last_seq() != before.1 {
            self.fresh = false;
        }
        Ok(())
    }

    fn with_wish(&self, bound: Bound) -> Bound {
        match (bound, self.wish) {
            (Bound::At { position, retired }, Some(wish)) if wish > self.retired() => Bound::At {
                position,
                retired: retired.min(wish),
            },
            _ => bound,
        }
    }

    /// Takes a snapshot if it is time for one.
    fn keep(&mut self) -> Result<(), TravelError> {
        let (at, retired) = (self.position(), self.retired());
        let Some(snapshots) = self.snapshots.as_mut().filter(|_| self.fresh) else {
            return Ok(());
        };
        let wished = self.wish.is_some_and(|wish| retired >= wish);
        if !wished && !snapshots.wants(at, retired) {
            return Ok(());
        }
        let Some(place) = self.replica.inputs().place() else {
            return Ok(());
        };
        let machine = self.replica.machine_mut();
        match machine.checkpoint()? {
            Point::State(state) => {
                self.wish = self.wish.filter(|_| !wished);
                snapshots.keep(at, retired, state, place, machine.memory());
            }
            Point::NotHere => {}
            Point::Never => self.snapshots = None,
        }
        Ok(())
    }

    /// Goes back to the nearest moment not after the arrival at `to` from which it can go on.
    fn go_back(&mut self, to: Position) -> Result<(), TravelError> {
        let snapshot = self.snapshots.as_ref().and_then(|kept| kept.before(to));
        if let Some(snapshot) = snapshot {
            let machine = self.replica.machine_mut();
            snapshot.put_memory_back(machine.memory());
            machine.go_back(&snapshot.state)?;
            self.replica.inputs_mut().go_back(Some(&snapshot.place));
        } else if let Some(origin) = &self.origin {
            *self.replica.machine_mut() = origin.boot()?;
            self.replica.inputs_mut().go_back(None);
        } else {
            let at = self.position();
            return Err(TravelError::NoWayBack { at, to });
        }
        self.fresh = true;
        self.stop = None;
        Ok(())
    }
}
