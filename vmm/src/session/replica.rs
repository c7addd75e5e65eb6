//! The loop that primary, backup, recording and replay have in common.
//!
//! ```text
//!   ┌─► inputs.next(position, machine) ── Apply(event) ──► machine.apply ──► effects ─┐
//!   │                               ── Interrupt ─────► machine.interrupt ─────────┤
//!   │◄─────────────────────────────────────────────────────────────────────────────┘
//!   │                               ── Digest ────────► inputs.digest
//!   │                               ── Track ─────────► machine.track_dirty
//!   │                               ── Delta(packed) ─► machine.put_pages, machine.go_on_from
//!   │                               ── Hold ──────────► stands still
//!   │                               ── Run(goal) ─────► machine.run ──► Exit, or Kicked ──► inputs.delta
//!   │                                                                     │ inputs.time, if the exit reads time
//!   └──────────────── inputs.output ◄── effects ◄── machine.handle ◄──────┘
//! ```

use logging_channel::{Digest, EndReason, Position};

use super::{divergence::DivergenceReport, fault::FaultError};
use crate::{
    engine::{Engine, EngineError, Exit, Stop},
    inputs::{
        InputError, Inputs, Next,
        delta::{DeltaError, PackedDelta},
    },
    machine::Machine,
};

/// Why a replica stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`InputError`].
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// See [`FaultError`].
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The machine parted from its log.
    #[error("{}", .0.divergence)]
    Diverged(Box<DivergenceReport>),
}

/// How a guest ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: EndReason,
    /// Where.
    pub at: Position,
    /// Registers, devices and all of memory.
    pub digest: Digest,
}

/// A machine and its inputs.
pub struct Replica<E, I> {
    machine: Machine<E>,
    inputs: I,
}

impl<E: Engine, I: Inputs> Replica<E, I> {
    /// A replica that is about to execute the guest's first instruction.
    #[must_use]
    pub fn new(machine: Machine<E>, inputs: I) -> Self {
        Self { machine, inputs }
    }

    /// Runs until the guest ends.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn run(&mut self) -> Result<Ending, ReplicaError> {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(ending)) => return Ok(ending),
                Err(error) => return Err(self.report(error)),
            }
        }
    }

    /// Goes around the figure so many times, or until the guest ends.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn run_turns(&mut self, count: u32) -> Result<Option<Ending>, ReplicaError> {
        for _ in 0..count {
            match self.turn() {
                Ok(None) => {}
                Ok(ending) => return Ok(ending),
                Err(error) => return Err(self.report(error)),
            }
        }
        Ok(None)
    }

    /// A divergence becomes a report; other errors stay what they are.
    fn report(&mut self, error: ReplicaError) -> ReplicaError {
        let ReplicaError::Inputs(InputError::Diverged(divergence)) = error else {
            return error;
        };
        match DivergenceReport::new(divergence, &mut self.machine) {
            Ok(report) => ReplicaError::Diverged(Box::new(report)),
            Err(error) => error.into(),
        }
    }

    /// Runs for `count` exits, or until the guest ends: for measurements.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn run_exits(&mut self, count: u64) -> Result<Option<Ending>, ReplicaError> {
        let until = self.machine.position().exits + count;
        while self.machine.position().exits < until {
            if let Some(ending) = self.turn()? {
                return Ok(Some(ending));
            }
        }
        Ok(None)
    }

    /// The machine as it stands.
    #[must_use]
    pub fn machine(&self) -> &Machine<E> {
        &self.machine
    }

    /// The machine as it stands. Another one in the same state may take its place.
    pub fn machine_mut(&mut self) -> &mut Machine<E> {
        &mut self.machine
    }

    /// Its inputs.
    #[must_use]
    pub fn inputs(&self) -> &I {
        &self.inputs
    }

    /// Its inputs. Others that are at the same place may take their place.
    #[must_use]
    pub fn inputs_mut(&mut self) -> &mut I {
        &mut self.inputs
    }

    /// Once around the figure. `None` as long as the guest has not ended.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn turn(&mut self) -> Result<Option<Ending>, ReplicaError> {
        match self.inputs.next(self.machine.position(), &self.machine)? {
            Next::Apply(event) => self.machine.apply(&event),
            Next::Interrupt => {
                let at = self.machine.position();
                let vector = self.machine.interrupt()?;
                self.inputs.interrupted(at, vector)?;
            }
            Next::Digest => {
                let at = self.machine.position();
                let digest = self.machine.periodic_digest()?;
                self.inputs.digest(at, digest)?;
            }
            Next::Track => self.machine.track_dirty()?,
            Next::Delta(delta) => self.skip(&delta)?,
            Next::Run(goal) => match self.machine.run(goal)? {
                Stop::Exit(exit) => self.handle(exit)?,
                Stop::Reached | Stop::Breakpoint => return Ok(None),
                Stop::Kicked => self.tell_delta()?,
            },
            Next::Hold => return Ok(None),
        }
        self.pass_on_effects()?;
        match self.machine.ended() {
            Some(reason) => self.end(reason).map(Some),
            None => Ok(None),
        }
    }

    fn handle(&mut self, exit: Exit) -> Result<(), ReplicaError> {
        let at = self.machine.position();
        let time_ns = if self.machine.needs_time(exit) {
            Some(self.inputs.time(at)?)
        } else {
            None
        };
        self.machine.handle(exit, time_ns)?;
        self.pass_on_effects()
    }

    /// The guest was stopped in the middle of a stretch without exits.
    fn tell_delta(&mut self) -> Result<(), ReplicaError> {
        let at = self.machine.position();
        let delta = self.machine.take_delta()?;
        self.inputs.delta(at, &delta, self.machine.memory())?;
        Ok(self.machine.go_on_from(&delta.state)?)
    }

    /// The guest does not execute a stretch; it is given the result.
    fn skip(&mut self, delta: &PackedDelta) -> Result<(), ReplicaError> {
        let at = self.machine.position();
        let wrong = |error: DeltaError| InputError::Diverged(error.divergence(at, Vec::new()));
        for part in &delta.parts {
            for (address, bytes) in part.unpack().map_err(wrong)? {
                if !self.machine.put_pages(address, &bytes) {
                    return Err(wrong(DeltaError::no_memory(address, bytes.len())).into());
                }
            }
        }
        Ok(self.machine.go_on_from(&delta.state().map_err(wrong)?)?)
    }

    fn pass_on_effects(&mut self) -> Result<(), ReplicaError> {
        let at = self.machine.position();
        for effect in self.machine.take_effects() {
            self.inputs.output(at, effect)?;
        }
        Ok(())
    }

    fn end(&mut self, reason: EndReason) -> Result<Ending, ReplicaError> {
        let at = self.machine.position();
        let digest = self.machine.full_digest()?;
        self.inputs.end(at, reason, digest)?;
        Ok(Ending { reason, at, digest })
    }
}

#[cfg(test)]
mod tests;
