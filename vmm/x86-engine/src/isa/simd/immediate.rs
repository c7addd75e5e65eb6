//! Shuffles, blends, inserts and extracts: what an immediate, or XMM0, controls; and PTEST.

use std::arch::asm;

use iced_x86::{Code, Instruction, Mnemonic};

use super::{
    packed::{Binary, Por, Pshufb, binary, moved_down},
    vector::{Aligned, Low32, Second, Source, Vector},
};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
    flags::{CF, ZF},
    isa::operand::{self, Memory, R2, Width},
};

/// PSHUFB controls that do what a shuffle of dwords or words does, by immediate. `width` is in bytes; lanes are from `first` on.
const fn controls(width: usize, first: usize) -> [[u8; 16]; 256] {
    let mut table = [[0; 16]; 256];
    let mut number = 0;
    while number < 256 {
        let mut byte = 0;
        while byte < 16 {
            let inside = byte >= first && byte < first + 4 * width;
            table[number][byte] = if inside {
                let lane = (byte - first) / width;
                let from = number >> (lane * 2) & 3;
                (first + from * width + byte % width) as u8
            } else {
                byte as u8
            };
            byte += 1;
        }
        number += 1;
    }
    table
}

static DWORDS: [[u8; 16]; 256] = controls(4, 0);
static LOW_WORDS: [[u8; 16]; 256] = controls(2, 0);
static HIGH_WORDS: [[u8; 16]; 256] = controls(2, 8);

/// Moves the parts of a vector as a control says.
#[inline(always)]
fn shuffled(value: Vector, table: &[[u8; 16]; 256], number: u64) -> Vector {
    let control = u128::from_le_bytes(table[number as usize & 0xFF]);
    Pshufb::apply(value, Vector::new(control))
}

/// PSHUFD, PSHUFLW, PSHUFHW: `KIND` 0 to 2.
fn shuffle<S: Source, const KIND: usize>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?;
    let table = const { [&DWORDS, &LOW_WORDS, &HIGH_WORDS][KIND] };
    core.set_vector(op.r1, shuffled(source, table, op.immediate));
    Ok(())
}

/// SHUFPS: the low half comes from the destination, the high half from the source.
fn shuffle_two<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?;
    let low = shuffled(core.vector(op.r1), &DWORDS, op.immediate);
    let high = shuffled(source, &DWORDS, op.immediate >> 4);
    core.set_vector(op.r1, Vector::low_halves(high, low));
    Ok(())
}

/// SHUFPD.
fn shuffle_halves<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?;
    let low = moved_down(core.vector(op.r1), (op.immediate & 1) as isize * 8);
    let high = moved_down(source, (op.immediate >> 1 & 1) as isize * 8);
    core.set_vector(op.r1, Vector::low_halves(high, low));
    Ok(())
}

/// PALIGNR.
fn align<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?;
    let bytes = (op.immediate & 0xFF).min(32) as isize;
    let low = moved_down(source, bytes);
    let high = moved_down(core.vector(op.r1), bytes - 16);
    core.set_vector(op.r1, Por::apply(low, high));
    Ok(())
}

/// PBLENDW, BLENDPS, BLENDPD: lanes of `BITS` bits.
fn blend<S: Source, const BITS: usize>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    let lane = u128::MAX >> (128 - BITS);
    let mask = (0..128 / BITS)
        .filter(|index| op.immediate >> index & 1 != 0)
        .fold(0, |mask, index| mask | lane << (index * BITS));
    core.set_xmm(op.r1, core.xmm(op.r1) & !mask | source & mask);
    Ok(())
}

/// MPSADBW with one of its eight immediates.
struct SumsOfDifferences<const I: u8>;

impl<const I: u8> Binary for SumsOfDifferences<I> {
    #[inline(always)]
    fn apply(destination: Vector, source: Vector) -> Vector {
        let mut result = destination.0;
        // SAFETY: computes in two registers; see `require_host`.
        unsafe {
            asm!(
                "mpsadbw {0}, {1}, {2}",
                inlateout(xmm_reg) result,
                in(xmm_reg) source.0,
                const I,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        Vector(result)
    }
}

fn sums_of_differences<S: Source>(number: u8) -> Handler {
    match number & 7 {
        0 => binary::<SumsOfDifferences<0>, S>,
        1 => binary::<SumsOfDifferences<1>, S>,
        2 => binary::<SumsOfDifferences<2>, S>,
        3 => binary::<SumsOfDifferences<3>, S>,
        4 => binary::<SumsOfDifferences<4>, S>,
        5 => binary::<SumsOfDifferences<5>, S>,
        6 => binary::<SumsOfDifferences<6>, S>,
        _ => binary::<SumsOfDifferences<7>, S>,
    }
}

/// Blends by the signs of XMM0's lanes, which are `BITS` wide: PBLENDVB, BLENDVPS, BLENDVPD.
fn blend_by_signs<S: Source, const BITS: usize>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    let signs = core.xmm[0] >> (BITS - 1) & lowest_bits(BITS);
    // Each sign times a lane of ones.
    let mask = signs * (u128::MAX >> (128 - BITS));
    core.set_xmm(op.r1, core.xmm(op.r1) & !mask | source & mask);
    Ok(())
}

/// The lowest bit of every lane.
const fn lowest_bits(bits: usize) -> u128 {
    u128::MAX / (u128::MAX >> (128 - bits))
}

/// PTEST.
fn test<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    let destination = core.xmm(op.r1);
    let zero = if source & destination == 0 { ZF } else { 0 };
    let carry = if source & !destination == 0 { CF } else { 0 };
    core.flags.set_arithmetic(zero | carry);
    Ok(())
}

