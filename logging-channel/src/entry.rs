//! The log's vocabulary: positions, events and entries.
//!
//! An [`Entry`] says that at [`Position`] `at` in the guest's instruction stream the event
//! happened. A replica's state after a position is a function of its initial state and the
//! entries up to that position, and of nothing else.
//!
//! Bytes are handed to serde in one piece: one by one they have the same form and take far longer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A point in the guest's instruction stream. Ordered lexicographically.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Architectural exits since boot.
    pub exits: u64,
    /// Instructions since the last exit; 0 where the clock counts exits alone, except inside a
    /// stretch that was single-stepped. Where it counts instructions, every retired one, every
    /// iteration of a repeated string instruction and every delivered exception is one.
    pub instructions: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.exits, self.instructions)
    }
}

/// A text that is no [`Position`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a position: give exits and instructions such as 6297+120, or exits alone such as 6297"
)]
pub struct NotAPosition {
    /// The text.
    pub text: String,
}

impl std::str::FromStr for Position {
    type Err = NotAPosition;

    /// As [`Display`](std::fmt::Display) writes it; without instructions, right after the exit.
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (exits, instructions) = text.split_once('+').unwrap_or((text, "0"));
        // `parse` would take a sign, too.
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        match (number(exits), number(instructions)) {
            (Some(exits), Some(instructions)) => Ok(Self {
                exits,
                instructions,
            }),
            _ => Err(NotAPosition {
                text: text.to_owned(),
            }),
        }
    }
}

/// 128 bits of a BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&blake3::hash(bytes))
    }

    /// The first 128 bits of `hash`.
    #[must_use]
    pub fn from_hash(hash: &blake3::Hash) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.as_bytes()[..16]);
        Self(digest)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Where an output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// A frame sent by the network card.
    Frame,
    /// Bytes printed on the serial console.
    Console,
    /// A request to a disk that changes it, or has changes last.
    Disk,
    /// A request to a disk that changes nothing. It needs no permission to leave.
    DiskRead,
}

impl OutputKind {
    /// Whether the output waits until the backup has its entry: the output rule.
    #[must_use]
    pub fn is_held(self) -> bool {
        self != Self::DiskRead
    }
}

/// How a request to a disk ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskOutcome {
    /// It is done.
    Done {
        /// What was read; empty for a request that reads nothing. Shared: it is long, and a primary both sends it and gives it to its guest.
        #[serde(with = "crate::codec::shared_bytes")]
        bytes: Arc<Vec<u8>>,
    },
    /// It is done, and every replica does it for itself: what it reads is not in the log.
    DoneApart {
        /// CRC-32 (IEEE) of what was read, which every replica must find.
        checksum: u32,
    },
    /// The disk could not.
    Failed,
    /// The disk knows no such request.
    Unsupported,
}

/// Neighbouring pages of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRange {
    /// Guest-physical address divided by 4096.
    pub first: u64,
    /// How many, at least one.
    pub count: u32,
}

