//! The integer instructions.

mod arithmetic;
mod bits;
mod branch;
mod convert;
mod decimal;
mod dispatch;
mod double_shift;
mod exchange;
mod flag_bits;
mod misc;
mod moves;
mod multiply;
mod rest;
mod shift;
mod stack;
mod strings;
#[cfg(test)]
mod test_native;
#[cfg(test)]
mod tests;

use iced_x86::{Instruction, OpKind};

use crate::{
    cpu::CodeSize,
    decode::op::{Op, Selected},
};

pub(crate) use stack::{pop, push, top_of_stack};

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, code: CodeSize) -> Option<Selected> {
    arithmetic::select(instruction)
        .or_else(|| moves::select(instruction))
        .or_else(|| branch::select(instruction, op))
        .or_else(|| stack::select(instruction, op, code))
        .or_else(|| rest::select_rest(instruction, op))
}

/// Which kinds of operands an instruction with two of them has, destination first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    RegisterRegister,
    RegisterMemory,
    MemoryRegister,
    RegisterImmediate,
    MemoryImmediate,
}

impl Form {
    /// The form of the first two operands, if it is one of these and the registers are general.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        use OpKind::{Memory, Register};
        let general = |index| instruction.op_register(index).is_gpr();
        let (first, second) = (instruction.op0_kind(), instruction.op1_kind());
        match (first, second) {
            (Register, Register) if general(0) && general(1) => Some(Self::RegisterRegister),
            (Register, Memory) if general(0) => Some(Self::RegisterMemory),
            (Memory, Register) if general(1) => Some(Self::MemoryRegister),
            (Register, kind) if general(0) && is_immediate(kind) => Some(Self::RegisterImmediate),
            (Memory, kind) if is_immediate(kind) => Some(Self::MemoryImmediate),
            _ => None,
        }
    }
}

/// Whether an operand is an immediate value.
pub(crate) fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

/// Width of an operand in bytes: the register's, or that of what lies in memory.
pub(crate) fn width(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        _ => instruction.memory_size().size(),
    }
}

/// Picks the width of a generic handler: `by_width!(bytes, T => handler::<T>)`.
macro_rules! by_width {
    ($bytes:expr, $T:ident => $handler:expr) => {
        match $bytes {
            1 => {
                type $T = u8;
                $handler
            }
            2 => {
                type $T = u16;
                $handler
            }
            4 => {
                type $T = u32;
                $handler
            }
            _ => {
                type $T = u64;
                $handler
            }
        }
    };
}
pub(crate) use by_width;
