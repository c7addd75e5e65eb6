//! The clock that counts every instruction by stepping over each: slow, and exact. It counts as the software CPU does.

use super::{ClockSource, CountKind, SourceState};
use crate::engine::{
    ClockKind, EngineError, Exit, Goal, Stop,
    kvm::{
        guest::Guest,
        step::{Stepped, Stepper},
    },
};

/// The same name as the software CPU's, because it counts the same.
pub const CLOCK: &str = "instructions";

/// Counts steps.
#[derive(Debug, Default)]
pub struct Steps {
    stepper: Stepper,
    since_exit: u64,
    retired: u64,
}

impl Steps {
    fn count(&mut self, counts: u64) {
        self.since_exit += counts;
        self.retired += counts;
    }

    fn exited(&mut self, exit: Exit) -> Stop {
        self.since_exit = 0;
        Stop::Exit(exit)
    }
}

impl ClockSource for Steps {
    fn name(&self, _guest: &Guest) -> &'static str {
        CLOCK
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Instructions
    }

    fn run(&mut self, guest: &mut Guest, goal: Goal) -> Result<Stop, EngineError> {
        if let Some(exit) = guest.further_exit()? {
            return Ok(self.exited(exit));
        }
        let (limit, wants_interrupt) = match goal {
            Goal::Exit => (u64::MAX, false),
            Goal::Instructions(limit) => (limit, false),
            Goal::Interruptible { limit } => (limit, true),
        };
        while self.since_exit < limit {
            if wants_interrupt && self.stepper.accepts_interrupts() {
                break;
            }
            match self.stepper.step(guest, limit - self.since_exit)? {
                Stepped::Counted(counts) => self.count(counts),
                Stepped::Exited(counts, exit) => {
                    self.count(counts);
                    return Ok(self.exited(exit));
                }
            }
        }
        Ok(Stop::Reached)
    }

    fn answered(&mut self, guest: &mut Guest, exit: Exit) -> Result<(), EngineError> {
        if exit != Exit::Shutdown {
            // Its position is the exit's.
            self.retired += self.stepper.complete(guest)?;
        }
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.since_exit
    }

    fn retired(&self) -> Option<u64> {
        Some(self.retired)
    }

    fn accepts_interrupts(&self, _guest: &Guest) -> bool {
        self.stepper.accepts_interrupts()
    }

    fn interrupt(&mut self, guest: &mut Guest, vector: u8) -> Result<(), EngineError> {
        self.stepper.interrupt(guest, vector)
    }

    fn save(&self) -> Option<SourceState> {
        Some(SourceState {
            kind: CountKind::Step,
            instructions: self.since_exit,
            retired: self.retired,
            accepts_interrupts: self.stepper.accepts_interrupts(),
        })
    }

    fn restore(&mut self, state: &SourceState) -> bool {
        self.since_exit = state.instructions;
        self.retired = state.retired;
        self.stepper = Stepper::between_instructions(state.accepts_interrupts);
        state.kind == CountKind::Step
    }
}
