//! Moves between XMM registers, memory and general registers: what memory copies and string functions are made of.

use std::arch::asm;

use iced_x86::Code;

use super::{
    packed::{Movlhps, Movsd, Movss, binary},
    vector::{Aligned, Low32, Low64, Second, Source, Unaligned, Vector},
};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op},
    isa::operand::Width,
    memory::Access,
};

/// Finds the handler of a move.
pub(super) fn find(code: Code, memory: bool) -> Option<Handler> {
    whole(code, memory)
        .or_else(|| partial(code, memory))
        .or_else(|| general(code, memory))
}

/// All 128 bits.
fn whole(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (
            Movups_xmm_xmmm128 | Movupd_xmm_xmmm128 | Movdqu_xmm_xmmm128 | Movaps_xmm_xmmm128
            | Movapd_xmm_xmmm128 | Movdqa_xmm_xmmm128 | Movups_xmmm128_xmm | Movupd_xmmm128_xmm
            | Movdqu_xmmm128_xmm | Movaps_xmmm128_xmm | Movapd_xmmm128_xmm | Movdqa_xmmm128_xmm,
            false,
        ) => copy,
        (Movups_xmm_xmmm128 | Movupd_xmm_xmmm128 | Movdqu_xmm_xmmm128 | Lddqu_xmm_m128, true) => {
            load::<Unaligned>
        }
        (Movups_xmmm128_xmm | Movupd_xmmm128_xmm | Movdqu_xmmm128_xmm, true) => store::<false>,
        (
            Movaps_xmm_xmmm128 | Movapd_xmm_xmmm128 | Movdqa_xmm_xmmm128 | Movntdqa_xmm_m128,
            true,
        ) => load::<Aligned>,
        (
            Movaps_xmmm128_xmm | Movapd_xmmm128_xmm | Movdqa_xmmm128_xmm | Movntps_m128_xmm
            | Movntpd_m128_xmm | Movntdq_m128_xmm,
            true,
        ) => store::<true>,
        _ => return None,
    })
}

/// A half or a quarter.
fn partial(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Movq_xmm_xmmm64 | Movsd_xmm_xmmm64, true) => load::<Low64>,
        (Movss_xmm_xmmm32, true) => load::<Low32>,
        (Movq_xmmm64_xmm | Movsd_xmmm64_xmm | Movlps_m64_xmm | Movlpd_m64_xmm, true) => {
            store_low::<u64>
        }
        (Movss_xmmm32_xmm, true) => store_low::<u32>,
        (Movq_xmm_xmmm64 | Movq_xmmm64_xmm, false) => copy_low,
        (Movsd_xmm_xmmm64 | Movsd_xmmm64_xmm, false) => binary::<Movsd, Second>,
        (Movss_xmm_xmmm32 | Movss_xmmm32_xmm, false) => binary::<Movss, Second>,
        (Movlps_xmm_m64 | Movlpd_xmm_m64, true) => binary::<Movsd, Low64>,
        (Movhps_xmm_m64 | Movhpd_xmm_m64, true) => binary::<Movlhps, Low64>,
        (Movhps_m64_xmm | Movhpd_m64_xmm, true) => store_high,
        _ => return None,
    })
}

/// From and to general registers, or memory of their width; masks of signs; bytes under a mask.
fn general(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Movd_xmm_rm32, false) => from_general::<u32>,
        (Movd_xmm_rm32, true) => load::<Low32>,
        (Movq_xmm_rm64, false) => from_general::<u64>,
        (Movq_xmm_rm64, true) => load::<Low64>,
        (Movd_rm32_xmm, false) => to_general::<u32>,
        (Movd_rm32_xmm, true) => store_low::<u32>,
        (Movq_rm64_xmm, false) => to_general::<u64>,
        (Movq_rm64_xmm, true) => store_low::<u64>,
        (Movnti_m32_r32, true) => store_general::<u32>,
        (Movnti_m64_r64, true) => store_general::<u64>,
        (Pmovmskb_r32_xmm | Pmovmskb_r64_xmm, _) => signs::<Pmovmskb>,
        (Movmskps_r32_xmm | Movmskps_r64_xmm, _) => signs::<Movmskps>,
        (Movmskpd_r32_xmm | Movmskpd_r64_xmm, _) => signs::<Movmskpd>,
        (Maskmovdqu_rDI_xmm_xmm, _) => store_selected,
        _ => return None,
    })
}

/// MOVUPS, MOVAPS, MOVDQU, MOVDQA… between registers.
fn copy(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.set_vector(op.r1, core.vector(op.r2));
    Ok(())
}

