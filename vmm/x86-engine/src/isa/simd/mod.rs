//! MMX and SSE to SSE4.2, legacy encodings.
//!
//! In: registers, memory, immediates. Out: registers, memory, a few flags. Most handlers execute the guest's very instruction on the host,
//! whose results are the same on every processor; those that are not (RCPPS and its like) are computed in integers. What always holds:
//! nothing here depends on the host beyond that it has SSE4.2 ([`require_host`]).
//!
//! | module | |
//! |---|---|
//! | [`moves`] | between registers, memory and general registers |
//! | [`packed`] | two vectors in, one out: integers, logic, shuffles without immediate |
//! | [`immediate`] | shuffles, blends, inserts, extracts |
//! | [`mmx`] | the 64-bit registers |
//! | [`mxcsr`] | floating-point control, and how floating point is executed under it |
//! | [`float`], [`convert`], [`reciprocal`] | floating-point instructions |
//! | [`unmasked`] | overflow and underflow that trap |
//! | [`text`] | PCMPxSTRx, CRC32 |
//!
//! VEX and EVEX forms, AES, PCLMULQDQ, SHA, SSE4a and 3DNow! are not announced by [`crate::model`] and raise #UD.

mod convert;
mod float;
mod immediate;
mod mmx;
mod moves;
pub(crate) mod mxcsr;
mod packed;
mod reciprocal;
#[cfg(test)]
mod tests;
mod text;
mod unmasked;
pub(crate) mod vector;

use iced_x86::{EncodingKind, Instruction, OpKind};

use crate::{
    cpu::{CR0_EM, CR4_OSFXSR, CodeSize, Core, Halt},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
};

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, _code: CodeSize) -> Option<Selected> {
    let run = handler(instruction)?;
    op.extra = unmasked::number(instruction.mnemonic());
    Selected::anywhere(run)
}

fn handler(instruction: &Instruction) -> Option<Handler> {
    if instruction.code().encoding() != EncodingKind::Legacy {
        return None;
    }
    let memory =
        (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
    moves::find(instruction.code(), memory)
        .or_else(|| packed::find(instruction, memory))
        .or_else(|| immediate::find(instruction, memory))
        .or_else(|| float::find(instruction, memory))
        .or_else(|| convert::find(instruction.code(), memory))
        .or_else(|| reciprocal::find(instruction.code(), memory))
        .or_else(|| mmx::find(instruction, memory))
        .or_else(|| text::find(instruction.code(), memory))
        .or_else(|| mxcsr::find(instruction.code()))
}

/// Makes sure that the host has what handlers execute on it.
///
/// # Panics
/// On a host without SSE4.2.
pub(crate) fn require_host() {
    assert!(
        std::arch::is_x86_feature_detected!("sse4.2"),
        "The software CPU executes the guest's SSE instructions on the host, which has no SSE4.2: run it on a processor of x86-64-v2 or later"
    );
}

impl Core {
    /// Why SSE instructions cannot be executed (SDM 3A 2.5 and 9.6.1).
    #[cold]
    #[inline(never)]
    fn sse_fault(&mut self) -> Halt {
        if self.cr0 & CR0_EM != 0 || self.cr4 & CR4_OSFXSR == 0 {
            self.invalid_opcode()
        } else {
            self.raise(Exception::DEVICE_NOT_AVAILABLE)
        }
    }
}
