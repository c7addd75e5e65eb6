//! Decimal arithmetic, which 64-bit mode does not have: DAA, DAS, AAA, AAS, AAM, AAD (SDM 2A).
//!
//! What the manual leaves undefined is as AMD's Zen has it, in all cases: each instruction leaves the flags of the addition or subtraction that it
//! is about, except for the CF and AF that the manual defines. For AAA and AAS that is one of 16 bits, before AL is cut.

use iced_x86::{Instruction, Mnemonic};

use crate::{
    cpu::{Core, Halt, Register, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let run: Handler = match instruction.mnemonic() {
        Mnemonic::Daa => |core, _| adjust_packed::<false>(core),
        Mnemonic::Das => |core, _| adjust_packed::<true>(core),
        Mnemonic::Aaa => |core, _| adjust_unpacked::<false>(core),
        Mnemonic::Aas => |core, _| adjust_unpacked::<true>(core),
        Mnemonic::Aam => split,
        Mnemonic::Aad => join,
        _ => return None,
    };
    Selected::anywhere(run)
}

/// DAA and DAS.
fn adjust_packed<const SUBTRACT: bool>(core: &mut Core) -> Step {
    let old: u8 = core.get(Register::Rax);
    let (old_carry, old_adjust) = (core.flags.carry(), core.flags.adjust());
    let adjust = old & 15 > 9 || old_adjust;
    let carry = old > 0x99 || old_carry;
    let correction = if adjust { 6 } else { 0 } + if carry { 0x60 } else { 0 };
    let (result, overflow) = if SUBTRACT {
        (old as i8).overflowing_sub(correction as i8)
    } else {
        (old as i8).overflowing_add(correction as i8)
    };
    // DAS also borrows when it takes 6 from less than that.
    let borrow = SUBTRACT && adjust && old < 6;
    core.put(Register::Rax, result as u8);
    core.flags
        .after(result as u8, carry || borrow, overflow, adjust);
    Ok(())
}

/// AAA and AAS.
fn adjust_unpacked<const SUBTRACT: bool>(core: &mut Core) -> Step {
    let old: u16 = core.get(Register::Rax);
    let adjust = old & 15 > 9 || core.flags.adjust();
    let correction = if adjust { 0x106 } else { 0 };
    let (result, overflow) = if SUBTRACT {
        (old as i16).overflowing_sub(correction)
    } else {
        (old as i16).overflowing_add(correction)
    };
    core.put(Register::Rax, result as u16 & 0xFF0F);
    core.flags.after(result as u16, adjust, overflow, adjust);
    Ok(())
}

/// AAM: AL to two digits of the base in the immediate.
fn split(core: &mut Core, op: &Op) -> Step {
    let value: u8 = core.get(Register::Rax);
    let base = op.immediate as u8;
    let (Some(high), Some(low)) = (value.checked_div(base), value.checked_rem(base)) else {
        return Err(divide_error(core));
    };
    core.put(Register::Rax, u16::from_le_bytes([low, high]));
    core.flags.after(low, false, false, false);
    Ok(())
}

/// AAD: two digits to AL.
fn join(core: &mut Core, op: &Op) -> Step {
    let [low, high] = core.get::<u16>(Register::Rax).to_le_bytes();
    let high = high.wrapping_mul(op.immediate as u8);
    let value = low.wrapping_add(high);
    core.put(Register::Rax, u16::from(value));
    core.flags.after_add(low, high, value);
    Ok(())
}

#[cold]
fn divide_error(core: &mut Core) -> Halt {
    core.raise(Exception::DIVIDE)
}
