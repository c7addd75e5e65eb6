//! SSE4.2: comparisons of strings (SDM 1 12.3.1, SDM 2B 4.1), and CRC32.

use std::arch::asm;

use iced_x86::{Code, Mnemonic};

use super::vector::{Second, Source, Unaligned, Vector};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op},
    flags::OF,
    isa::operand::{self, Memory, R2, Width},
};

/// Lengths are in registers, or the strings end at their first zero.
trait Lengths {
    /// The length of the operand `value`, whose explicit length is in `register`, for elements of `wide` (16 bits) or 8 bits.
    fn of(core: &Core, register: Register, value: Vector, wide: bool) -> u32;
}

/// In EAX and EDX.
struct Explicit32;
/// In RAX and RDX.
struct Explicit64;
/// Up to a zero.
struct Implicit;

impl Lengths for Explicit32 {
    fn of(core: &Core, register: Register, _value: Vector, _wide: bool) -> u32 {
        let length: u32 = core.get(register);
        (length as i32).unsigned_abs().min(16)
    }
}

impl Lengths for Explicit64 {
    fn of(core: &Core, register: Register, _value: Vector, _wide: bool) -> u32 {
        let length: u64 = core.get(register);
        (length as i64).unsigned_abs().min(16) as u32
    }
}

impl Lengths for Implicit {
    fn of(_core: &Core, _register: Register, value: Vector, wide: bool) -> u32 {
        let bytes = value.bits().to_le_bytes();
        let end = if wide {
            bytes.chunks_exact(2).position(|pair| pair == [0, 0])
        } else {
            bytes.iter().position(|&byte| byte == 0)
        };
        end.map_or(16, |index| index as u32)
    }
}

/// What a comparison gives: an index or a mask, and RFLAGS' arithmetic flags.
type Compared<T> = (T, u64);
type Compare<T> = fn(Vector, Vector, u32, u32) -> Compared<T>;

/// PCMPESTRI with an immediate.
fn index_of<const I: u8>(
    first: Vector,
    second: Vector,
    first_length: u32,
    second_length: u32,
) -> Compared<u32> {
    let mut flags = u64::from(first_length);
    let index: u32;
    // SAFETY: computes in registers; see `require_host`.
    unsafe {
        asm!(
            "pcmpestri {0}, {1}, {2}",
            "lahf",
            "seto al",
            in(xmm_reg) first.0,
            in(xmm_reg) second.0,
            const I,
            inout("rax") flags,
            in("edx") second_length,
            out("ecx") index,
            options(pure, nomem, nostack)
        );
    }
    (index, flags_of(flags))
}

/// PCMPESTRM with an immediate.
fn mask_of<const I: u8>(
    first: Vector,
    second: Vector,
    first_length: u32,
    second_length: u32,
) -> Compared<Vector> {
    let mut flags = u64::from(first_length);
    let mut mask = Vector::new(0).0;
    // SAFETY: computes in registers; see `require_host`.
    unsafe {
        asm!(
            "pcmpestrm {0}, {1}, {2}",
            "lahf",
            "seto al",
            in(xmm_reg) first.0,
            in(xmm_reg) second.0,
            const I,
            inout("rax") flags,
            in("edx") second_length,
            inout("xmm0") mask,
            options(pure, nomem, nostack)
        );
    }
    (Vector(mask), flags_of(flags))
}

/// From what LAHF left in AH and SETO in AL.
fn flags_of(rax: u64) -> u64 {
    (rax >> 8 & 0xFF) | if rax & 1 != 0 { OF } else { 0 }
}

/// A function for each of the 128 immediates that differ; bit 7 means nothing.
macro_rules! by_immediate {
    ($function:ident) => {
        by_immediate!($function; 0 8 16 24 32 40 48 56 64 72 80 88 96 104 112 120)
    };
    ($function:ident; $($number:literal)*) => {
        [$(
            $function::<{ $number }>,
            $function::<{ $number + 1 }>,
            $function::<{ $number + 2 }>,
            $function::<{ $number + 3 }>,
            $function::<{ $number + 4 }>,
            $function::<{ $number + 5 }>,
            $function::<{ $number + 6 }>,
            $function::<{ $number + 7 }>,
        )*]
    };
}

