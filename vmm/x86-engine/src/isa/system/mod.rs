//! System instructions, and the delivery of interrupts and exceptions.
//!
//! | file | |
//! |---|---|
//! | `descriptor.rs`, `stack.rs`, `transfer.rs` | what transfers between segments and privileges are made of |
//! | `interrupt.rs`, `iret.rs`, `syscall.rs`, `far.rs` | the transfers |
//! | `segment_load.rs`, `tables.rs`, `verify.rs` | segment and table registers |
//! | `control.rs`, `debug.rs`, `msr.rs`, `flag_control.rs` | control, debug and model-specific registers, system flags |
//! | `port.rs`, `machine.rs` | input and output; HLT, CPUID, RDTSC, hints |
//!
//! Hardware task switches, virtual-8086 mode and real-address mode are not supported: see `interrupt.rs`, `iret.rs`, `control.rs` for what
//! asking for them does.

mod control;
mod debug;
mod descriptor;
mod far;
mod flag_control;
#[cfg(test)]
mod fuzz_tests;
pub(crate) mod interrupt;
mod iret;
#[cfg(test)]
mod kernel_tests;
mod machine;
mod msr;
mod port;
mod segment_load;
mod stack;
mod syscall;
mod tables;
#[cfg(test)]
mod test_support;
mod transfer;
mod verify;

use iced_x86::Instruction;

use crate::{
    cpu::CodeSize,
    decode::op::{Op, Selected},
};

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, code: CodeSize) -> Option<Selected> {
    machine::select(instruction)
        .or_else(|| flag_control::select(instruction))
        .or_else(|| segment_load::select(instruction, op, code))
        .or_else(|| interrupt::select(instruction))
        .or_else(|| iret::select(instruction))
        .or_else(|| syscall::select(instruction))
        .or_else(|| far::select(instruction, op))
        .or_else(|| control::select(instruction, op))
        .or_else(|| debug::select(instruction, op))
        .or_else(|| msr::select(instruction))
        .or_else(|| tables::select(instruction, op))
        .or_else(|| port::select(instruction, op))
        .or_else(|| verify::select(instruction, op))
}

/// Picks a handler that is generic over width and target for an instruction that stores a selector or the like: 16 bits to memory, or
/// a whole register.
macro_rules! selector_target {
    ($instruction:expr, $handler:ident) => {
        match ($instruction.op0_kind(), $instruction.op0_register().size()) {
            (iced_x86::OpKind::Memory, _) => $handler::<u16, crate::isa::operand::Memory>,
            (_, 2) => $handler::<u16, crate::isa::operand::R1>,
            (_, 4) => $handler::<u32, crate::isa::operand::R1>,
            _ => $handler::<u64, crate::isa::operand::R1>,
        }
    };
}
use selector_target;
