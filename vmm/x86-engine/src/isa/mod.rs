//! What instructions do, by family.
//!
//! Each family has a `select` that, given a decoded instruction, picks a handler and where the instruction may stand in a block;
//! the first family that knows it has it. What none knows raises #UD.
//!
//! A handler reads its operands, computes, writes, sets flags, and returns. It must not have changed anything that executing it again would
//! not repair when it returns an error: loads and stores (which can fault, or exit to a device and be repeated) come before the first register
//! or flag is written, and what is stored first must not be read again.

pub(crate) mod integer;
pub(crate) mod operand;
pub(crate) mod simd;
pub(crate) mod system;
pub(crate) mod x87;

use iced_x86::Instruction;

use crate::{
    cpu::{CodeSize, Core, Step},
    decode::op::{Op, Place, Selected},
};

/// Finds the handler for `instruction`, whose operands are already in `op`.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, code: CodeSize) -> Selected {
    integer::select(instruction, op, code)
        .or_else(|| system::select(instruction, op, code))
        .or_else(|| simd::select(instruction, op, code))
        .or_else(|| x87::select(instruction, op, code))
        .unwrap_or(Selected {
            run: undefined,
            place: Place::Last,
        })
}

/// #UD.
pub(crate) fn undefined(core: &mut Core, _op: &Op) -> Step {
    Err(core.invalid_opcode())
}

/// More than 15 bytes: #GP(0).
pub(crate) fn too_long(core: &mut Core, _op: &Op) -> Step {
    Err(core.general_protection())
}
