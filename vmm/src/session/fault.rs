//! Faults that are put into a replay on purpose: a flipped bit of memory or of a register, at a position.
//!
//! In: `memory:ADDRESS.BIT@POSITION` or `REGISTER.BIT@POSITION`. Out: a machine with that fault. They show that a divergence is found, and where.

use std::str::FromStr;

use logging_channel::Position;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::{
    engine::{AnyEngine, EngineError, Registers},
    machine::Machine,
};

/// What is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A bit of a byte of memory.
    Memory {
        /// Guest-physical address of the byte.
        address: u64,
        /// 0 to 7.
        bit: u8,
    },
    /// A bit of a general register.
    Register {
        /// Its place in [`Registers::general`].
        index: usize,
        /// 0 to 63.
        bit: u8,
    },
}

/// A flipped bit, and where in the guest's course it flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub target: Target,
    /// When the machine has arrived there.
    pub at: Position,
}

/// A fault cannot be put into this machine.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Beyond the end.
    #[error("Guest memory has no byte at {address:#x}; it ends at {end:#x}")]
    NoMemory {
        /// What was asked for.
        address: u64,
        /// The first address behind memory.
        end: u64,
    },
    /// The guest exits before, or ends.
    #[error(
        "There is no position {at} in this replay, which came to {next} instead: give one that `replay --until` stops at"
    )]
    NoPosition {
        /// What was asked for.
        at: Position,
        /// Where the machine stands.
        next: Position,
    },
    /// Nothing can be told apart from before.
    #[error(
        "A fault at 0+0 has no moment before it to be compared with: give a later position, such as 0+1"
    )]
    AtTheBeginning,
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Fault {
    /// Flips the bit.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn inject(&self, machine: &mut Machine<AnyEngine>) -> Result<(), FaultError> {
        match self.target {
            Target::Memory { address, bit } => {
                let memory = machine.memory();
                let beyond = |_| FaultError::NoMemory {
                    address,
                    end: memory.last_addr().0 + 1,
                };
                let byte: u8 = memory.read_obj(GuestAddress(address)).map_err(beyond)?;
                memory
                    .write_obj(byte ^ 1 << bit, GuestAddress(address))
                    .map_err(beyond)
            }
            Target::Register { index, bit } => {
                let value = machine.registers()?.general[index];
                Ok(machine.set_general_register(index, value ^ 1 << bit)?)
            }
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!(
                "{text:?} is no fault: give memory:ADDRESS.BIT@POSITION or REGISTER.BIT@POSITION, such as memory:0x1000.3@60+12 or rax.0@60+12"
            )
        })
    }
}

fn parse(text: &str) -> Option<Fault> {
    let (what, at) = text.split_once('@')?;
    let (what, bit) = what.rsplit_once('.')?;
    let bit: u8 = bit.parse().ok()?;
    let target = match what.strip_prefix("memory:") {
        Some(address) => Target::Memory {
            address: number(address)?,
            bit: (bit < 8).then_some(bit)?,
        },
        None => Target::Register {
            index: Registers::GENERAL_NAMES
                .iter()
                .position(|name| name.eq_ignore_ascii_case(what))?,
            bit: (bit < 64).then_some(bit)?,
        },
    };
    let at = at.parse().ok()?;
    Some(Fault { target, at })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_refused() {
        let at = Position {
            exits: 60,
            instructions: 12,
        };
        let target = Target::Memory {
            address: 0x1000,
            bit: 3,
        };
        assert_eq!("memory:0x1000.3@60+12".parse(), Ok(Fault { target, at }));
        let target = Target::Register { index: 2, bit: 63 };
        assert_eq!("rcx.63@60+12".parse(), Ok(Fault { target, at }));
        for bad in [
            "",
            "rcx",
            "rcx.64@1",
            "memory:0x10.8@1",
            "memory:zz.1@1",
            "eip.1@1",
            "rcx.1@",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }
}
