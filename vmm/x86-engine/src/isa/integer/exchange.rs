//! XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B (SDM 2A and 2C).
//!
//! One processor executes one instruction at a time: a LOCK prefix changes nothing. The comparing ones always write their memory operand.

use iced_x86::{Instruction, Mnemonic};

use super::{by_width, dispatch::is_register, width};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    flags::ZF,
    isa::operand::{Memory, R1, R2, Source, Target, Width},
    memory::Access,
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let bytes = width(instruction, 0);
    let run: Handler = match (instruction.mnemonic(), is_register(instruction, 0)) {
        (Mnemonic::Xchg, true) if is_register(instruction, 1) => {
            by_width!(bytes, T => exchange_registers::<T>)
        }
        // The assembler's order of the operands of XCHG is not fixed.
        (Mnemonic::Xchg, _) => by_width!(bytes, T => exchange_memory::<T>),
        (Mnemonic::Xadd, true) => by_width!(bytes, T => add_registers::<T>),
        (Mnemonic::Xadd, false) => by_width!(bytes, T => add_memory::<T>),
        (Mnemonic::Cmpxchg, true) => by_width!(bytes, T => compare::<T, R1, R2, false>),
        (Mnemonic::Cmpxchg, false) => {
            by_width!(bytes, T => compare::<T, Memory, R1, true>)
        }
        (Mnemonic::Cmpxchg8b, _) => compare_8_bytes,
        (Mnemonic::Cmpxchg16b, _) => compare_16_bytes,
        _ => return None,
    };
    Selected::anywhere(run)
}

fn exchange_registers<T: Width>(core: &mut Core, op: &Op) -> Step {
    let (first, second): (T, T) = (R1::read(core, op)?, R2::read(core, op)?);
    R1::write(core, op, second)?;
    R2::write(core, op, first)
}

fn exchange_memory<T: Width>(core: &mut Core, op: &Op) -> Step {
    let from_memory: T = Memory::read_to_modify(core, op)?;
    let from_register: T = R1::read(core, op)?;
    Memory::write(core, op, from_register)?;
    R1::write(core, op, from_memory)
}

fn add_registers<T: Width>(core: &mut Core, op: &Op) -> Step {
    let (a, b): (T, T) = (R1::read(core, op)?, R2::read(core, op)?);
    let sum = a.add(b);
    // If both are the same register, the sum stays.
    R2::write(core, op, a)?;
    R1::write(core, op, sum)?;
    core.flags.after_add(a, b, sum);
    Ok(())
}

fn add_memory<T: Width>(core: &mut Core, op: &Op) -> Step {
    let a: T = Memory::read_to_modify(core, op)?;
    let b: T = R1::read(core, op)?;
    let sum = a.add(b);
    Memory::write(core, op, sum)?;
    R1::write(core, op, a)?;
    core.flags.after_add(a, b, sum);
    Ok(())
}

/// CMPXCHG. Memory is written in any case; a register only if it was as expected (its upper half shows that).
fn compare<T: Width, D: Target<T>, S: Source<T>, const IS_MEMORY: bool>(
    core: &mut Core,
    op: &Op,
) -> Step {
    let value = D::read_to_modify(core, op)?;
    let replacement = S::read(core, op)?;
    let expected: T = core.get(Register::Rax);
    let equal = value == expected;
    if equal || IS_MEMORY {
        D::write(core, op, if equal { replacement } else { value })?;
    }
    if !equal {
        core.put(Register::Rax, value);
    }
    core.flags.after_sub(expected, value, expected.sub(value));
    Ok(())
}

/// CMPXCHG8B: compares with EDX:EAX, replaces by ECX:EBX.
fn compare_8_bytes(core: &mut Core, op: &Op) -> Step {
    let joined = |core: &Core, low: Register, high: Register| {
        u64::from(core.get::<u32>(high)) << 32 | u64::from(core.get::<u32>(low))
    };
    let value: u64 = core.load_to_modify(op)?;
    let equal = value == joined(core, Register::Rax, Register::Rdx);
    let replacement = joined(core, Register::Rbx, Register::Rcx);
    core.store(op, if equal { replacement } else { value })?;
    if !equal {
        core.put(Register::Rax, value as u32);
        core.put(Register::Rdx, (value >> 32) as u32);
    }
    set_zero(core, equal);
    Ok(())
}

/// CMPXCHG16B, whose operand must be aligned.
fn compare_16_bytes(core: &mut Core, op: &Op) -> Step {
    let linear = core.linear(op, 16, Access::Write)?;
    if !linear.is_multiple_of(16) {
        core.check_both_ends(linear, 16, op.segment)?;
        return Err(core.general_protection());
    }
    let joined = |core: &Core, low: Register, high: Register| {
        u128::from(core.general[high as usize]) << 64 | u128::from(core.general[low as usize])
    };
    let value: u128 = core.load_to_modify(op)?;
    let equal = value == joined(core, Register::Rax, Register::Rdx);
    let replacement = joined(core, Register::Rbx, Register::Rcx);
    core.store(op, if equal { replacement } else { value })?;
    if !equal {
        core.put(Register::Rax, value as u64);
        core.put(Register::Rdx, (value >> 64) as u64);
    }
    set_zero(core, equal);
    Ok(())
}

/// Changes ZF alone.
fn set_zero(core: &mut Core, zero: bool) {
    let others = core.flags.arithmetic() & !ZF;
    core.flags
        .set_arithmetic(if zero { others | ZF } else { others });
}
