//! Two vectors in, one out, nothing else: the host executes the very instruction.

use std::arch::asm;

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::vector::{Aligned, Immediate, Low16, Low32, Low64, Second, Source, Vector};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
};

/// An instruction `destination = f(destination, source)`; some do not look at the destination.
pub(super) trait Binary {
    /// Executes it.
    fn apply(destination: Vector, source: Vector) -> Vector;
}

/// The handler of a [`Binary`].
pub(super) fn binary<B: Binary, S: Source>(core: &mut Core, op: &Op) -> Step {
    if !core.sse_unavailable
        && let Some(source) = S::read_quickly(core, op)
    {
        let result = B::apply(core.vector(op.r1), source);
        core.set_vector(op.r1, result);
        return Ok(());
    }
    binary_slowly::<B, S>(core, op)
}

#[cold]
#[inline(never)]
fn binary_slowly<B: Binary, S: Source>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let source = S::read(core, op)?;
    let result = B::apply(core.vector(op.r1), source);
    core.set_vector(op.r1, result);
    Ok(())
}

/// Makes a [`Binary`] of every mnemonic, and the table of them. The memory operand's width goes before them.
macro_rules! vector_instructions {
    ($($source:ident: $($name:ident)*;)*) => {
        $($(
            pub(super) struct $name;

            impl Binary for $name {
                #[inline(always)]
                fn apply(destination: Vector, source: Vector) -> Vector {
                    let mut result = destination.0;
                    // SAFETY: computes in two registers and touches nothing else; see `require_host` for its being there.
                    unsafe {
                        asm!(
                            concat!(stringify!($name), " {0}, {1}"),
                            inlateout(xmm_reg) result,
                            in(xmm_reg) source.0,
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                    Vector(result)
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

vector_instructions! {
    Aligned:
        Paddb Paddw Paddd Paddq Paddsb Paddsw Paddusb Paddusw
        Psubb Psubw Psubd Psubq Psubsb Psubsw Psubusb Psubusw
        Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Psadbw
        Pand Pandn Por Pxor
        Pcmpeqb Pcmpeqw Pcmpeqd Pcmpgtb Pcmpgtw Pcmpgtd
        Packsswb Packssdw Packuswb
        Punpcklbw Punpcklwd Punpckldq Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq
        Pavgb Pavgw Pmaxub Pmaxsw Pminub Pminsw
        Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad
        Andps Andnps Orps Xorps Andpd Andnpd Orpd Xorpd
        Unpcklps Unpckhps Unpcklpd Unpckhpd Movhlps Movsldup Movshdup
        Pshufb Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Pmaddubsw Pmulhrsw
        Psignb Psignw Psignd Pabsb Pabsw Pabsd
        Pmuldq Pmulld Pcmpeqq Pcmpgtq Packusdw Phminposuw
        Pminsb Pmaxsb Pminuw Pmaxuw Pminud Pmaxud Pminsd Pmaxsd;
    Low64: Movddup Movsd Movlhps Pmovsxbw Pmovsxwd Pmovsxdq Pmovzxbw Pmovzxwd Pmovzxdq;
    Low32: Movss Pmovsxbd Pmovsxwq Pmovzxbd Pmovzxwq;
    Low16: Pmovsxbq Pmovzxbq;
}

/// Finds the handler of an instruction on XMM registers alone.
pub(super) fn find(instruction: &Instruction, memory: bool) -> Option<Handler> {
    if !instruction.op0_register().is_xmm() {
        return None;
    }
    if instruction.op1_kind() == OpKind::Immediate8 {
        return shift(instruction.mnemonic());
    }
    table(instruction.mnemonic(), memory)
}

/// An immediate count is a vector's: too large ones give zeros, or signs, alike.
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
        Mnemonic::Pslldq => shift_bytes::<true>,
        Mnemonic::Psrldq => shift_bytes::<false>,
        _ => return None,
    })
}

/// PSHUFB controls: 16 bytes from 16 on leave a vector as it is, those from further on or before shift zeros in.
static WINDOW: [u8; 64] = {
    let mut window = [0x80; 64];
    let mut index = 0;
    while index < 16 {
        window[16 + index] = index as u8;
        index += 1;
    }
    window
};

/// The vector moved down by `bytes`, or up where they are negative; at least -16 and at most 32.
#[inline(always)]
pub(super) fn moved_down(value: Vector, bytes: isize) -> Vector {
    let start = (16 + bytes) as usize & 0x3F;
    let mut control = [0; 16];
    control.copy_from_slice(&WINDOW[start.min(48)..][..16]);
    Pshufb::apply(value, Vector::new(u128::from_le_bytes(control)))
}

/// PSLLDQ, PSRLDQ.
fn shift_bytes<const LEFT: bool>(core: &mut Core, op: &Op) -> Step {
    core.require_sse()?;
    let bytes = (op.immediate & 0xFF).min(16) as isize;
    let shifted = moved_down(core.vector(op.r1), if LEFT { -bytes } else { bytes });
    core.set_vector(op.r1, shifted);
    Ok(())
}
