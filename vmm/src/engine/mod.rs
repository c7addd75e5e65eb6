//! Engines run guest instructions; nothing else.
//!
//! In: a [`Goal`] to run to, a [`Reply`] to the last exit, an interrupt vector. Out: a [`Stop`]
//! with the [`Exit`] as data. What always holds: an engine never serves an exit by itself, and
//! two engines of the same [`Engine::clock`] in the same state that are given the same replies
//! and the same interrupts at the same places produce the same exits.
//!
//! ```text
//!            run(goal)                          run(goal)
//!   ┌──────┐ ───────────► guest instructions ─┬─► Stop::Exit(exit) ──► reply(…) ──┐
//!   │ idle │                                  ├─► Stop::Reached ─────────────────┐│
//!   │      │                                  └─► Stop::Kicked ─► take_delta() ─┐││
//!   │      │ ◄──────────── go_on_from(state), on every replica ◄────────────────┘││
//!   └──────┘ ◄──── interrupt(vector), if accepts_interrupts() ◄──────────────────┴┘
//! ```
//!
//! Where an engine counts exits alone, nobody can say where a guest is between two of them. It can be stopped there all the same ([`Kicker`]):
//! where it stands is then told as a state ([`Delta`]), and replicas go on from that state instead of computing their way to it.

pub mod any;
pub mod checkpoint;
pub mod inspect;
pub mod kvm;
pub mod soft;

pub use any::AnyEngine;
pub use checkpoint::Checkpoint;
pub use inspect::Inspect;
pub use kvm::kick::Kicker;

use crate::machine::boot::BootState;

/// The engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// KVM.
    Kvm,
    /// The software CPU.
    Soft,
}

impl EngineKind {
    /// As in `--engine`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Soft => "soft",
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What an engine can count, and with it where it can stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// Exits. [`Goal::Instructions`] and [`Goal::Interruptible`] work for short stretches from an exit: the engine single-steps.
    Exits,
    /// Every instruction, at full speed. The engine stops anywhere.
    Instructions,
}

/// What the guest asks or tells. Only architectural events are exits; signals and whatever a
/// host's KVM needs help with are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `in`: wants [`Reply::Port`].
    PortRead {
        /// I/O port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        width: u8,
    },
    /// `out`.
    PortWrite {
        /// I/O port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        width: u8,
        /// The value in its low `width` bytes.
        value: u32,
    },
    /// A load outside of memory: wants [`Reply::Mmio`].
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// Bytes, 1 to 8.
        width: u8,
    },
    /// A store outside of memory.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// Bytes, 1 to 8.
        width: u8,
        /// The value, little endian, in its first `width` bytes.
        data: [u8; 8],
    },
    /// RDTSC or RDTSCP: wants [`Reply::Tsc`].
    TscRead {
        /// RDTSCP: ECX is filled as well.
        with_aux: bool,
    },
    /// HLT; the instruction is retired. Goes on when an interrupt is injected.
    Halt,
    /// A point that this host's clock counts because interrupts may be injected there. The guest asked nothing.
    InjectionPoint,
    /// The vCPU shut down (triple fault). It cannot run on.
    Shutdown,
}

/// The answer to an [`Exit`] that wants one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Exit::PortRead`]: the low `width` bytes count.
    Port(u32),
    /// To [`Exit::MmioRead`]: little endian, the first `width` bytes count.
    Mmio([u8; 8]),
    /// To [`Exit::TscRead`].
    Tsc {
        /// Time-stamp counter.
        value: u64,
    },
    /// To every other exit.
    None,
}

/// How far to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To the next exit.
    Exit,
    /// To the next exit, or until this many instructions have retired since the last one.
    Instructions(u64),
    /// To the next exit, or until the guest accepts an interrupt, or until `limit` instructions have retired since
    /// the last exit, whichever comes first.
    Interruptible {
        /// Instructions since the last exit.
        limit: u64,
    },
}

/// Why the engine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest exited.
    Exit(Exit),
    /// The goal was reached before an exit.
    Reached,
    /// A breakpoint was reached before either: see [`Inspect::set_breakpoints`].
    Breakpoint,
    /// The run was kicked: the guest has computed on for a while, nobody can say how far. [`Engine::take_delta`] must follow. Only where somebody has a
    /// [`Kicker`], the goal is [`Goal::Exit`] and the clock counts exits.
    Kicked,
}

