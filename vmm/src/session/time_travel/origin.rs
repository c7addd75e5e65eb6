//! Where a machine comes from that stands at its log's beginning: for engines that cannot go back, and for whoever wants a second one.

use logging_channel::identity::BootChoices;

use crate::{
    engine::AnyEngine,
    machine::Machine,
    session::setup::{MachineConfig, Prepared, SetupError},
};

/// Makes a machine as it was when its log began, as often as it is asked.
pub trait Origin<E> {
    /// A machine that is about to execute the guest's first instruction.
    ///
    /// # Errors
    /// See [`SetupError`].
    fn boot(&self) -> Result<Machine<E>, SetupError>;
}

/// A machine as the user describes it, with what its log says of its boot.
#[derive(Clone, Debug)]
pub struct Described {
    /// The machine.
    pub config: MachineConfig,
    /// What it started from.
    pub choices: BootChoices,
}

impl Origin<AnyEngine> for Described {
    fn boot(&self) -> Result<Machine<AnyEngine>, SetupError> {
        Prepared::new(&self.config)?.boot(&self.choices)
    }
}