/// What happened. All are inputs to the machine but [`Event::Output`], [`Event::Digest`] and [`Event::End`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The answer to a read of time by the exit at this position: nanoseconds of guest time since
    /// boot. Never less than any time before it in the log.
    Time {
        /// Guest time, nanoseconds since boot.
        #[serde(with = "crate::codec::varint")]
        guest_ns: u64,
    },
    /// Guest time moved on to `guest_ns`: timers that are due by then fire. Where instructions are counted, only in HLT: elsewhere timers fire by
    /// themselves.
    Tick {
        /// Guest time, nanoseconds since boot.
        #[serde(with = "crate::codec::varint")]
        guest_ns: u64,
    },
    /// The interrupt controller was acknowledged and the vector delivered to the vCPU.
    Interrupt {
        /// Interrupt vector, 32 to 255 by custom.
        vector: u8,
    },
    /// A frame was received: it enters the network card's receive ring here.
    Frame {
        /// The Ethernet frame without a virtio header, at most 65,562 bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Bytes were typed on the console: they enter the serial port's FIFO here.
    ConsoleInput {
        /// At most the free room of the FIFO.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Random bytes for the entropy device's oldest request.
    Entropy {
        /// As many bytes as the request asked for.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// On a clock of exits: an interrupt waits and the guest takes none here. From here the engine single-steps until it does, until an exit,
    /// or until `limit` instructions, whichever comes first. The replay steps likewise. Where the clock
    /// counts instructions, the interrupt's own position says where it lands, and there is no such entry.
    Step {
        /// Instructions since the last exit.
        limit: u64,
    },
    /// The machine produced an output at this position, or asked a disk for something.
    Output {
        /// Where it goes.
        kind: OutputKind,
        /// Digest of its bytes.
        digest: Digest,
    },
    /// The state of the machine at this position: registers, devices and one stripe of memory, or all of memory.
    Digest {
        /// What it covers is a function of the number of digests before it, the same on both sides.
        digest: Digest,
    },
    /// The guest ended here. It is always the last entry.
    End {
        /// Why, and the digest of the whole machine.
        reason: EndReason,
        /// Registers, devices and all of memory.
        digest: Digest,
    },
    /// From here on the guest's clock shows `guest_ns` and moves on by `ps_per_instruction` with every instruction. Only where they are counted: reads
    /// of time need no entry there.
    Clock {
        /// Guest time, nanoseconds since boot: never less than what the clock shows already.
        #[serde(with = "crate::codec::varint")]
        guest_ns: u64,
        /// Guest time that an instruction takes, picoseconds.
        ps_per_instruction: u32,
    },
    /// On a clock of exits: part of a state delta. From here the guest computed on without an exit and was stopped; the replay does not execute that
    /// stretch, it is given its result: the pages of one or more of these entries, then `State`. They change nothing by themselves.
    Pages {
        /// 0 for the delta's first entry, then without a gap. At 0 whatever was left of an earlier delta is void: it never got its `State`.
        part: u32,
        /// In ascending order, within the delta too.
        ranges: Vec<PageRange>,
        /// The pages' bytes, one after the other, in one zstd frame that tells its content's size.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The end of a state delta: the guest goes on from this state, with all its pages put into memory. Counts as an exit: what
    /// follows is at the position with one exit more, and no instructions.
    State {
        /// How many `Pages` belong to it.
        parts: u32,
        /// The engine's state, in one zstd frame that tells its content's size.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A request to a disk ended: the guest is told here.
    Disk {
        /// Which disk, counted from 0.
        disk: u8,
        /// Which request: numbered from 0 on each disk, in the order in which the guest made them.
        #[serde(with = "crate::codec::varint")]
        request: u64,
        /// How it ended.
        outcome: DiskOutcome,
    },
}

/// Why a guest ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The guest asked for a reset (keyboard controller or port 0xCF9); lockstep machines end there.
    Reset,
    /// The guest halted with interrupts disabled: nothing can ever wake it.
    Halted,
    /// The guest's vCPU shut down (triple fault).
    TripleFault,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 for the first entry of a log, then without a gap.
    pub seq: u64,
    /// Where it happened.
    pub at: Position,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// What the entry counts for in a queue or a batch, bytes: an upper bound of its encoded size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        // Sequence number, position, event tag and fixed fields; far below it for most entries.
        const FIXED_BYTES: u64 = 64;
        FIXED_BYTES + self.event.payload_bytes() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_are_read_and_refused() {
        let position = |exits, instructions| Position {
            exits,
            instructions,
        };
        assert_eq!("6297+120".parse(), Ok(position(6297, 120)));
        assert_eq!("6297+0".parse(), Ok(position(6297, 0)));
        assert_eq!("6297".parse(), Ok(position(6297, 0)));
        for bad in [
            "",
            "+",
            "1+",
            "+1",
            "1+2+3",
            "-1",
            "1+-2",
            "++1",
            " 1",
            "1 + 2",
            "0x10",
            "18446744073709551616",
            "end",
        ] {
            let refused = bad.parse::<Position>().expect_err(bad);
            assert!(refused.to_string().contains("6297+120"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(exits: u64, instructions: u64) {
            let position = Position { exits, instructions };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }
}
