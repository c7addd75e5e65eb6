//! SHLD and SHRD (SDM 2B): shifts that fill up from a second register.
//!
//! A 16-bit operand can be shifted by more than 16. Then, as on AMD's Zen, the second operand follows itself, and CF is clear. AF is set.

use iced_x86::{Instruction, Mnemonic};

use super::{
    dispatch::{is_register, with_operand, with_wide_width},
    width,
};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    isa::operand::{R1, R2, Source, Target, Width},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let left = match instruction.mnemonic() {
        Mnemonic::Shld => true,
        Mnemonic::Shrd => false,
        _ => return None,
    };
    let in_cl = is_register(instruction, 2);
    let bytes = width(instruction, 0);
    let target_is_register = is_register(instruction, 0);
    Selected::anywhere(if left {
        handler::<true>(instruction, bytes, target_is_register, in_cl)
    } else {
        handler::<false>(instruction, bytes, target_is_register, in_cl)
    })
    .inspect(|_| op.immediate &= if bytes == 8 { 63 } else { 31 })
}

fn handler<const LEFT: bool>(
    instruction: &Instruction,
    bytes: usize,
    target_is_register: bool,
    in_cl: bool,
) -> Handler {
    // The register operand that fills up is the second one, or the only one if the target is memory.
    match (target_is_register, in_cl) {
        (true, true) => with_wide_width!(bytes, T => shift::<T, R1, R2, LEFT, true>),
        (true, false) => with_wide_width!(bytes, T => shift::<T, R1, R2, LEFT, false>),
        (false, true) => {
            with_wide_width!(bytes, T => with_operand!(instruction, 0, R1, D => shift::<T, D, R1, LEFT, true>))
        }
        (false, false) => {
            with_wide_width!(bytes, T => with_operand!(instruction, 0, R1, D => shift::<T, D, R1, LEFT, false>))
        }
    }
}

fn shift<T: Width, D: Target<T>, F: Source<T>, const LEFT: bool, const IN_CL: bool>(
    core: &mut Core,
    op: &Op,
) -> Step {
    let count = if IN_CL {
        core.general[Register::Rcx as usize] as u32 & if T::BITS == 64 { 63 } else { 31 }
    } else {
        op.immediate as u32
    };
    let filler = F::read(core, op)?.zero_extend();
    let value = D::read_to_modify(core, op)?;
    if count == 0 {
        return D::write(core, op, value);
    }
    let (wide, filler) = (u128::from(value.zero_extend()), u128::from(filler));
    let filler = if T::BITS == 16 {
        filler << 16 | filler
    } else {
        filler
    };
    let filler_bits = if T::BITS == 16 { 32 } else { T::BITS };
    let (result, carry, overflow) = if LEFT {
        let ring = wide << filler_bits | filler;
        let result = T::truncate((ring << count >> filler_bits) as u64);
        let out = wide << count;
        let carry = out >> T::BITS & 1 != 0;
        // Not the result's sign: what fills up is not looked at.
        (result, carry, carry ^ T::truncate(out as u64).sign())
    } else {
        let ring = filler << T::BITS | wide;
        let result = T::truncate((ring >> count) as u64);
        let carry = wide >> (count - 1) & 1 != 0;
        let second = result.zero_extend() >> (T::BITS - 2) & 1 != 0;
        (result, carry, result.sign() ^ second)
    };
    D::write(core, op, result)?;
    core.flags.after(result, carry, overflow, true);
    Ok(())
}
