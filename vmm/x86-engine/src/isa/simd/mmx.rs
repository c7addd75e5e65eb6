//! MMX: the x87's mantissas as eight 64-bit registers (SDM 1 9.2).
//!
//! The host executes the very instruction, on its own MM0 and MM1, and EMMS after it. What always holds: an instruction that uses an MMX register
//! leaves TOP 0 and no register empty (SDM 1 9.5.1), and one that writes it sets its sign and exponent to ones.

use std::arch::asm;

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::moves::store_bytes;
use crate::{
    cpu::{CR0_EM, CR0_TS, Core, Halt, Register, Step},
    decode::op::{Handler, Op},
    exception::Exception,
    isa::operand::Width,
};

/// x87 status word: TOP.
const TOP: u16 = 7 << 11;
/// x87 status word: an unmasked exception is pending.
const ERROR_SUMMARY: u16 = 1 << 7;

impl Core {
    /// #UD, #NM or #MF, unless MMX is available (SDM 3A 12.1 and 12.5).
    #[inline]
    fn require_mmx(&mut self) -> Step {
        if self.cr0 & CR0_EM != 0 {
            return Err(self.invalid_opcode());
        }
        if self.cr0 & CR0_TS != 0 {
            return Err(self.raise(Exception::DEVICE_NOT_AVAILABLE));
        }
        self.require_no_x87_exception()
    }

    /// #MF if an x87 exception is pending.
    #[inline]
    pub(super) fn require_no_x87_exception(&mut self) -> Step {
        if self.x87.status & ERROR_SUMMARY != 0 {
            return Err(self.raise(Exception::X87_FLOATING_POINT));
        }
        Ok(())
    }

    /// The x87 becomes MMX.
    #[inline]
    pub(super) fn enter_mmx(&mut self) {
        self.x87.status &= !TOP;
        self.x87.in_use = 0xFF;
    }

    /// An MMX register.
    #[inline]
    pub(super) fn mm(&self, register: Register) -> u64 {
        self.x87.mantissa[register as usize & 7]
    }

    /// Writes an MMX register.
    #[inline]
    pub(super) fn set_mm(&mut self, register: Register, value: u64) {
        let index = register as usize & 7;
        self.x87.mantissa[index] = value;
        self.x87.sign_exponent[index] = 0xFFFF;
    }
}

/// Where an MMX operand comes from.
trait Source {
    /// Reads it.
    fn read(core: &mut Core, op: &Op) -> Result<u64, Halt>;
}

struct Second;
struct Whole;
struct Half;
struct Immediate;

impl Source for Second {
    fn read(core: &mut Core, op: &Op) -> Result<u64, Halt> {
        Ok(core.mm(op.r2))
    }
}

impl Source for Whole {
    fn read(core: &mut Core, op: &Op) -> Result<u64, Halt> {
        core.load(op)
    }
}

impl Source for Half {
    fn read(core: &mut Core, op: &Op) -> Result<u64, Halt> {
        let value: u32 = core.load(op)?;
        Ok(u64::from(value))
    }
}

impl Source for Immediate {
    fn read(_core: &mut Core, op: &Op) -> Result<u64, Halt> {
        Ok(op.immediate & 0xFF)
    }
}

/// An instruction `destination = f(destination, source)`; some do not look at the destination.
trait Binary {
    /// Executes it.
    fn apply(destination: u64, source: u64) -> u64;
}

fn binary<B: Binary, S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let source = S::read(core, op)?;
    let result = B::apply(core.mm(op.r1), source);
    core.enter_mmx();
    core.set_mm(op.r1, result);
    Ok(())
}

