//! Inputs: the only source of nondeterminism.
//!
//! [`Live`] asks the world and records; [`Logged`] answers from the log. Both serve the same loop
//! ([`crate::session::replica`]), which asks:
//!
//! - at an exit that reads time, where instructions are not counted: [`Inputs::time`];
//! - between two guest instructions: [`Inputs::next`], until it says how far to run;
//! - and tells what the machine did: [`Inputs::interrupted`], [`Inputs::output`], [`Inputs::digest`], [`Inputs::end`], which
//!   `Live` records and `Logged` compares, and [`Inputs::delta`], which only a live machine can do.

pub mod apart;
pub mod delta;
pub mod discipline;
pub mod inbox;
pub mod jitter;
pub mod late;
pub mod live;
pub mod logged;
pub mod recent;
pub mod recorder;
#[cfg(test)]
pub mod test_situation;

pub use live::Live;
pub use logged::Logged;
use logging_channel::{Digest, EndReason, Event, Position};

use crate::{
    effect::{DiskOperation, DiskRequest, Effect},
    engine::{ClockKind, Delta, Goal},
    machine::GuestMemory,
};
use delta::PackedDelta;

/// A guest that computes on a clock of instructions is stopped after so many, to be given what has arrived: some 0.1 ms at 200 million a
/// second, less than a network's delay and far less than a timer's period, and long enough that stopping costs nothing that could be measured.
const SLICE_INSTRUCTIONS: u64 = 20_000;

/// The longest slice, where their length varies.
const MAX_SLICE_INSTRUCTIONS: u64 = 2 * SLICE_INSTRUCTIONS;

/// No slice takes more guest time than this, picoseconds: on a slow engine it is shorter.
const MAX_SLICE_PS: u64 = 250_000_000;

/// A slice of `wanted` instructions, or of as many as a guest's clock of this rate allows.
fn slice_instructions(wanted: u64, ps_per_instruction: u32) -> u64 {
    let most = MAX_SLICE_PS / u64::from(ps_per_instruction).max(1);
    wanted.min(most).max(1)
}

/// Exits and slices from one digest to the next. Whatever the guest does, so many slices later at the latest (5 million instructions; some
/// 30 ms) the log says how far it is: a backup is never further behind than that without knowing it, and pacing
/// (`session/pipe.rs`) has its say.
const DIGEST_TURNS: u32 = 256;

/// Where instructions are counted, a guest that exits all the time has no more than a digest in this time, nanoseconds: its exits cost
/// less than a microsecond, and the log would consist of digests.
const DIGEST_INTERVAL_NS: u64 = 5_000_000;

/// On a clock of instructions the log has an entry at least once in so many.
const MAX_SILENT_INSTRUCTIONS: u64 = DIGEST_TURNS as u64 * MAX_SLICE_INSTRUCTIONS;

/// What the machine does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Takes this event in, here.
    Apply(Event),
    /// Takes the interrupt that its interrupt controller requests, here.
    Interrupt,
    /// Tells its state's digest, here.
    Digest,
    /// Keeps account, from here on anew, of the pages that the guest dirties: it may be kicked.
    Track,
    /// Goes on from the result of a stretch that it does not execute, one exit further.
    Delta(PackedDelta),
    /// Runs on.
    Run(Goal),
    /// Stands still: all that belongs here is done, and whoever steers the replica wants it here.
    Hold,
}

/// A difference between what the log says and what the machine did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Divergence at {at}: expected {expected}, got {actual}")]
pub struct Divergence {
    /// Where.
    pub at: Position,
    /// What the log says.
    pub expected: String,
    /// What the machine did.
    pub actual: String,
    /// The last entries that agreed, the oldest first.
    pub last_entries: Vec<String>,
}

/// Why inputs cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The machine does not follow its log.
    #[error(transparent)]
    Diverged(#[from] Divergence),
    /// The log ends here, and there is nothing after it.
    #[error("The log ends at {at}")]
    Exhausted {
        /// Where the machine stands.
        at: Position,
    },
    /// The session is over: this replica must not run on.
    #[error("The session is over")]
    Closed,
    /// What this replica would have to know or to have done of a disk's work it does not, or has not.
    #[error("{0}")]
    Disk(String),
    /// The world could not be asked, or the log not be written.
    #[error("{doing}")]
    Host {
        /// What was tried.
        doing: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
}

/// What a machine that stands between two instructions would take. Each answer is worked out when it is asked for: some of
/// them read guest memory, and most positions need none.
pub trait Situation {
    /// Where the vCPU can be stopped.
    fn clock_kind(&self) -> ClockKind;

    /// Instructions retired since the machine began, where the engine counts them all.
    fn retired(&self) -> Option<u64>;

    /// Guest time now, nanoseconds since boot: where instructions are not counted, the latest that any input told.
    fn time_ns(&self) -> u64;

    /// How much guest time an instruction takes, picoseconds, where they are counted.
    fn ps_per_instruction(&self) -> u32;

    /// When a timer is due next, guest nanoseconds since boot: give [`Event::Tick`] then. Where instructions are counted, the machine fires its timers
    /// by itself, and needs ticks in HLT alone.
    fn deadline_ns(&self) -> Option<u64>;

    /// Whether the receive ring has room for a frame.
    fn takes_frame(&self) -> bool;

    /// Bytes that the serial port's FIFO has room for.
    fn console_input_room(&self) -> usize;

    /// How much the oldest entropy request asks for, bytes.
    fn entropy_bytes(&self) -> Option<usize>;

    /// What a disk was asked to do under this name and has not answered: [`Event::Disk`] is awaited.
    fn disk_request(&self, disk: u8, request: u64) -> Option<DiskOperation>;

    /// All that the disks were asked to do and have not answered, in order of disk and request.
    fn disk_requests(&self) -> Vec<DiskRequest>;

    /// Whether the interrupt controller has a request for the vCPU.
    fn interrupt_pending(&self) -> bool;

    /// Whether a request other than the timer's is among them.
    fn other_than_timer_pending(&self) -> bool;

    /// Whether the vCPU would take it here.
    fn accepts_interrupts(&self) -> bool;

    /// Whether the vCPU waits in HLT.
    fn halted(&self) -> bool;
}

/// Where a machine's inputs come from.
pub trait Inputs {
    /// The guest time for the exit at `at`, nanoseconds since boot.
    ///
    /// # Errors
    /// See [`InputError`].
    fn time(&mut self, at: Position) -> Result<u64, InputError>;

    /// What the machine, standing at `at` between two instructions, does next. May wait.
    ///
    /// # Errors
    /// See [`InputError`].
    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError>;

    /// The machine took an interrupt; `None` if it could not.
    ///
    /// # Errors
    /// See [`InputError`].
    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError>;

    /// The machine produced an output.
    ///
    /// # Errors
    /// See [`InputError`].
    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError>;

    /// The machine's periodic digest.
    ///
    /// # Errors
    /// See [`InputError`].
    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError>;

    /// The guest has computed on from `at`, nobody can say how far, and was stopped: this is what it has become.
    ///
    /// # Errors
    /// See [`InputError`].
    ///
    /// # Panics
    /// If these inputs have nobody kicked.
    fn delta(
        &mut self,
        at: Position,
        _delta: &Delta,
        _memory: &GuestMemory,
    ) -> Result<(), InputError> {
        panic!("nobody can have kicked the vCPU at {at}")
    }

    /// The guest ended.
    ///
    /// # Errors
    /// See [`InputError`].
    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError>;
}