/// INSERTPS.
fn insert_single<S: Source, const FROM_MEMORY: bool>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?.bits();
    // A source in memory has one lane.
    let from = if FROM_MEMORY {
        0
    } else {
        op.immediate >> 6 & 3
    };
    let to = (op.immediate >> 4 & 3) * 32;
    let lane = u128::from(u32::MAX);
    let mut value = core.xmm(op.r1) & !(lane << to) | (source >> (from * 32) & lane) << to;
    for index in (0..4).filter(|index| op.immediate >> index & 1 != 0) {
        value &= !(lane << (index * 32));
    }
    core.set_xmm(op.r1, value);
    Ok(())
}

/// Where the lane is that the immediate chooses, as a shift.
fn lane<T: Width>(op: &Op) -> u64 {
    let lanes = u64::from(128 / T::BITS);
    (op.immediate & (lanes - 1)) * u64::from(T::BITS)
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS.
fn extract<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = T::truncate((core.xmm(op.r2) >> lane::<T>(op)) as u64);
    core.put(op.r1, value.zero_extend());
    Ok(())
}

/// The same, to memory.
fn extract_to_memory<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = T::truncate((core.xmm(op.r1) >> lane::<T>(op)) as u64);
    core.store(op, value)
}

/// PINSRB, PINSRW, PINSRD, PINSRQ.
fn insert<T: Width, S: operand::Source<T>>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = u128::from(S::read(core, op)?.zero_extend());
    let shift = lane::<T>(op);
    let ones = u128::MAX >> (128 - T::BITS) << shift;
    core.set_xmm(op.r1, core.xmm(op.r1) & !ones | value << shift);
    Ok(())
}

/// Finds the handler of an instruction on XMM registers with an immediate or a control in XMM0.
pub(super) fn find(instruction: &Instruction, memory: bool) -> Option<Handler> {
    if let Some(run) = lanes(instruction.code(), memory) {
        return Some(run);
    }
    if !instruction.op0_register().is_xmm() {
        return None;
    }
    if instruction.mnemonic() == Mnemonic::Mpsadbw {
        let number = instruction.immediate8();
        return Some(if memory {
            sums_of_differences::<Aligned>(number)
        } else {
            sums_of_differences::<Second>(number)
        });
    }
    if memory {
        whole::<Aligned>(instruction.mnemonic())
    } else {
        whole::<Second>(instruction.mnemonic())
    }
}

/// Operands of 16 bytes.
fn whole<S: Source>(mnemonic: Mnemonic) -> Option<Handler> {
    Some(match mnemonic {
        Mnemonic::Pshufd => shuffle::<S, 0>,
        Mnemonic::Pshuflw => shuffle::<S, 1>,
        Mnemonic::Pshufhw => shuffle::<S, 2>,
        Mnemonic::Shufps => shuffle_two::<S>,
        Mnemonic::Shufpd => shuffle_halves::<S>,
        Mnemonic::Palignr => align::<S>,
        Mnemonic::Pblendw => blend::<S, 16>,
        Mnemonic::Blendps => blend::<S, 32>,
        Mnemonic::Blendpd => blend::<S, 64>,
        Mnemonic::Pblendvb => blend_by_signs::<S, 8>,
        Mnemonic::Blendvps => blend_by_signs::<S, 32>,
        Mnemonic::Blendvpd => blend_by_signs::<S, 64>,
        Mnemonic::Ptest => test::<S>,
        _ => return None,
    })
}

/// One lane in or out.
fn lanes(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Insertps_xmm_xmmm32_imm8, false) => insert_single::<Second, false>,
        (Insertps_xmm_xmmm32_imm8, true) => insert_single::<Low32, true>,
        (Pextrb_r32m8_xmm_imm8 | Pextrb_r64m8_xmm_imm8, false) => extract::<u8>,
        (Pextrb_r32m8_xmm_imm8 | Pextrb_r64m8_xmm_imm8, true) => extract_to_memory::<u8>,
        (Pextrw_r32_xmm_imm8 | Pextrw_r64_xmm_imm8, _)
        | (Pextrw_r32m16_xmm_imm8 | Pextrw_r64m16_xmm_imm8, false) => extract::<u16>,
        (Pextrw_r32m16_xmm_imm8 | Pextrw_r64m16_xmm_imm8, true) => extract_to_memory::<u16>,
        (Pextrd_rm32_xmm_imm8 | Extractps_rm32_xmm_imm8 | Extractps_r64m32_xmm_imm8, false) => {
            extract::<u32>
        }
        (Pextrd_rm32_xmm_imm8 | Extractps_rm32_xmm_imm8 | Extractps_r64m32_xmm_imm8, true) => {
            extract_to_memory::<u32>
        }
        (Pextrq_rm64_xmm_imm8, false) => extract::<u64>,
        (Pextrq_rm64_xmm_imm8, true) => extract_to_memory::<u64>,
        (Pinsrb_xmm_r32m8_imm8 | Pinsrb_xmm_r64m8_imm8, false) => insert::<u8, R2>,
        (Pinsrb_xmm_r32m8_imm8 | Pinsrb_xmm_r64m8_imm8, true) => insert::<u8, Memory>,
        (Pinsrw_xmm_r32m16_imm8 | Pinsrw_xmm_r64m16_imm8, false) => insert::<u16, R2>,
        (Pinsrw_xmm_r32m16_imm8 | Pinsrw_xmm_r64m16_imm8, true) => insert::<u16, Memory>,
        (Pinsrd_xmm_rm32_imm8, false) => insert::<u32, R2>,
        (Pinsrd_xmm_rm32_imm8, true) => insert::<u32, Memory>,
        (Pinsrq_xmm_rm64_imm8, false) => insert::<u64, R2>,
        (Pinsrq_xmm_rm64_imm8, true) => insert::<u64, Memory>,
        _ => return None,
    })
}