/// Makes a [`Binary`] of every mnemonic, and the table of them. The memory operand's width goes before them.
macro_rules! mmx_instructions {
    ($($source:ident: $($name:ident)*;)*) => {
        $($(
            struct $name;

            impl Binary for $name {
                fn apply(destination: u64, source: u64) -> u64 {
                    let mut result = destination;
                    // SAFETY: computes in registers, and leaves the x87 empty as it found it.
                    unsafe {
                        asm!(
                            "movq mm0, {0}",
                            "movq mm1, {1}",
                            concat!(stringify!($name), " mm0, mm1"),
                            "movq {0}, mm0",
                            "emms",
                            inout(reg) result,
                            in(reg) source,
                            out("mm0") _,
                            out("mm1") _,
                            options(nomem, nostack)
                        );
                    }
                    result
                }
            }
        )*)*

        fn table(mnemonic: Mnemonic, memory: bool) -> Option<Handler> {
            Some(match (mnemonic, memory) {
                $($(
                    (Mnemonic::$name, false) => binary::<$name, Second>,
                    (Mnemonic::$name, true) => binary::<$name, $source>,
                )*)*
                _ => return None,
            })
        }
    };
}

mmx_instructions! {
    Whole:
        Paddb Paddw Paddd Paddq Paddsb Paddsw Paddusb Paddusw
        Psubb Psubw Psubd Psubq Psubsb Psubsw Psubusb Psubusw
        Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Psadbw
        Pand Pandn Por Pxor
        Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd
        Packsswb Packssdw Packuswb Punpckhbw Punpckhwd Punpckhdq
        Pavgb Pavgw Pmaxub Pmaxsw Pminub Pminsw
        Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad
        Pshufb Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Pmaddubsw Pmulhrsw
        Psignb Psignw Psignd Pabsb Pabsw Pabsd;
    Half: Punpcklbw Punpcklwd Punpckldq;
}

/// Finds the handler of an instruction on MMX registers.
pub(super) fn find(instruction: &Instruction, memory: bool) -> Option<Handler> {
    special(instruction.code(), memory).or_else(|| {
        if !instruction.op0_register().is_mm() {
            return None;
        }
        if instruction.op1_kind() == OpKind::Immediate8 {
            return shift(instruction.mnemonic());
        }
        table(instruction.mnemonic(), memory)
    })
}

/// An immediate count is a register's: too large ones give zeros, or signs, alike.
fn shift(mnemonic: Mnemonic) -> Option<Handler> {
    Some(match mnemonic {
        Mnemonic::Psllw => binary::<Psllw, Immediate>,
        Mnemonic::Pslld => binary::<Pslld, Immediate>,
        Mnemonic::Psllq => binary::<Psllq, Immediate>,
        Mnemonic::Psrlw => binary::<Psrlw, Immediate>,
        Mnemonic::Psrld => binary::<Psrld, Immediate>,
        Mnemonic::Psrlq => binary::<Psrlq, Immediate>,
        Mnemonic::Psraw => binary::<Psraw, Immediate>,
        Mnemonic::Psrad => binary::<Psrad, Immediate>,
        _ => return None,
    })
}

/// Moves, and what takes an immediate.
fn special(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Emms, _) => emms,
        (Movd_mm_rm32, false) => from_general::<u32>,
        (Movd_mm_rm32, true) => load::<Half>,
        (Movq_mm_rm64, false) => from_general::<u64>,
        (Movq_mm_rm64 | Movq_mm_mmm64, true) => load::<Whole>,
        (Movd_rm32_mm, false) => to_general::<u32>,
        (Movd_rm32_mm, true) => store::<u32>,
        (Movq_rm64_mm, false) => to_general::<u64>,
        (Movq_rm64_mm | Movq_mmm64_mm | Movntq_m64_mm, true) => store::<u64>,
        (Movq_mm_mmm64 | Movq_mmm64_mm, false) => load::<Second>,
        (Movq2dq_xmm_mm, _) => to_vector,
        (Movdq2q_mm_xmm, _) => from_vector,
        (Maskmovq_rDI_mm_mm, _) => store_selected,
        (Pmovmskb_r32_mm | Pmovmskb_r64_mm, _) => signs,
        (Pextrw_r32_mm_imm8 | Pextrw_r64_mm_imm8, _) => extract,
        (Pinsrw_mm_r32m16_imm8 | Pinsrw_mm_r64m16_imm8, false) => insert,
        (Pinsrw_mm_r32m16_imm8 | Pinsrw_mm_r64m16_imm8, true) => insert_memory,
        (Pshufw_mm_mmm64_imm8, false) => shuffle::<Second>,
        (Pshufw_mm_mmm64_imm8, true) => shuffle::<Whole>,
        (Palignr_mm_mmm64_imm8, false) => align::<Second>,
        (Palignr_mm_mmm64_imm8, true) => align::<Whole>,
        _ => return None,
    })
}

