//! Single bits and counts of bits: BT, BTS, BTR, BTC, BSF, BSR, POPCNT, BSWAP, CRC32 (SDM 2A and 2B).
//!
//! What the manual leaves undefined is as AMD's Zen has it: BT and its kin change CF alone; BSF and BSR of zero leave the register as it was, all 64 bits of it.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{
    by_width,
    dispatch::{is_register, with_operand, with_wide_width},
    width,
};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op, Selected},
    flags::ZF,
    isa::operand::{Memory, R1, R2, Source, Target, Width},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let bytes = width(instruction, 0);
    let run: Handler = match instruction.mnemonic() {
        Mnemonic::Bt => bit_handler::<Keep>(instruction),
        Mnemonic::Bts => bit_handler::<Set>(instruction),
        Mnemonic::Btr => bit_handler::<Reset>(instruction),
        Mnemonic::Btc => bit_handler::<Complement>(instruction),
        // TZCNT and LZCNT are not announced: their prefix is ignored (SDM 2B, TZCNT).
        Mnemonic::Bsf | Mnemonic::Tzcnt => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => scan::<T, S, false>))
        }
        Mnemonic::Bsr | Mnemonic::Lzcnt => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => scan::<T, S, true>))
        }
        Mnemonic::Popcnt => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => population::<T, S>))
        }
        Mnemonic::Bswap => with_wide_width!(bytes, T => swap_bytes::<T>),
        Mnemonic::Crc32 => {
            by_width!(width(instruction, 1), T => with_operand!(instruction, 1, R2, S => checksum::<T, S>))
        }
        _ => return None,
    };
    Selected::anywhere(run)
}

/// What happens to the bit that CF is copied from.
trait Change {
    /// Whether the operand is written.
    const WRITES: bool = true;
    /// The operand with the bit under `mask` changed.
    fn change(value: u64, mask: u64) -> u64;
}

struct Keep;
struct Set;
struct Reset;
struct Complement;

impl Change for Keep {
    const WRITES: bool = false;

    #[inline(always)]
    fn change(value: u64, _mask: u64) -> u64 {
        value
    }
}

impl Change for Set {
    #[inline(always)]
    fn change(value: u64, mask: u64) -> u64 {
        value | mask
    }
}

impl Change for Reset {
    #[inline(always)]
    fn change(value: u64, mask: u64) -> u64 {
        value & !mask
    }
}

impl Change for Complement {
    #[inline(always)]
    fn change(value: u64, mask: u64) -> u64 {
        value ^ mask
    }
}

fn bit_handler<C: Change>(instruction: &Instruction) -> Handler {
    let bytes = width(instruction, 0);
    match (
        is_register(instruction, 0),
        instruction.op_kind(1) == OpKind::Register,
    ) {
        (true, true) => with_wide_width!(bytes, T => bit::<T, R1, C, true>),
        (true, false) => with_wide_width!(bytes, T => bit::<T, R1, C, false>),
        (false, false) => with_wide_width!(bytes, T => bit::<T, Memory, C, false>),
        (false, true) => with_wide_width!(bytes, T => bit_of_string::<T, C>),
    }
}

/// The number of the bit is in the second register, or an immediate, and taken modulo the width.
fn bit<T: Width, D: Target<T>, C: Change, const IN_REGISTER: bool>(
    core: &mut Core,
    op: &Op,
) -> Step {
    let number = if IN_REGISTER {
        core.general[op.r2 as usize]
    } else {
        op.immediate
    };
    change_bit::<T, D, C>(core, op, number as u32 % T::BITS)
}

/// The number of the bit is in the register operand, signed, and reaches beyond the memory operand (SDM 1, figure 4-7).
fn bit_of_string<T: Width, C: Change>(core: &mut Core, op: &Op) -> Step {
    let number = core.get::<T>(op.r1).sign_extend() as i64;
    let element = number.div_euclid(i64::from(T::BITS));
    let mut moved = *op;
    moved.displacement = op
        .displacement
        .wrapping_add(element.wrapping_mul(<T as crate::integer::Integer>::BYTES as i64));
    change_bit::<T, Memory, C>(core, &moved, number as u32 % T::BITS)
}

#[inline(always)]
fn change_bit<T: Width, D: Target<T>, C: Change>(core: &mut Core, op: &Op, number: u32) -> Step {
    let value = if C::WRITES {
        D::read_to_modify(core, op)?
    } else {
        D::read(core, op)?
    }
    .zero_extend();
    let mask = 1 << number;
    if C::WRITES {
        D::write(core, op, T::truncate(C::change(value, mask)))?;
    }
    core.flags.set_carry(value & mask != 0);
    Ok(())
}

/// BSF, or BSR if from the top.
fn scan<T: Width, S: Source<T>, const FROM_TOP: bool>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?.zero_extend();
    if value == 0 {
        core.flags.after(0_u8, false, false, false);
        return Ok(());
    }
    let index = if FROM_TOP {
        63 - value.leading_zeros()
    } else {
        value.trailing_zeros()
    };
    R1::write(core, op, T::truncate(u64::from(index)))?;
    // PF is the index's; the bit above that makes ZF clear even if it is zero.
    core.flags.after(index as u16 | 0x100, false, false, false);
    Ok(())
}

fn population<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let count = S::read(core, op)?.zero_extend().count_ones();
    R1::write(core, op, T::truncate(u64::from(count)))?;
    // Of the flags only ZF can be set: a result of 1 sets none.
    if count == 0 {
        core.flags.set_arithmetic(ZF);
    } else {
        core.flags.after(1_u8, false, false, false);
    }
    Ok(())
}

/// A 16-bit operand, for which the manual promises nothing, becomes zero.
fn swap_bytes<T: Width>(core: &mut Core, op: &Op) -> Step {
    let value = core.general[op.r1 as usize];
    let swapped = match T::BITS {
        64 => value.swap_bytes(),
        32 => u64::from((value as u32).swap_bytes()),
        _ => 0,
    };
    core.put(op.r1, T::truncate(swapped));
    Ok(())
}

/// The Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// What a byte adds to a remainder.
static REMAINDERS: [u32; 256] = remainders();

const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = (remainder >> 1) ^ (POLYNOMIAL * (remainder & 1));
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

fn checksum<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?.zero_extend();
    let mut remainder: u32 = core.get(op.r1);
    for byte in &value.to_le_bytes()[..T::BITS as usize / 8] {
        remainder = (remainder >> 8) ^ REMAINDERS[usize::from(remainder as u8 ^ byte)];
    }
    core.put(op.r1, remainder);
    Ok(())
}