/// MOVUPS, MOVAPS, MOVDQU, MOVDQA… from memory; MOVQ, MOVSD, MOVD, MOVSS, which clear the rest of the register.
fn load<S: Source>(core: &mut Core, op: &Op) -> Step {
    if !core.sse_unavailable
        && let Some(value) = S::read_quickly(core, op)
    {
        core.set_vector(op.r1, value);
        return Ok(());
    }
    load_slowly::<S>(core, op)
}

#[cold]
#[inline(never)]
fn load_slowly<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = S::read(core, op)?;
    core.set_vector(op.r1, value);
    Ok(())
}

/// MOVUPS, MOVUPD, MOVDQU; MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ.
fn store<const ALIGNED: bool>(core: &mut Core, op: &Op) -> Step {
    let value = core.vector(op.r1);
    if !core.sse_unavailable && core.store_vector_quickly::<Vector, ALIGNED>(op, value) {
        return Ok(());
    }
    store_slowly::<ALIGNED>(core, op)
}

#[cold]
#[inline(never)]
fn store_slowly<const ALIGNED: bool>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let linear = if ALIGNED {
        core.aligned_linear(op, Access::Write)?
    } else {
        core.linear(op, 16, Access::Write)?
    };
    core.store_linear(linear, op.segment, core.vector(op.r1))
}

/// MOVQ, MOVSD, MOVLPS, MOVLPD, MOVD, MOVSS.
fn store_low<T: Width>(core: &mut Core, op: &Op) -> Step {
    let value = T::truncate(core.xmm(op.r1) as u64);
    if !core.sse_unavailable && core.store_vector_quickly::<T, false>(op, value) {
        return Ok(());
    }
    store_low_slowly::<T>(core, op)
}

#[cold]
#[inline(never)]
fn store_low_slowly<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.store(op, T::truncate(core.xmm(op.r1) as u64))
}

/// MOVQ between registers.
fn copy_low(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.set_vector(op.r1, Vector::halves(0, core.xmm(op.r2) as u64));
    Ok(())
}

/// MOVHPS, MOVHPD.
fn store_high(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.store(op, (core.xmm(op.r1) >> 64) as u64)
}

/// MOVD, MOVQ.
fn from_general<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value: T = core.get(op.r2);
    core.set_vector(op.r1, Vector::halves(0, value.zero_extend()));
    Ok(())
}

/// MOVD, MOVQ.
fn to_general<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let value = T::truncate(core.xmm(op.r2) as u64);
    core.put(op.r1, value);
    Ok(())
}

/// MOVNTI: no vector register, so no need for SSE to be enabled (SDM 2A 2.4, class 22).
fn store_general<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.store::<T>(op, core.get(op.r1))
}

/// A mask of sign bits.
trait Signs {
    /// Gathers them.
    fn of(value: Vector) -> u64;
}

macro_rules! signs {
    ($($name:ident)*) => {$(
        struct $name;

        impl Signs for $name {
            #[inline(always)]
            fn of(value: Vector) -> u64 {
                let mask: u64;
                // SAFETY: computes in two registers.
                unsafe {
                    asm!(
                        concat!(stringify!($name), " {0:e}, {1}"),
                        lateout(reg) mask,
                        in(xmm_reg) value.0,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
                mask
            }
        }
    )*};
}

signs! { Pmovmskb Movmskps Movmskpd }

/// PMOVMSKB, MOVMSKPS, MOVMSKPD.
fn signs<S: Signs>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let mask = S::of(core.vector(op.r2));
    core.put(op.r1, mask);
    Ok(())
}

/// MASKMOVDQU.
fn store_selected(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let bytes = core.xmm(op.r1).to_le_bytes();
    let mask = core.xmm(op.r2).to_le_bytes();
    store_bytes(core, op, &bytes, &mask)
}

/// Stores at DS:rDI the bytes whose mask byte has its sign set. As on AMD's processors, the whole operand must be writable, even where no byte is
/// selected (SDM 2A, MASKMOVDQU, leaves that open), and where alignment is checked, it is to 8 bytes for both instructions.
pub(super) fn store_bytes(core: &mut Core, op: &Op, bytes: &[u8], mask: &[u8]) -> Step {
    let width = bytes.len() as u64;
    let offset = core.general[Register::Rdi as usize] & op.address_mask();
    let linear = core.segmented(op.segment, offset, width, Access::Write)?;
    core.check_alignment(linear, 8, 8, op.segment)?;
    core.probe_write(linear, width, op.segment)?;
    for (index, byte) in bytes.iter().enumerate() {
        if mask[index] & 0x80 != 0 {
            let address = core.wrap(linear.wrapping_add(index as u64));
            core.store_linear(address, op.segment, *byte)?;
        }
    }
    Ok(())
}
