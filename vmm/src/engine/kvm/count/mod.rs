//! Clock sources: how KVM runs a guest to a goal, and what it has counted then.
//!
//! ```text
//!                                             ┌─► Exits      free; short stretches from an exit single-stepped
//!  KvmEngine::run(goal) ─► ClockSource::run ──┼─► Steps      every instruction single-stepped: what the software CPU counts
//!                                             └─► Branches   free to somewhat before the goal, the rest single-stepped
//! ```

pub mod approach;
mod branches;
mod exits;
mod hardware;
mod processor;
mod simulated;
mod steps;

pub use processor::BranchCounter;

use self::{
    branches::Branches, exits::Exits, hardware::Hardware, simulated::Simulated, steps::Steps,
};
use super::guest::Guest;
use crate::engine::{ClockKind, EngineError, Exit, Goal, Stop};

/// What KVM counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountKind {
    /// Exits alone.
    #[default]
    Exits,
    /// Every instruction, by stepping over each: slow and exact.
    Step,
    /// Conditional branches, by the processor's counter. Not run on hardware yet.
    Hardware,
    /// Conditional branches, by a counter that is simulated. For tests.
    Simulated {
        /// Of how late it is.
        seed: u64,
        /// Instructions that it may be later than it says.
        beyond: u64,
    },
}

impl CountKind {
    /// As in `--count`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exits => "exits",
            Self::Step => "step",
            Self::Hardware => "hardware",
            Self::Simulated { .. } => "simulated",
        }
    }

    /// What must be counted for a clock of this name ([`crate::engine::Engine::clock`]).
    #[must_use]
    pub fn of_clock(name: &str) -> Self {
        match name {
            steps::CLOCK => Self::Step,
            _ if name.starts_with(processor::CLOCKS) => Self::Hardware,
            _ => Self::Exits,
        }
    }
}

/// The clock source of a kind.
///
/// # Errors
/// If this host does not have it.
pub fn source(kind: CountKind) -> Result<Box<dyn ClockSource + Send>, EngineError> {
    Ok(match kind {
        CountKind::Exits => Box::new(Exits::default()),
        CountKind::Step => Box::new(Steps::default()),
        CountKind::Hardware => Box::new(Branches::new(Hardware::new()?)),
        CountKind::Simulated { seed, beyond } => {
            Box::new(Branches::new(Simulated::new(seed, beyond)))
        }
    })
}

/// What a clock source has counted, and what else its future depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceState {
    kind: CountKind,
    /// Since the last exit.
    instructions: u64,
    retired: u64,
    accepts_interrupts: bool,
}

impl SourceState {
    /// The same right after an exit.
    pub fn exited(&mut self) {
        self.instructions = 0;
    }
}

/// How a guest on KVM is run to a goal, and what is counted.
pub trait ClockSource {
    /// What is counted, and where interrupts are taken: part of a pair's identity.
    fn name(&self, guest: &Guest) -> &'static str;

    /// What kind of clock it is.
    fn kind(&self) -> ClockKind;

    /// Runs to the next exit or to the goal. The last exit was answered.
    fn run(&mut self, guest: &mut Guest, goal: Goal) -> Result<Stop, EngineError>;

    /// This exit was just answered.
    fn answered(&mut self, guest: &mut Guest, exit: Exit) -> Result<(), EngineError>;

    /// Instructions since the last exit, as far as they are counted.
    fn instructions(&self) -> u64;

    /// Instructions since the machine began, where all are counted.
    fn retired(&self) -> Option<u64>;

    /// Whether an interrupt can be injected here; the last exit's instruction is over.
    fn accepts_interrupts(&self, guest: &Guest) -> bool;

    /// Injects an interrupt, where it is accepted.
    fn interrupt(&mut self, guest: &mut Guest, vector: u8) -> Result<(), EngineError>;

    /// Its state; the last exit's instruction is over. `None` if this source's cannot be saved.
    fn save(&self) -> Option<SourceState>;

    /// Goes on from a state. False if it is another source's.
    fn restore(&mut self, state: &SourceState) -> bool;
}