/// A stretch that a guest computed without an exit, by its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The engine's state after the stretch, as [`Engine::go_on_from`] takes it.
    pub state: Vec<u8>,
    /// Guest-physical ranges, whole pages, in ascending order: all that the guest wrote in the stretch are among them.
    pub dirty: Vec<std::ops::Range<u64>>,
}

/// The registers that digests cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Registers {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8 to R15.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR0, CR2, CR3, CR4.
    pub control: [u64; 4],
    /// Bases of FS and GS.
    pub segment_bases: [u64; 2],
}

impl Registers {
    /// Names of [`Self::general`], in its order.
    pub const GENERAL_NAMES: [&str; 16] = [
        "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RSP", "RBP", "R8", "R9", "R10", "R11", "R12",
        "R13", "R14", "R15",
    ];

    /// Every register with its name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let general = Self::GENERAL_NAMES.into_iter().zip(self.general);
        let control = ["CR0", "CR2", "CR3", "CR4"].into_iter().zip(self.control);
        let bases = ["FS base", "GS base"].into_iter().zip(self.segment_bases);
        let others = [("RIP", self.rip), ("RFLAGS", self.rflags)];
        general.chain(others).chain(control).chain(bases).collect()
    }
}

/// The x87 and SSE registers that digests cover. The last instruction's addresses and opcode are left out: processors differ in when
/// they store them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FloatingPoint {
    /// ST(0) to ST(7), ten bytes each and padding.
    pub st: [[u8; 16]; 8],
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
    /// Control, status and abridged tag word (SDM 1 8.1).
    pub words: [u16; 3],
    /// SSE control and status.
    pub mxcsr: u32,
}

/// What kind of code the vCPU executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMode {
    /// Current privilege level: 0 for a kernel, 3 for its programs.
    pub privilege: u8,
    /// 64, 32 or 16: the code segment's size.
    pub bits: u8,
}

impl CpuMode {
    /// Size of the code, from the bits L and D of its segment (SDM 3A 3.4.5).
    #[must_use]
    pub fn code_bits(long: bool, default_32: bool) -> u8 {
        match (long, default_32) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        }
    }
}

impl std::fmt::Display for CpuMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { privilege, bits } = self;
        match privilege {
            0 => write!(f, "{bits}-bit kernel mode"),
            3 => write!(f, "{bits}-bit user mode"),
            other => write!(f, "{bits}-bit code at privilege level {other}"),
        }
    }
}

