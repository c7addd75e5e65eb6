//! Instructions that work on flags as such: LAHF, SAHF, CLC, STC, CMC, CLD, STD, and the undocumented SALC (SDM 2A and 2B).

use iced_x86::{Instruction, Mnemonic};

use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    flags::{AF, CF, DF, OF, PF, RESERVED_1, SF, ZF},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let run: Handler = match instruction.mnemonic() {
        Mnemonic::Lahf => load,
        Mnemonic::Sahf => store,
        Mnemonic::Clc => |core, _| set_carry(core, false),
        Mnemonic::Stc => |core, _| set_carry(core, true),
        Mnemonic::Cmc => |core, _| {
            let carry = core.flags.carry();
            set_carry(core, !carry)
        },
        Mnemonic::Cld => |core, _| set_direction(core, false),
        Mnemonic::Std => |core, _| set_direction(core, true),
        Mnemonic::Salc => spread_carry,
        _ => return None,
    };
    Selected::anywhere(run)
}

/// What LAHF and SAHF move.
const LOW: u64 = SF | ZF | AF | PF | CF;

fn load(core: &mut Core, _op: &Op) -> Step {
    let low = core.flags.arithmetic() & LOW | RESERVED_1;
    let slot = &mut core.general[Register::Rax as usize];
    *slot = *slot & !0xFF00 | low << 8;
    Ok(())
}

fn store(core: &mut Core, _op: &Op) -> Step {
    let low = core.general[Register::Rax as usize] >> 8 & LOW;
    let overflow = core.flags.arithmetic() & OF;
    core.flags.set_arithmetic(overflow | low);
    Ok(())
}

fn set_carry(core: &mut Core, carry: bool) -> Step {
    core.flags.set_carry(carry);
    Ok(())
}

fn set_direction(core: &mut Core, down: bool) -> Step {
    core.flags.set_system(DF, down);
    Ok(())
}

/// SALC: AL becomes 0xFF if CF is set, else 0. Real processors have it outside of 64-bit mode, though the manual does not.
fn spread_carry(core: &mut Core, _op: &Op) -> Step {
    let value: u8 = if core.flags.carry() { 0xFF } else { 0 };
    core.put(Register::Rax, value);
    Ok(())
}
