//! The dialogue with whoever runs the CPU: goals in, stops and exits out, replies in.

use serde::{Deserialize, Serialize};

/// What the guest asks or tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// `in`, or one element of `ins`: wants [`Reply::Port`].
    PortRead {
        /// I/O port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        width: u8,
    },
    /// `out`, or one element of `outs`.
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
    /// The CPU shut down (triple fault). It cannot run on.
    Shutdown,
}

/// The answer to an [`Exit`].
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
    /// To the next exit, or until the clock shows this many instructions since the last one.
    Instructions(u64),
    /// To the next exit, or until the guest accepts an interrupt, or until the clock shows `limit` instructions since the last exit,
    /// whichever comes first.
    Interruptible {
        /// Instructions since the last exit.
        limit: u64,
    },
}

impl Goal {
    /// What the clock shows at the latest, and whether a place for an interrupt will do.
    pub(crate) fn limit(self) -> (u64, bool) {
        match self {
            Self::Exit => (u64::MAX, false),
            Self::Instructions(limit) => (limit, false),
            Self::Interruptible { limit } => (limit, true),
        }
    }
}

/// Why the CPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest exited; answer with a [`Reply`] before running on.
    Exit(Exit),
    /// The goal was reached before an exit.
    Reached,
}

/// How an exit's instruction is completed by its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Completion {
    /// It has done all that it does.
    Retired,
    /// The reply goes to AL, AX or EAX.
    Accumulator,
    /// The reply goes to EDX and EAX, and ECX gets IA32_TSC_AUX if asked for.
    TimeStamp,
    /// It is executed again, now with the answers so far at hand.
    Again,
}

/// An answered access of an instruction that is executed again: the first such access takes the first answer, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// A value was read, little endian.
    Read([u8; 8]),
    /// The write is done.
    Written,
}