/// EMMS.
fn emms(core: &mut Core, _op: &Op) -> Step {
    core.require_mmx()?;
    core.x87.status &= !TOP;
    core.x87.in_use = 0;
    Ok(())
}

/// MOVD, MOVQ.
fn load<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let value = S::read(core, op)?;
    core.enter_mmx();
    core.set_mm(op.r1, value);
    Ok(())
}

/// MOVD, MOVQ, MOVNTQ.
fn store<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    core.store(op, T::truncate(core.mm(op.r1)))?;
    core.enter_mmx();
    Ok(())
}

/// MOVD, MOVQ.
fn from_general<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let value: T = core.get(op.r2);
    core.enter_mmx();
    core.set_mm(op.r1, value.zero_extend());
    Ok(())
}

/// MOVD, MOVQ.
fn to_general<T: Width>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    core.enter_mmx();
    core.put(op.r1, T::truncate(core.mm(op.r2)));
    Ok(())
}

/// MOVQ2DQ.
fn to_vector(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.require_mmx()?;
    core.enter_mmx();
    core.set_xmm(op.r1, u128::from(core.mm(op.r2)));
    Ok(())
}

/// MOVDQ2Q.
fn from_vector(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    core.require_mmx()?;
    core.enter_mmx();
    core.set_mm(op.r1, core.xmm(op.r2) as u64);
    Ok(())
}

/// MASKMOVQ.
fn store_selected(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let bytes = core.mm(op.r1).to_le_bytes();
    let mask = core.mm(op.r2).to_le_bytes();
    // Before a fault: so AMD's processors do it.
    core.enter_mmx();
    store_bytes(core, op, &bytes, &mask)
}

/// PMOVMSKB.
fn signs(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    core.enter_mmx();
    let bytes = core.mm(op.r2).to_le_bytes();
    let mask = (0..8).fold(0, |mask, index| {
        mask | u64::from(bytes[index] >> 7) << index
    });
    core.put(op.r1, mask);
    Ok(())
}

/// PEXTRW.
fn extract(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    core.enter_mmx();
    let word = core.mm(op.r2) >> ((op.immediate & 3) * 16) & 0xFFFF;
    core.put(op.r1, word);
    Ok(())
}

/// PINSRW.
fn insert(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let word: u16 = core.get(op.r2);
    insert_word(core, op, word);
    Ok(())
}

/// PINSRW.
fn insert_memory(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let word: u16 = core.load(op)?;
    insert_word(core, op, word);
    Ok(())
}

fn insert_word(core: &mut Core, op: &Op, word: u16) {
    let shift = (op.immediate & 3) * 16;
    let kept = core.mm(op.r1) & !(0xFFFF << shift);
    core.enter_mmx();
    core.set_mm(op.r1, kept | u64::from(word) << shift);
}

/// PSHUFW.
fn shuffle<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let source = S::read(core, op)?;
    let word = |index: u64| source >> ((op.immediate >> (index * 2) & 3) * 16) & 0xFFFF;
    let result = (0..4).fold(0, |result, index| result | word(index) << (index * 16));
    core.enter_mmx();
    core.set_mm(op.r1, result);
    Ok(())
}

/// PALIGNR.
fn align<S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_mmx()?;
    let source = S::read(core, op)?;
    let both = u128::from(core.mm(op.r1)) << 64 | u128::from(source);
    let bits = (op.immediate as u32 & 0xFF) * 8;
    let result = both.checked_shr(bits).unwrap_or(0) as u64;
    core.enter_mmx();
    core.set_mm(op.r1, result);
    Ok(())
}
