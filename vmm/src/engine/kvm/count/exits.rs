//! The clock that counts exits alone.
//!
//! ```text
//!  run(Goal::Exit)                           free running; the next architectural exit is returned
//!  run(Goal::Instructions | Interruptible)   complete the last exit, then single-step, counting: for short stretches from an exit
//! ```

use super::{ClockSource, CountKind, SourceState};
use crate::engine::{
    ClockKind, EngineError, Exit, Goal, Stop,
    kvm::{
        guest::Guest,
        pvm::{self, Pvm},
        step,
        vcpu::{Debugging, RawExit},
    },
};

/// Counts exits.
#[derive(Debug, Default)]
pub struct Exits {
    /// Single-stepped since the last exit.
    instructions: u64,
    accepts_interrupts: bool,
}

impl Exits {
    /// To the next exit; `None` if the run was kicked before, or interrupts are accepted and that was asked for.
    fn run_free(guest: &mut Guest) -> Result<Option<Exit>, EngineError> {
        loop {
            let debugging = guest
                .pvm
                .as_ref()
                .map_or(Debugging::default(), |pvm| pvm.debugging(false));
            guest.vcpu.set_debugging(debugging)?;
            let raw = guest.enter()?;
            if let Some(exit) = guest.interpret(raw)? {
                return Ok(Some(exit));
            }
            deliver_hidden(guest)?;
            if raw == RawExit::InterruptWindow || guest.kicks.is_kicked() {
                return Ok(None);
            }
        }
    }

    /// Single-steps until `done`, which is asked before each step, or an exit.
    fn step_until(
        &mut self,
        guest: &mut Guest,
        done: impl Fn(&Self) -> bool,
    ) -> Result<Stop, EngineError> {
        if done(self) {
            return Ok(Stop::Reached);
        }
        guest.complete()?;
        if let Some(exit) = guest.further_exit()? {
            return Ok(Stop::Exit(exit));
        }
        while !done(self) {
            let debugging = stepping(guest)?;
            guest.vcpu.set_debugging(debugging)?;
            match guest.enter()? {
                RawExit::Debug { pc } if !at_fault_entry(guest, pc) => {
                    self.instructions += 1;
                    self.accepts_interrupts = guest.vcpu.ready_for_interrupt();
                }
                raw => {
                    if let Some(exit) = guest.interpret(raw)? {
                        return Ok(Stop::Exit(exit));
                    }
                    if deliver_hidden(guest)? {
                        self.instructions += 1;
                        self.accepts_interrupts = guest.vcpu.ready_for_interrupt();
                    }
                }
            }
        }
        Ok(Stop::Reached)
    }

    /// To the next exit; `None` if somebody kicks before.
    fn run_armed(guest: &mut Guest) -> Result<Option<Exit>, EngineError> {
        let vcpu = &mut guest.vcpu;
        guest.kicks.arm(|target| vcpu.aim_at(target));
        let exit = Self::run_free(guest);
        if guest.kicks.disarm() {
            guest.vcpu.forget_kick();
        }
        exit
    }

    /// To the next exit, or until a kick. A kicked guest that accepts no interrupt goes on to where it does, unless it exits or is kicked again
    /// before: most critical sections are short. Where that is is chance, as the kick itself.
    fn run_kickable(&mut self, guest: &mut Guest) -> Result<Stop, EngineError> {
        let mut exit = Self::run_armed(guest)?;
        if exit.is_none() && !guest.vcpu.ready_for_interrupt() {
            guest.vcpu.request_interrupt_window(true);
            let further = Self::run_armed(guest);
            guest.vcpu.request_interrupt_window(false);
            exit = further?;
        }
        if let Some(exit) = exit {
            return Ok(Stop::Exit(exit));
        }
        self.accepts_interrupts = guest.vcpu.ready_for_interrupt();
        Ok(Stop::Kicked)
    }

    fn stop(&mut self, guest: &mut Guest, goal: Goal) -> Result<Stop, EngineError> {
        if let Some(exit) = guest.further_exit()? {
            return Ok(Stop::Exit(exit));
        }
        let reached = match goal {
            Goal::Exit => false,
            Goal::Instructions(count) => self.instructions >= count,
            Goal::Interruptible { limit } => {
                self.accepts_interrupts(guest) || self.instructions >= limit
            }
        };
        if reached {
            return Ok(Stop::Reached);
        }
        if let Some(pvm) = &mut guest.pvm {
            pvm.resume(&mut guest.vcpu)?;
        }
        match goal {
            Goal::Exit => self.run_kickable(guest),
            Goal::Instructions(count) => {
                self.step_until(guest, |clock| clock.instructions >= count)
            }
            Goal::Interruptible { limit } => self.step_until(guest, |clock| {
                clock.accepts_interrupts || clock.instructions >= limit
            }),
        }
    }
}

impl ClockSource for Exits {
    fn name(&self, guest: &Guest) -> &'static str {
        guest.pvm.as_ref().map_or("exits", |_| pvm::CLOCK)
    }

    fn kind(&self) -> ClockKind {
        ClockKind::Exits
    }

    fn run(&mut self, guest: &mut Guest, goal: Goal) -> Result<Stop, EngineError> {
        let stop = self.stop(guest, goal)?;
        if let Stop::Exit(_) = stop {
            self.instructions = 0;
            self.accepts_interrupts = guest.vcpu.ready_for_interrupt();
            if let Some(pvm) = &mut guest.pvm {
                pvm.after_exit(&guest.vcpu, &guest.memory)?;
            }
        }
        Ok(stop)
    }

    fn answered(&mut self, _guest: &mut Guest, _exit: Exit) -> Result<(), EngineError> {
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.instructions
    }

    fn retired(&self) -> Option<u64> {
        None
    }

    fn accepts_interrupts(&self, guest: &Guest) -> bool {
        guest
            .pvm
            .as_ref()
            .and_then(Pvm::accepts_interrupts)
            .unwrap_or(self.accepts_interrupts)
    }

    fn interrupt(&mut self, guest: &mut Guest, vector: u8) -> Result<(), EngineError> {
        if let Some(pvm) = &mut guest.pvm {
            pvm.before_interrupt(&guest.vcpu)?;
        }
        self.accepts_interrupts = false;
        guest.vcpu.interrupt(vector)
    }

    fn save(&self) -> Option<SourceState> {
        Some(SourceState {
            kind: CountKind::Exits,
            instructions: self.instructions,
            retired: 0,
            accepts_interrupts: self.accepts_interrupts,
        })
    }

    fn restore(&mut self, state: &SourceState) -> bool {
        self.instructions = state.instructions;
        self.accepts_interrupts = state.accepts_interrupts;
        state.kind == CountKind::Exits
    }
}

/// Has an exception delivered that KVM tells nobody of: a state that is saved before would lack it, and a step would give it the trap flag to take along
/// into the guest's frame.
fn deliver_hidden(guest: &mut Guest) -> Result<bool, EngineError> {
    match guest.hidden_exception.take() {
        Some(vector) => step::deliver(guest, vector).map(|()| true),
        None => Ok(false),
    }
}

/// How to execute one instruction.
fn stepping(guest: &Guest) -> Result<Debugging, EngineError> {
    Ok(match &guest.pvm {
        Some(pvm) => pvm.debugging(!Pvm::next_is_halt(&guest.vcpu, &guest.memory)?),
        None => Debugging {
            step: true,
            ..Debugging::default()
        },
    })
}

fn at_fault_entry(guest: &Guest, pc: u64) -> bool {
    guest.pvm.as_ref().is_some_and(|pvm| pvm.is_fault_entry(pc))
}