/// What went wrong in an engine. None of them is the guest's doing alone: the VMM ends.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host has no usable KVM.
    #[error(
        "Cannot open /dev/kvm; load the kvm module and see that this user may read and write /dev/kvm"
    )]
    Open(#[source] vmm_sys_util::errno::Error),
    /// A KVM call failed.
    #[error("KVM refused to {doing}")]
    Kvm {
        /// What was tried.
        doing: &'static str,
        /// What KVM answered.
        source: vmm_sys_util::errno::Error,
    },
    /// KVM lacks something.
    #[error("This host's KVM lacks {0}, which lockstep needs")]
    Missing(&'static str),
    /// KVM could not execute an instruction and lockstep does not know how to complete it.
    #[error("This host's KVM cannot execute the guest instruction at {rip:#x} ({bytes}): {why}")]
    Emulation {
        /// Where the guest is.
        rip: u64,
        /// The instruction's bytes in hexadecimal.
        bytes: String,
        /// What is known of the reason.
        why: String,
    },
    /// No hardware counter to count with.
    #[error(
        "Cannot count with hardware: {0}. Use --count step, which is exact and slow, or --engine soft"
    )]
    NoCounter(String),
    /// A hardware counter failed.
    #[error("Cannot {doing} the hardware counter")]
    Counter {
        /// What was tried.
        doing: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// See [`kvm::count::approach::Skid`].
    #[error(transparent)]
    Skid(#[from] kvm::count::approach::Skid),
    /// A saved state is another version's.
    #[error(transparent)]
    UnknownState(#[from] x86_engine::UnknownVersion),
    /// A saved state is another engine's.
    #[error("The saved state is {what}, which this engine cannot go on from")]
    ForeignState {
        /// What it is.
        what: String,
    },
    /// The state cannot be saved here; it can after the next exits.
    #[error("The engine's state cannot be saved here: {0}")]
    Unsavable(&'static str),
    /// KVM stopped for a reason that no guest of ours can cause.
    #[error("KVM stopped the guest unexpectedly: {0}")]
    Unexpected(String),
}

/// Something that runs guest instructions.
pub trait Engine {
    /// What this engine counts, and where it takes interrupts. Replicas of one pair have the same.
    fn clock(&self) -> String;

    /// What kind of clock that is.
    fn clock_kind(&self) -> ClockKind;

    /// The CPU model that the guest sees, together with what the host lets through.
    fn cpu_model(&self) -> String;

    /// Puts the vCPU where the loader wants it to begin.
    ///
    /// # Errors
    /// [`EngineError::Kvm`] if the host refuses the state.
    fn boot(&mut self, state: &BootState) -> Result<(), EngineError>;

    /// Runs the guest. The last exit must have been answered.
    ///
    /// # Errors
    /// See [`EngineError`]; the engine cannot be used any more.
    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError>;

    /// Answers the last exit. It takes effect when the guest runs on.
    ///
    /// # Errors
    /// See [`EngineError`].
    ///
    /// # Panics
    /// If the reply is not of the kind that the exit wants.
    fn reply(&mut self, reply: Reply) -> Result<(), EngineError>;

    /// Instructions retired since the last exit, as far as the clock counts them.
    fn instructions(&self) -> u64;

    /// Instructions retired since the machine began, where the engine counts them all.
    fn retired(&self) -> Option<u64>;

    /// Whether an interrupt can be injected here, once the last exit is answered. A function of the guest's state alone.
    fn accepts_interrupts(&self) -> bool;

    /// Injects an external interrupt. Only where [`Self::accepts_interrupts`].
    ///
    /// # Errors
    /// See [`EngineError`].
    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError>;

    /// A handle by which another thread makes a run to [`Goal::Exit`] end, where the engine needs that: it counts exits alone.
    fn kicker(&self) -> Option<Kicker> {
        None
    }

    /// The guest's stores are accounted for by page from here on; if they were, from here on anew. Before any kick.
    ///
    /// # Errors
    /// If the host cannot.
    fn track_dirty(&mut self) -> Result<(), EngineError> {
        Err(EngineError::Missing("an account of dirty pages"))
    }

    /// After [`Stop::Kicked`]: what the guest has become since the last exit. [`Self::go_on_from`] must follow, here too.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn take_delta(&mut self) -> Result<Delta, EngineError> {
        Err(EngineError::Missing("a way to tell its state"))
    }

    /// The guest goes on from a delta's state; memory is as it was then. Counts as an exit that is answered: nothing of the last one's
    /// instructions is left to count.
    ///
    /// # Errors
    /// [`EngineError::ForeignState`] if the state is none of this engine's.
    fn go_on_from(&mut self, _state: &[u8]) -> Result<(), EngineError> {
        Err(EngineError::Missing("a way to take a state"))
    }

    /// Reads the registers as of now. The last exit's instruction shows as completed once the exit is answered.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn registers(&mut self) -> Result<Registers, EngineError>;

    /// What kind of code the vCPU is about to execute.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn mode(&mut self) -> Result<CpuMode, EngineError>;

    /// Reads the x87 and SSE registers as of now.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError>;
}

/// An engine whose state can be taken out and put into another one.
pub trait Persist: Engine {
    /// Everything that the vCPU's future depends on, except memory. It names its version.
    type State: serde::Serialize + serde::de::DeserializeOwned;

    /// The state as of now. The last exit must have been answered; what is left of its instruction is completed.
    ///
    /// # Errors
    /// [`EngineError::Unsavable`] if the engine's state cannot be had here.
    fn save(&mut self) -> Result<Self::State, EngineError>;

    /// Goes on from a saved state. Memory must be as it was when the state was saved.
    ///
    /// # Errors
    /// [`EngineError::UnknownState`] or [`EngineError::ForeignState`] if another version of this engine, or another engine, saved it.
    fn restore(&mut self, state: &Self::State) -> Result<(), EngineError>;
}