static INDEX_OF: [Compare<u32>; 128] = by_immediate!(index_of);
static MASK_OF: [Compare<Vector>; 128] = by_immediate!(mask_of);

/// Reads the operands and compares them with the immediate's function.
fn compare<L: Lengths, S: Source, T>(
    core: &mut Core,
    op: &Op,
    functions: &[Compare<T>; 128],
) -> Result<Compared<T>, crate::cpu::Halt> {
    core.require_sse()?;
    let second = S::read(core, op)?;
    let first = core.vector(op.r1);
    let wide = op.immediate & 1 != 0;
    let first_length = L::of(core, Register::Rax, first, wide);
    let second_length = L::of(core, Register::Rdx, second, wide);
    let function = functions[op.immediate as usize & 0x7F];
    Ok(function(first, second, first_length, second_length))
}

/// PCMPESTRI, PCMPISTRI.
fn find_index<L: Lengths, S: Source>(core: &mut Core, op: &Op) -> Step {
    let (index, flags) = compare::<L, S, _>(core, op, &INDEX_OF)?;
    core.put(Register::Rcx, index);
    core.flags.set_arithmetic(flags);
    Ok(())
}

/// PCMPESTRM, PCMPISTRM.
fn find_mask<L: Lengths, S: Source>(core: &mut Core, op: &Op) -> Step {
    let (mask, flags) = compare::<L, S, _>(core, op, &MASK_OF)?;
    core.xmm[0] = mask.bits();
    core.flags.set_arithmetic(flags);
    Ok(())
}

/// CRC-32C of one more operand.
trait Crc: Width {
    /// Adds `self` to `crc`.
    fn added_to(self, crc: u32) -> u32;
}

macro_rules! crc {
    ($($width:ident $class:ident $template:literal;)*) => {$(
        impl Crc for $width {
            fn added_to(self, crc: u32) -> u32 {
                let mut result = u64::from(crc);
                // SAFETY: computes in two registers; see `require_host`.
                unsafe {
                    asm!(
                        $template,
                        inout(reg) result,
                        in($class) self,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
                result as u32
            }
        }
    )*};
}

crc! {
    u8 reg_byte "crc32 {0:e}, {1}";
    u16 reg "crc32 {0:e}, {1:x}";
    u32 reg "crc32 {0:e}, {1:e}";
    u64 reg "crc32 {0:r}, {1:r}";
}

/// CRC32: general registers only, so SSE need not be enabled.
fn crc<T: Crc, S: operand::Source<T>>(core: &mut Core, op: &Op) -> Step {
    let source = S::read(core, op)?;
    let result = source.added_to(core.get(op.r1));
    core.put(op.r1, result);
    Ok(())
}

/// Finds the handler of a comparison or of CRC32.
pub(super) fn find(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    let comparison = if memory {
        comparison::<Unaligned>(code.mnemonic())
    } else {
        comparison::<Second>(code.mnemonic())
    };
    comparison.or_else(|| {
        Some(match (code, memory) {
            (Crc32_r32_rm8 | Crc32_r64_rm8, false) => crc::<u8, R2>,
            (Crc32_r32_rm8 | Crc32_r64_rm8, true) => crc::<u8, Memory>,
            (Crc32_r32_rm16, false) => crc::<u16, R2>,
            (Crc32_r32_rm16, true) => crc::<u16, Memory>,
            (Crc32_r32_rm32, false) => crc::<u32, R2>,
            (Crc32_r32_rm32, true) => crc::<u32, Memory>,
            (Crc32_r64_rm64, false) => crc::<u64, R2>,
            (Crc32_r64_rm64, true) => crc::<u64, Memory>,
            _ => return None,
        })
    })
}

fn comparison<S: Source>(mnemonic: Mnemonic) -> Option<Handler> {
    Some(match mnemonic {
        Mnemonic::Pcmpestri => find_index::<Explicit32, S>,
        Mnemonic::Pcmpestri64 => find_index::<Explicit64, S>,
        Mnemonic::Pcmpistri => find_index::<Implicit, S>,
        Mnemonic::Pcmpestrm => find_mask::<Explicit32, S>,
        Mnemonic::Pcmpestrm64 => find_mask::<Explicit64, S>,
        Mnemonic::Pcmpistrm => find_mask::<Implicit, S>,
        _ => return None,
    })
}
