//! The clock that counts conditional branches, with a counter that tells late: at full speed, and exact by stepping over the rest.
//!
//! What a position is on this clock, and why branches: [`super::processor`]. How a count is hit: [`super::approach`].
//!
//! ```text
//!                     Counter: reset, read, run until an exit or (late) an overflow, step
//!  Branches ──────────►├─ Hardware    perf_event_open: not run on hardware yet
//!    │ approach (pure) └─ Simulated   every instruction is stepped over, and the interrupt comes late on purpose
//!    ▼
//!  positions
//! ```
//!
//! The counter is set to 0 at each exit, so that whatever it does wrong does not add up over exits.

use super::{
    ClockSource, SourceState,
    approach::{Approach, Move},
};
use crate::engine::{
    ClockKind, EngineError, Exit, Goal, Stop,
    kvm::{guest::Guest, step::Stepper},
};

/// A counter of conditional branches, and a guest that runs under it.
pub trait Counter {
    /// The clock's name.
    fn clock(&self) -> &'static str;

    /// An interrupt comes fewer events late than this.
    fn margin(&self) -> u64;

    /// Counts from 0 again.
    fn reset(&mut self) -> Result<(), EngineError>;

    /// Events since.
    fn read(&mut self) -> Result<u64, EngineError>;

    /// Runs the guest to its next exit, or until `events` more events are counted: late, and perhaps for nothing. `None`: it has not exited.
    fn run(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
        events: Option<u64>,
    ) -> Result<Option<Exit>, EngineError>;

    /// Steps over one instruction, which may exit.
    fn step(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
    ) -> Result<Option<Exit>, EngineError>;
}

/// Counts conditional branches.
pub struct Branches<C> {
    counter: C,
    stepper: Stepper,
    since_exit: u64,
    /// Up to the last exit.
    before: u64,
}

impl<C: Counter> Branches<C> {
    /// None yet.
    pub fn new(counter: C) -> Self {
        Self {
            counter,
            stepper: Stepper::default(),
            since_exit: 0,
            before: 0,
        }
    }

    fn exited(&mut self, exit: Exit) -> Result<Stop, EngineError> {
        self.before += self.counter.read()?;
        self.counter.reset()?;
        self.since_exit = 0;
        Ok(Stop::Exit(exit))
    }

    /// To the first instruction boundary with this count. `Some` if the guest exits before.
    fn approach(&mut self, guest: &mut Guest, target: u64) -> Result<Option<Exit>, EngineError> {
        let mut approach = Approach::new(target, self.counter.margin());
        loop {
            let exit = match approach.next(self.counter.read()?)? {
                Move::Arrived => return Ok(None),
                Move::Run(events) => self.counter.run(guest, &mut self.stepper, Some(events))?,
                Move::Step => self.counter.step(guest, &mut self.stepper)?,
            };
            if exit.is_some() {
                approach.exited(self.counter.read()?)?;
                return Ok(exit);
            }
        }
    }

    /// To the first count at which an interrupt is accepted, or to `limit`.
    fn seek_interruptible(
        &mut self,
        guest: &mut Guest,
        limit: u64,
    ) -> Result<Option<Exit>, EngineError> {
        while self.since_exit < limit && !self.stepper.accepts_interrupts() {
            let exit = self.approach(guest, self.since_exit + 1)?;
            if exit.is_some() {
                return Ok(exit);
            }
            self.since_exit += 1;
        }
        Ok(None)
    }
}

impl<C: Counter> ClockSource for Branches<C> {
    fn name(&self, _guest: &Guest) -> &'static str {
        self.counter.clock()
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Instructions
    }

    fn run(&mut self, guest: &mut Guest, goal: Goal) -> Result<Stop, EngineError> {
        if let Some(exit) = guest.further_exit()? {
            return self.exited(exit);
        }
        let exit = match goal {
            Goal::Exit => loop {
                let exit = self.counter.run(guest, &mut self.stepper, None)?;
                if exit.is_some() {
                    break exit;
                }
            },
            Goal::Instructions(target) => {
                let exit = self.approach(guest, target)?;
                self.since_exit = self.since_exit.max(target);
                exit
            }
            Goal::Interruptible { limit } => self.seek_interruptible(guest, limit)?,
        };
        match exit {
            Some(exit) => self.exited(exit),
            None => Ok(Stop::Reached),
        }
    }

    fn answered(&mut self, guest: &mut Guest, exit: Exit) -> Result<(), EngineError> {
        if exit != Exit::Shutdown {
            // What the stepper would count is no branch.
            self.stepper.complete(guest)?;
        }
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.since_exit
    }

    fn retired(&self) -> Option<u64> {
        Some(self.before + self.since_exit)
    }

    fn accepts_interrupts(&self, _guest: &Guest) -> bool {
        self.stepper.accepts_interrupts()
    }

    fn interrupt(&mut self, guest: &mut Guest, vector: u8) -> Result<(), EngineError> {
        self.stepper.interrupt(guest, vector)
    }

    fn save(&self) -> Option<SourceState> {
        // A counter cannot be set to what it was.
        None
    }

    fn restore(&mut self, _state: &SourceState) -> bool {
        false
    }
}
