//! Decimal arithmetic, which 64-bit mode does not have: DAA, DAS, AAA, AAS, AAM, AAD (SDM 2A).

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
    let result = if SUBTRACT {
        old.wrapping_sub(correction)
    } else {
        old.wrapping_add(correction)
    };
    // DAS also borrows when it takes 6 from less than that.
    let borrow = SUBTRACT && adjust && old < 6;
    core.put(Register::Rax, result);
    core.flags.after(result, carry || borrow, false, adjust);
    Ok(())
}

/// AAA and AAS.
fn adjust_unpacked<const SUBTRACT: bool>(core: &mut Core) -> Step {
    let old: u16 = core.get(Register::Rax);
    let adjust = old & 15 > 9 || core.flags.adjust();
    let result = match (adjust, SUBTRACT) {
        (false, _) => old,
        (true, false) => old.wrapping_add(0x106),
        (true, true) => old.wrapping_sub(0x106),
    } & 0xFF0F;
    core.put(Register::Rax, result);
    core.flags.after(result as u8, adjust, false, adjust);
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
    let value = high.wrapping_mul(op.immediate as u8).wrapping_add(low);
    core.put(Register::Rax, u16::from(value));
    core.flags.after(value, false, false, false);
    Ok(())
}

#[cold]
fn divide_error(core: &mut Core) -> Halt {
    core.raise(Exception::DIVIDE)
}
