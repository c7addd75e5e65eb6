//! The families of integer instructions besides arithmetic, moves, branches and the stack.

use iced_x86::Instruction;

use super::{
    bits, convert, decimal, double_shift, exchange, flag_bits, misc, multiply, shift, strings,
};
use crate::decode::op::{Op, Selected};

/// Finds the handler for an instruction of one of these families.
pub(crate) fn select_rest(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    shift::select(instruction, op)
        .or_else(|| double_shift::select(instruction, op))
        .or_else(|| multiply::select(instruction))
        .or_else(|| bits::select(instruction))
        .or_else(|| exchange::select(instruction))
        .or_else(|| convert::select(instruction))
        .or_else(|| flag_bits::select(instruction))
        .or_else(|| decimal::select(instruction))
        .or_else(|| strings::select(instruction, op))
        .or_else(|| misc::select(instruction, op))
}
