//! Sign extension within the accumulator, and what depends on a condition: CBW, CWDE, CDQE, CWD, CDQ, CQO, SETcc, CMOVcc (SDM 2A and 2B).

use iced_x86::{Instruction, Mnemonic};

use super::{
    dispatch::{with_condition, with_operand, with_wide_width},
    width,
};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    isa::operand::{R1, R2, Source, Target, Width},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let run: Handler = match instruction.mnemonic() {
        Mnemonic::Cbw => extend::<u8, u16>,
        Mnemonic::Cwde => extend::<u16, u32>,
        Mnemonic::Cdqe => extend::<u32, u64>,
        Mnemonic::Cwd => spread::<u16>,
        Mnemonic::Cdq => spread::<u32>,
        Mnemonic::Cqo => spread::<u64>,
        _ => return conditional(instruction),
    };
    Selected::anywhere(run)
}

/// SETcc and CMOVcc: the condition is in the opcode's low four bits.
fn conditional(instruction: &Instruction) -> Option<Selected> {
    // iced-x86 numbers the conditions as the hardware does, after one for "none".
    let condition = (instruction.condition_code() as u8).checked_sub(1)?;
    let run: Handler = if is_set(instruction.mnemonic()) {
        with_condition!(condition, C => with_operand!(instruction, 0, R1, D => set::<D, C>))
    } else if is_move(instruction.mnemonic()) {
        let bytes = width(instruction, 0);
        with_condition!(condition, C => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => move_if::<T, S, C>))
        })
    } else {
        return None;
    };
    Selected::anywhere(run)
}

/// Sign-extends RAX's lower part.
fn extend<From: Width, To: Width>(core: &mut Core, _op: &Op) -> Step {
    let value: From = core.get(Register::Rax);
    core.put(Register::Rax, To::truncate(value.sign_extend()));
    Ok(())
}

/// Fills RDX with RAX's sign.
fn spread<T: Width>(core: &mut Core, _op: &Op) -> Step {
    let value: T = core.get(Register::Rax);
    let sign = (value.sign_extend() as i64 >> 63) as u64;
    core.put(Register::Rdx, T::truncate(sign));
    Ok(())
}

fn set<D: Target<u8>, const CONDITION: u8>(core: &mut Core, op: &Op) -> Step {
    let holds = core.flags.condition(CONDITION);
    D::write(core, op, u8::from(holds))
}

/// The source is read, and the upper half of a 64-bit register cleared, whether or not the condition holds.
fn move_if<T: Width, S: Source<T>, const CONDITION: u8>(core: &mut Core, op: &Op) -> Step {
    let moved = S::read(core, op)?;
    let value = if core.flags.condition(CONDITION) {
        moved
    } else {
        core.get(op.r1)
    };
    core.put(op.r1, value);
    Ok(())
}

fn is_set(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Seto
            | Mnemonic::Setno
            | Mnemonic::Setb
            | Mnemonic::Setae
            | Mnemonic::Sete
            | Mnemonic::Setne
            | Mnemonic::Setbe
            | Mnemonic::Seta
            | Mnemonic::Sets
            | Mnemonic::Setns
            | Mnemonic::Setp
            | Mnemonic::Setnp
            | Mnemonic::Setl
            | Mnemonic::Setge
            | Mnemonic::Setle
            | Mnemonic::Setg
    )
}

fn is_move(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cmovo
            | Mnemonic::Cmovno
            | Mnemonic::Cmovb
            | Mnemonic::Cmovae
            | Mnemonic::Cmove
            | Mnemonic::Cmovne
            | Mnemonic::Cmovbe
            | Mnemonic::Cmova
            | Mnemonic::Cmovs
            | Mnemonic::Cmovns
            | Mnemonic::Cmovp
            | Mnemonic::Cmovnp
            | Mnemonic::Cmovl
            | Mnemonic::Cmovge
            | Mnemonic::Cmovle
            | Mnemonic::Cmovg
    )
}
