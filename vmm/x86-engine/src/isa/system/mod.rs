//! System instructions.
use iced_x86::Instruction;

use crate::{
    cpu::CodeSize,
    decode::op::{Op, Selected},
};

pub(crate) mod interrupt;

/// Finds the handler for an instruction of this family.
pub(crate) fn select(
    _instruction: &Instruction,
    _op: &mut Op,
    _code: CodeSize,
) -> Option<Selected> {
    None
}
