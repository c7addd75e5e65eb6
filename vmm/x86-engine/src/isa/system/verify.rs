//! Questions about selectors that raise no exception: LAR, LSL, VERR, VERW, ARPL (SDM 3A 5.10). The answer is ZF.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::descriptor::{
    CALL_GATE, CALL_GATE_16, Descriptor, LDT, TASK_GATE, TSS, TSS_16, TSS_16_BUSY, TSS_BUSY,
    is_null, rpl,
};
use crate::{
    cpu::{Core, Halt, Step},
    decode::op::{Handler, Op, Selected},
    flags,
    isa::{
        integer::by_width,
        operand::{Memory, R1, R2, Source, Target, Width},
    },
};

/// LAR's result: the second half of the descriptor without its base; the limit's bits 16 to 19 are among it, as real processors have it.
const ACCESS_RIGHTS: u64 = 0x00FF_FF00;

fn set_zero(core: &mut Core, zero: bool) {
    let others = core.flags.arithmetic() & !flags::ZF;
    core.flags
        .set_arithmetic(others | if zero { flags::ZF } else { 0 });
}

/// The descriptor, if there is one that CPL and RPL may see.
fn visible(core: &mut Core, selector: u16) -> Result<Option<Descriptor>, Halt> {
    if is_null(selector) {
        return Ok(None);
    }
    let found = core.find_descriptor(selector)?;
    let privilege = core.cpl.max(rpl(selector));
    Ok(found.filter(|it| it.is_conforming_code() || privilege <= it.dpl()))
}

fn has_access_rights(core: &Core, descriptor: &Descriptor) -> bool {
    if !descriptor.is_system() {
        return true;
    }
    match descriptor.kind() {
        LDT | TSS | TSS_BUSY | CALL_GATE => true,
        TSS_16 | TSS_16_BUSY | CALL_GATE_16 | TASK_GATE => !core.long_mode(),
        _ => false,
    }
}

fn has_limit(core: &Core, descriptor: &Descriptor) -> bool {
    let gate = matches!(descriptor.kind(), CALL_GATE | CALL_GATE_16 | TASK_GATE);
    has_access_rights(core, descriptor) && (!descriptor.is_system() || !gate)
}

fn lar<T: Width, S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    let selector = S::read(core, op)?;
    let found = visible(core, selector)?.filter(|it| has_access_rights(core, it));
    if let Some(descriptor) = found {
        core.put(op.r1, T::truncate(descriptor.low >> 32 & ACCESS_RIGHTS));
    }
    set_zero(core, found.is_some());
    Ok(())
}

fn lsl<T: Width, S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    let selector = S::read(core, op)?;
    let found = visible(core, selector)?.filter(|it| has_limit(core, it));
    if let Some(descriptor) = found {
        let limit = u64::from(descriptor.segment(selector).limit);
        core.put(op.r1, T::truncate(limit));
    }
    set_zero(core, found.is_some());
    Ok(())
}

fn verr<S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    let selector = S::read(core, op)?;
    let found = visible(core, selector)?;
    set_zero(core, found.is_some_and(|it| it.is_readable()));
    Ok(())
}

fn verw<S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    let selector = S::read(core, op)?;
    let found = visible(core, selector)?;
    set_zero(core, found.is_some_and(|it| it.is_writable()));
    Ok(())
}

/// ARPL: raises the destination's RPL to the source's. `extra` is the register that holds the source.
fn arpl<D: Target<u16>>(core: &mut Core, op: &Op) -> Step {
    let source = core.general[usize::from(op.extra)] as u16;
    let target = D::read_to_modify(core, op)?;
    let raised = target & 3 < source & 3;
    if raised {
        D::write(core, op, target & !3 | source & 3)?;
    }
    set_zero(core, raised);
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let first = instruction.op0_kind() == OpKind::Memory;
    let second = instruction.op1_kind() == OpKind::Memory;
    let bytes = instruction.op0_register().size();
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Lar if second => by_width!(bytes, T => lar::<T, Memory>),
        Mnemonic::Lar => by_width!(bytes, T => lar::<T, R2>),
        Mnemonic::Lsl if second => by_width!(bytes, T => lsl::<T, Memory>),
        Mnemonic::Lsl => by_width!(bytes, T => lsl::<T, R2>),
        Mnemonic::Verr if first => verr::<Memory>,
        Mnemonic::Verr => verr::<R1>,
        Mnemonic::Verw if first => verw::<Memory>,
        Mnemonic::Verw => verw::<R1>,
        Mnemonic::Arpl => {
            op.extra = if first { op.r1 as u16 } else { op.r2 as u16 };
            if first { arpl::<Memory> } else { arpl::<R1> }
        }
        _ => return None,
    };
    Selected::anywhere(handler)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
