//! Going back to an earlier state on the same engine, where the engine can.
//!
//! In: an engine between two turns. Out: a state of the vCPU, and later the same engine in that state again. What always holds: an engine that
//! never gives one says so; one that gives none here gives one after the next exits.

use super::{Engine, EngineError, Persist};

/// What an engine has to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point<S> {
    /// This.
    State(S),
    /// Nothing here, in the middle of an instruction's exits.
    NotHere,
    /// Nothing anywhere: whoever wants to go back boots anew.
    Never,
}

/// An engine that may be able to go back.
pub trait Checkpoint: Engine {
    /// Everything that the vCPU's future depends on, except memory.
    type Saved;

    /// The state as of now.
    ///
    /// # Errors
    /// If the engine fails.
    fn checkpoint(&mut self) -> Result<Point<Self::Saved>, EngineError>;

    /// Goes on from an earlier state of this engine. Memory must be as it was then.
    ///
    /// # Errors
    /// See [`Persist::restore`].
    fn go_back(&mut self, saved: &Self::Saved) -> Result<(), EngineError>;
}

impl<E: Persist> Checkpoint for E {
    type Saved = E::State;

    fn checkpoint(&mut self) -> Result<Point<E::State>, EngineError> {
        match self.save() {
            Ok(state) => Ok(Point::State(state)),
            Err(EngineError::Unsavable(_)) => Ok(Point::NotHere),
            Err(error) => Err(error),
        }
    }

    fn go_back(&mut self, saved: &E::State) -> Result<(), EngineError> {
        self.restore(saved)
    }
}
