//! The report of a divergence: where a replica stood when it parted from its log.
//!
//! In: the [`Divergence`] that the inputs found, and the machine as it stands. Out: a [`DivergenceReport`], a value; printed, it is a few lines.

use std::fmt;

use crate::{
    engine::{CpuMode, Engine, EngineError, Registers},
    inputs::Divergence,
    machine::Machine,
    symbols::Symbols,
};

/// Where a replica parted from its log, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivergenceReport {
    /// What was expected where, and what came; the last entries before it.
    pub divergence: Divergence,
    /// The registers there.
    pub registers: Registers,
    /// What the vCPU executed there.
    pub mode: CpuMode,
    /// The function at RIP, where symbols are known.
    pub symbol: Option<String>,
}

impl DivergenceReport {
    /// The report on `machine`, which has just parted from its log.
    ///
    /// # Errors
    /// If the engine cannot tell its registers.
    pub fn new<E: Engine>(
        divergence: Divergence,
        machine: &mut Machine<E>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            divergence,
            registers: machine.registers()?,
            mode: machine.mode()?,
            symbol: None,
        })
    }

    /// The same with the name of the function, if `symbols` has one.
    #[must_use]
    pub fn named(mut self, symbols: &Symbols) -> Self {
        self.symbol = symbols.name(self.registers.rip);
        self
    }
}

/// The divergence itself is the first line.
impl fmt::Display for DivergenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.divergence)?;
        write!(f, "\n  at RIP {:#x}", self.registers.rip)?;
        if let Some(symbol) = &self.symbol {
            write!(f, " ({symbol})")?;
        }
        write!(f, ", {}", self.mode)?;
        for line in &self.divergence.last_entries {
            write!(f, "\n  after {line}")?;
        }
        Ok(())
    }
}
