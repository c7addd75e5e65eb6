//! The x87 instructions, and those that save and restore the x87 and SSE states.
//!
//! In: an instruction, [`crate::cpu::X87`], memory. Out: the same. What is computed comes from [`crate::float80`]; here are the stack, the
//! status word, memory operands and the order of events, which is the same for all:
//!
//! 1. #NM if CR0 says that there is no x87 for this task; #MF if an unmasked exception is pending, except for the instructions that do not
//!    wait. CR0.NE = 0 asks for an external interrupt instead of #MF (SDM 3A 2.5); the machine has no such wire, so #MF it is.
//! 2. Operands in memory are loaded, the result is computed, a result for memory is stored. Any of these can fault or leave to a device, and
//!    nothing has changed yet.
//! 3. Registers, tags, TOP and the status word are written, then the pointers to the last instruction and its operand.
//!
//! The pointers follow one rule, that of AMD's processors: every instruction but the control instructions sets FIP and FOP, those with an
//! operand in memory set FDP too, whether or not there is an exception. FCS and FDS are always stored as 0 and ignored when loaded, as CPUID
//! leaf 7 allows. FXSAVE and XSAVE store the pointers as 0 unless ES is set, and FXRSTOR and XRSTOR load them always.

mod area;
mod arithmetic;
mod compare;
mod control;
mod environment;
mod function;
mod fxsave;
mod stack;
#[cfg(test)]
mod tests;
mod transfer;
mod xsave;

use iced_x86::{Instruction, OpKind};

use crate::{
    cpu::{CR0_EM, CR0_TS, CodeSize, Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
};

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, _code: CodeSize) -> Option<Selected> {
    place_stack_operand(instruction, op);
    let code = instruction.code();
    let run: Option<Handler> = control::select(code)
        .or_else(|| transfer::select(code, op))
        .or_else(|| arithmetic::select(code))
        .or_else(|| compare::select(code))
        .or_else(|| function::select(code))
        .or_else(|| environment::select(code))
        .or_else(|| fxsave::select(code))
        .or_else(|| xsave::select(code));
    run.and_then(Selected::anywhere)
}

/// Makes `r2` the number of the operand that is ST(i), also where it is the destination or the only operand.
fn place_stack_operand(instruction: &Instruction, op: &mut Op) {
    let is_st = |index| {
        instruction.op_count() > index
            && instruction.op_kind(index) == OpKind::Register
            && instruction.op_register(index).is_st()
    };
    let last_is_other = is_st(1) && instruction.op0_register() == iced_x86::Register::ST0;
    // Of ST(0), ST(0) either one will do.
    if is_st(0) && !last_is_other {
        op.r2 = op.r1;
    }
}

/// The i of the operand ST(i).
fn other(op: &Op) -> usize {
    debug_assert!((op.r2 as usize) < Register::R8 as usize);
    op.r2 as usize
}

/// The last opcode as FSTENV stores it: the low three bits of the first byte and the second byte, past any prefixes; 0 for an instruction that
/// is not the x87's. `code` is the whole instruction.
pub(crate) fn last_opcode(code: &[u8], size: CodeSize) -> u16 {
    let is_prefix = |byte: &u8| {
        matches!(
            byte,
            0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
        ) || size == CodeSize::Bits64 && matches!(byte, 0x40..=0x4F)
    };
    let opcode = code.iter().position(|byte| !is_prefix(byte)).unwrap_or(0);
    match code.get(opcode..opcode + 2) {
        Some(&[first @ 0xD8..=0xDF, second]) => u16::from_be_bytes([first & 7, second]),
        _ => 0,
    }
}

impl Core {
    /// #NM unless the x87 is there for this task.
    pub(crate) fn require_x87(&mut self) -> Step {
        if self.cr0 & (CR0_EM | CR0_TS) != 0 {
            return Err(self.raise(Exception::DEVICE_NOT_AVAILABLE));
        }
        Ok(())
    }

    /// What comes before every instruction that waits: #NM, or the #MF of an earlier one.
    fn begin_x87(&mut self) -> Step {
        self.require_x87()?;
        self.require_no_x87_error()
    }

    /// #MF if an unmasked exception is pending.
    pub(crate) fn require_no_x87_error(&mut self) -> Step {
        if self.x87.is_error_pending() {
            return Err(self.raise(Exception::X87_FLOATING_POINT));
        }
        Ok(())
    }

    /// Remembers the instruction as the last one.
    fn note_x87(&mut self, op: &Op) {
        let block = self.general[Register::Block as usize];
        self.x87.last_instruction = self.advanced(block, u64::from(op.offset));
        self.x87.last_opcode = op.extra;
    }

    /// Remembers the instruction and its operand in memory.
    fn note_x87_memory(&mut self, op: &Op) {
        self.x87.last_data = self.effective_address(op);
        self.note_x87(op);
    }
}
