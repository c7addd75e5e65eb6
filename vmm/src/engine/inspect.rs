//! Looking at a vCPU from outside, for people: what digests do not cover, and addresses to stop at.
//!
//! In: an engine between two turns. Out: values. What always holds: the guest cannot tell that somebody looked, or that it was stopped.

use super::{AnyEngine, Engine, EngineError, kvm::KvmEngine, soft::SoftEngine};

/// What of the vCPU's state is neither in [`super::Registers`] nor in [`super::CpuMode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemState {
    /// Selectors of ES, CS, SS, DS, FS, GS.
    pub selectors: [u16; 6],
    /// Base of the code segment, which counts outside of 64-bit mode.
    pub code_base: u64,
    /// IA32_EFER.
    pub efer: u64,
}

/// An engine that lets itself be looked at.
pub trait Inspect: Engine {
    /// Reads it as of now.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn system_state(&mut self) -> Result<SystemState, EngineError>;

    /// From now on, [`Engine::run`] also stops with [`super::Stop::Breakpoint`] where the next instruction is at one of these linear addresses
    /// and the one before was elsewhere. `false` if this engine cannot.
    fn set_breakpoints(&mut self, addresses: &[u64]) -> bool;

    /// Whether the vCPU stands at such an address, and has just come there: after exits and interrupts, nobody else says so.
    fn at_breakpoint(&self) -> bool;
}

impl Inspect for SoftEngine {
    fn system_state(&mut self) -> Result<SystemState, EngineError> {
        let state = self.state();
        Ok(SystemState {
            selectors: state.segments.map(|segment| segment.selector),
            code_base: state.segments[1].base,
            efer: state.efer,
        })
    }

    fn set_breakpoints(&mut self, addresses: &[u64]) -> bool {
        self.stop_at(addresses);
        true
    }

    fn at_breakpoint(&self) -> bool {
        self.stands_at_address()
    }
}

impl Inspect for KvmEngine {
    fn system_state(&mut self) -> Result<SystemState, EngineError> {
        self.system()
    }

    fn set_breakpoints(&mut self, addresses: &[u64]) -> bool {
        addresses.is_empty()
    }

    fn at_breakpoint(&self) -> bool {
        false
    }
}

impl Inspect for AnyEngine {
    fn system_state(&mut self) -> Result<SystemState, EngineError> {
        match self {
            Self::Soft(engine) => engine.system_state(),
            Self::Kvm(engine) => engine.system_state(),
        }
    }

    fn set_breakpoints(&mut self, addresses: &[u64]) -> bool {
        match self {
            Self::Soft(engine) => engine.set_breakpoints(addresses),
            Self::Kvm(engine) => engine.set_breakpoints(addresses),
        }
    }

    fn at_breakpoint(&self) -> bool {
        match self {
            Self::Soft(engine) => engine.at_breakpoint(),
            Self::Kvm(engine) => engine.at_breakpoint(),
        }
    }
}
