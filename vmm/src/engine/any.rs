//! Whichever engine was chosen, as one type: machines, sessions and commands name no engine.

use serde::{Deserialize, Serialize};

use super::{
    ClockKind, CpuMode, Delta, Engine, EngineError, EngineKind, FloatingPoint, Goal, Kicker,
    Persist, Registers, Reply, Stop,
    kvm::{CountKind, KvmEngine, state::KvmState},
    soft::SoftEngine,
};
use crate::machine::{GuestMemory, boot::BootState};

/// One of the engines.
#[allow(clippy::large_enum_variant, reason = "a process has one")]
pub enum AnyEngine {
    /// KVM.
    Kvm(KvmEngine),
    /// The software CPU.
    Soft(SoftEngine),
}

impl AnyEngine {
    /// A virtual machine with this memory and one vCPU in its reset state.
    ///
    /// # Errors
    /// If the host lacks what the engine needs.
    pub fn new(kind: EngineKind, memory: &GuestMemory) -> Result<Self, EngineError> {
        Self::counting(kind, CountKind::default(), memory)
    }

    /// The same; KVM counts `count`. The software CPU counts every instruction whatever is asked.
    ///
    /// # Errors
    /// If the host lacks what the engine needs.
    pub fn counting(
        kind: EngineKind,
        count: CountKind,
        memory: &GuestMemory,
    ) -> Result<Self, EngineError> {
        match kind {
            EngineKind::Kvm => KvmEngine::new(memory, count).map(Self::Kvm),
            EngineKind::Soft => SoftEngine::new(memory).map(Self::Soft),
        }
    }
}

impl AnyEngine {
    /// Changes a general register, as a fault would; `index` is its place in [`Registers::general`].
    ///
    /// # Errors
    /// [`EngineError::Missing`] on KVM, where the last exit's instruction may still have to write it.
    pub fn set_general_register(&mut self, index: usize, value: u64) -> Result<(), EngineError> {
        match self {
            Self::Kvm(_) => Err(EngineError::Missing("a way to change registers at an exit")),
            Self::Soft(engine) => engine.set_general_register(index, value),
        }
    }
}

/// The same of whichever engine it is.
macro_rules! whichever {
    ($any:expr, $engine:ident => $what:expr) => {
        match $any {
            AnyEngine::Kvm($engine) => $what,
            AnyEngine::Soft($engine) => $what,
        }
    };
}

impl Engine for AnyEngine {
    fn clock(&self) -> String {
        whichever!(self, engine => engine.clock())
    }

    fn clock_kind(&self) -> ClockKind {
        whichever!(self, engine => engine.clock_kind())
    }

    fn cpu_model(&self) -> String {
        whichever!(self, engine => engine.cpu_model())
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        whichever!(self, engine => engine.boot(state))
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        whichever!(self, engine => engine.run(goal))
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        whichever!(self, engine => engine.reply(reply))
    }

    fn instructions(&self) -> u64 {
        whichever!(self, engine => engine.instructions())
    }

    fn retired(&self) -> Option<u64> {
        whichever!(self, engine => engine.retired())
    }

    fn accepts_interrupts(&self) -> bool {
        whichever!(self, engine => engine.accepts_interrupts())
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        whichever!(self, engine => engine.interrupt(vector))
    }

    fn kicker(&self) -> Option<Kicker> {
        whichever!(self, engine => engine.kicker())
    }

    fn track_dirty(&mut self) -> Result<(), EngineError> {
        whichever!(self, engine => engine.track_dirty())
    }

    fn take_delta(&mut self) -> Result<Delta, EngineError> {
        whichever!(self, engine => engine.take_delta())
    }

    fn go_on_from(&mut self, state: &[u8]) -> Result<(), EngineError> {
        whichever!(self, engine => engine.go_on_from(state))
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        whichever!(self, engine => engine.registers())
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        whichever!(self, engine => engine.mode())
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        whichever!(self, engine => engine.floating_point())
    }
}

/// The state of whichever engine it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnyState {
    /// KVM's.
    Kvm(Box<KvmState>),
    /// The software CPU's.
    Soft(Box<x86_engine::State>),
}

impl Persist for AnyEngine {
    type State = AnyState;

    fn save(&mut self) -> Result<AnyState, EngineError> {
        Ok(match self {
            Self::Kvm(engine) => AnyState::Kvm(Box::new(engine.save()?)),
            Self::Soft(engine) => AnyState::Soft(Box::new(engine.save()?)),
        })
    }

    fn restore(&mut self, state: &AnyState) -> Result<(), EngineError> {
        let of = |what: &str| EngineError::ForeignState {
            what: what.to_owned(),
        };
        match (self, state) {
            (Self::Kvm(engine), AnyState::Kvm(state)) => engine.restore(state),
            (Self::Soft(engine), AnyState::Soft(state)) => engine.restore(state),
            (Self::Kvm(_), AnyState::Soft(_)) => Err(of("the software CPU's")),
            (Self::Soft(_), AnyState::Kvm(_)) => Err(of("KVM's")),
        }
    }
}
