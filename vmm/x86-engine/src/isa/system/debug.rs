//! Debug registers: MOV DRn (SDM 3B 17.2). The breakpoints themselves are in [`crate::run`] (instructions), in `memory/slow.rs` (data) and in
//! `port.rs` (I/O).

use iced_x86::{Code, Instruction};

use super::interrupt::{DEBUG_REGISTER_ACCESS, GENERAL_DETECT};
use crate::{
    cpu::{CR4_DE, Core, Halt, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
};

/// DR6: what software can set; the rest reads as it is after reset.
const DR6_BITS: u64 = 0xE00F;
const DR6_FIXED: u64 = 0xFFFF_0FF0;
/// DR7: bits 10 is always set; 11, 12, 14 and 15 never are.
const DR7_BITS: u64 = 0xFFFF_23FF;
const DR7_FIXED: u64 = 0x400;

/// Which register is meant: without CR4.DE, DR4 and DR5 are DR6 and DR7.
fn checked_number(core: &mut Core, number: u16) -> Result<usize, Halt> {
    core.require_supervisor()?;
    let number = match number {
        0..=3 | 6 | 7 => number,
        4 | 5 if core.cr4 & CR4_DE == 0 => number + 2,
        _ => return Err(core.invalid_opcode()),
    };
    if core.debug[7] & GENERAL_DETECT != 0 {
        return Err(core.raise(Exception::debug(DEBUG_REGISTER_ACCESS)));
    }
    Ok(usize::from(number))
}

fn read_debug(core: &mut Core, op: &Op) -> Step {
    let number = checked_number(core, op.extra)?;
    core.put_whole(op.r1, core.debug[number]);
    Ok(())
}

fn write_debug(core: &mut Core, op: &Op) -> Step {
    let number = checked_number(core, op.extra)?;
    let value = core.get_whole(op.r2);
    if number >= 6 && value >> 32 != 0 {
        return Err(core.general_protection());
    }
    core.debug[number] = match number {
        6 => value & DR6_BITS | DR6_FIXED,
        7 => value & DR7_BITS | DR7_FIXED,
        _ => value,
    };
    let was_watching = core.watching;
    core.update_mode();
    if core.watching != was_watching {
        // With a data breakpoint armed no access may take the fast path.
        core.flush_translations();
    }
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Mov_r32_dr | Code::Mov_r64_dr => {
            op.extra = instruction.op1_register().number() as u16;
            read_debug
        }
        Code::Mov_dr_r32 | Code::Mov_dr_r64 => {
            op.extra = instruction.op0_register().number() as u16;
            write_debug
        }
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "debug_tests.rs"]
mod tests;
