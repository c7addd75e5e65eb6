//! Going back to an earlier state on the same engine, where the engine can.
//!
//! In: an engine between two turns. Out: a state of the vCPU, and later the same engine in that state again. What always holds: an engine that
//! gives one such state gives one wherever it is asked; one that cannot says so, and whoever wants to go back boots anew.

use super::{AnyEngine, Engine, EngineError, Persist};

/// An engine that may be able to go back.
pub trait Checkpoint: Engine {
    /// Everything that the vCPU's future depends on, except memory.
    type Saved;

    /// The state as of now; `None` if this engine cannot go back.
    fn checkpoint(&self) -> Option<Self::Saved>;

    /// Goes on from an earlier state of this engine. Memory must be as it was then.
    ///
    /// # Errors
    /// See [`Persist::restore`].
    fn go_back(&mut self, saved: &Self::Saved) -> Result<(), EngineError>;
}

impl<E: Persist> Checkpoint for E {
    type Saved = E::State;

    fn checkpoint(&self) -> Option<E::State> {
        Some(self.save())
    }

    fn go_back(&mut self, saved: &E::State) -> Result<(), EngineError> {
        self.restore(saved)
    }
}

impl Checkpoint for AnyEngine {
    type Saved = x86_engine::State;

    fn checkpoint(&self) -> Option<x86_engine::State> {
        match self {
            Self::Soft(engine) => engine.checkpoint(),
            Self::Kvm(_) => None,
        }
    }

    fn go_back(&mut self, saved: &x86_engine::State) -> Result<(), EngineError> {
        match self {
            Self::Soft(engine) => engine.go_back(saved),
            Self::Kvm(_) => Err(EngineError::Missing("a way back to an earlier state")),
        }
    }
}
