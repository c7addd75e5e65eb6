//! A machine's state as a value: what another machine needs to go on where this one stands.
//!
//! In: a machine between two turns. Out: a [`MachineState`], and a machine again, on another engine and other memory if need be. What always
//! holds: the restored machine does exactly what the saved one would have done. Memory is large and travels by itself; it must
//! be the same again before the machine runs on.

use logging_channel::EndReason;
use serde::{Deserialize, Serialize};

use super::{GuestMemory, Machine, clock::GuestClock};
use crate::{
    devices::Devices,
    engine::{Checkpoint, EngineError, Persist, checkpoint::Point},
};

/// Version of [`MachineState`], the devices' included. Any change of its fields or their meaning changes it; the engine's state has
/// a version of its own.
pub const STATE_VERSION: u32 = 3;

/// All of a machine but its memory. `S` is the engine's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineState<S> {
    version: u32,
    engine: S,
    devices: Devices,
    exits: u64,
    clock: GuestClock,
    halted: bool,
    ended: Option<EndReason>,
    digests: u64,
}

/// A state that cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another version of lockstep saved it.
    #[error(
        "The saved machine has version {version}; this version of lockstep reads {STATE_VERSION}"
    )]
    Version {
        /// The state's version.
        version: u32,
    },
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl<E: Persist> Machine<E> {
    /// The state as of now: between two instructions, with the last exit answered and its effects taken.
    ///
    /// # Errors
    /// If the engine's state cannot be had here.
    ///
    /// # Panics
    /// If effects wait to be taken: they would be forgotten.
    pub fn save(&mut self) -> Result<MachineState<E::State>, EngineError> {
        let engine = self.engine.save()?;
        Ok(self.state(engine))
    }

    /// The engine of a machine that is not needed any more.
    #[must_use]
    pub fn into_engine(self) -> E {
        self.engine
    }

    /// A machine in a saved state. `engine` runs on `memory`, which is as it was when the state was saved.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(
        mut engine: E,
        memory: GuestMemory,
        state: MachineState<E::State>,
    ) -> Result<Self, RestoreError> {
        if state.version != STATE_VERSION {
            return Err(RestoreError::Version {
                version: state.version,
            });
        }
        engine.restore(&state.engine)?;
        let mut machine = Self {
            engine,
            memory,
            devices: state.devices,
            exits: state.exits,
            clock: state.clock,
            timer_at: None,
            halted: state.halted,
            ended: state.ended,
            digests: state.digests,
        };
        machine.plan_timer();
        Ok(machine)
    }
}

impl<E: Checkpoint> Machine<E> {
    /// The state as of now, for [`Self::go_back`].
    ///
    /// # Errors
    /// If the engine fails.
    ///
    /// # Panics
    /// If effects wait to be taken: they would be forgotten.
    pub fn checkpoint(&mut self) -> Result<Point<MachineState<E::Saved>>, EngineError> {
        Ok(match self.engine.checkpoint()? {
            Point::State(engine) => Point::State(self.state(engine)),
            Point::NotHere => Point::NotHere,
            Point::Never => Point::Never,
        })
    }

    /// Puts this machine back into an earlier state of itself. Its memory is as it was then.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn go_back(&mut self, state: &MachineState<E::Saved>) -> Result<(), RestoreError> {
        self.engine.go_back(&state.engine)?;
        self.devices = state.devices.clone();
        self.exits = state.exits;
        self.clock = state.clock;
        self.halted = state.halted;
        self.ended = state.ended;
        self.digests = state.digests;
        self.plan_timer();
        Ok(())
    }
}

impl<E> Machine<E> {
    /// All but memory, with this as the engine's state.
    fn state<S>(&self, engine: S) -> MachineState<S> {
        assert!(
            !self.devices.has_effects(),
            "effects are taken before the state is saved"
        );
        MachineState {
            version: STATE_VERSION,
            engine,
            devices: self.devices.clone(),
            exits: self.exits,
            clock: self.clock,
            halted: self.halted,
            ended: self.ended,
            digests: self.digests,
        }
    }
}

#[cfg(test)]
mod tests {
    use logging_channel::codec::{canonical_bytes, from_canonical_bytes};

    use super::*;
    use crate::{
        devices::DevicesConfig,
        engine::soft::SoftEngine,
        machine::{MIN_MEMORY_BYTES, allocate_memory, boot},
    };

    fn engine() -> (SoftEngine, GuestMemory) {
        let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
        let engine = SoftEngine::new(&memory).expect("a processor");
        (engine, memory)
    }

    fn machine() -> Machine<SoftEngine> {
        let (engine, memory) = engine();
        let devices = DevicesConfig {
            unix_time_s: 0,
            mac: Some([2; 6]),
            memory_bytes: MIN_MEMORY_BYTES,
            disks: vec![],
        };
        let state = boot::begin_at(&memory, 0).expect("tables fit");
        Machine::new(engine, memory, &devices, &state).expect("a machine")
    }

    #[test]
    fn a_state_becomes_a_machine_of_that_state_again() {
        let mut machine = machine();
        machine.exits = 3;
        machine.clock.correct(0, 4, 7);
        machine.halted = true;
        machine.ended = Some(EndReason::Halted);
        machine.digests = 5;
        machine.devices.port_write(0x3FB, 1, 0x83, 4);
        let state = machine.save().expect("a state");
        let read = from_canonical_bytes(&canonical_bytes(&state)).expect("what was saved");
        let (engine, memory) = engine();
        let mut restored = Machine::restore(engine, memory, read).expect("a state of this version");
        assert_eq!(restored.save().expect("a state"), state);
    }

    #[test]
    fn states_of_other_versions_are_refused() {
        let saved = machine().save().expect("a state");
        let refused = |state| {
            let (engine, memory) = engine();
            Machine::restore(engine, memory, state).err()
        };
        let mut state = saved.clone();
        state.version += 1;
        assert!(
            matches!(refused(state), Some(RestoreError::Version { version }) if version == STATE_VERSION + 1)
        );
        let mut state = saved;
        state.engine.version += 1;
        assert!(matches!(refused(state), Some(RestoreError::Engine(_))));
    }
}
