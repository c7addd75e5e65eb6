//! MOV between general registers and memory, MOVZX, MOVSX, MOVSXD, LEA.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{Form, by_width, width};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op, Selected},
    isa::operand::{Immediate, Memory, R1, R2, Source, Target, Width},
};

/// What takes no more than a look into the translation cache; all else is [`mov_slowly`]'s.
fn mov<T: Width, D: Target<T>, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    if let Some(value) = S::read_quickly(core, op)
        && D::write_quickly(core, op, value)
    {
        return Ok(());
    }
    mov_slowly::<T, D, S>(core, op)
}

#[cold]
#[inline(never)]
fn mov_slowly<T: Width, D: Target<T>, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?;
    D::write(core, op, value)
}

fn movzx<To: Width, From: Width, S: Source<From>>(core: &mut Core, op: &Op) -> Step {
    if let Some(value) = S::read_quickly(core, op) {
        core.put(op.r1, To::truncate(value.zero_extend()));
        return Ok(());
    }
    movzx_slowly::<To, From, S>(core, op)
}

#[cold]
#[inline(never)]
fn movzx_slowly<To: Width, From: Width, S: Source<From>>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?;
    core.put(op.r1, To::truncate(value.zero_extend()));
    Ok(())
}

fn movsx<To: Width, From: Width, S: Source<From>>(core: &mut Core, op: &Op) -> Step {
    if let Some(value) = S::read_quickly(core, op) {
        core.put(op.r1, To::truncate(value.sign_extend()));
        return Ok(());
    }
    movsx_slowly::<To, From, S>(core, op)
}

#[cold]
#[inline(never)]
fn movsx_slowly<To: Width, From: Width, S: Source<From>>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?;
    core.put(op.r1, To::truncate(value.sign_extend()));
    Ok(())
}

#[inline(always)]
fn lea<T: Width>(core: &mut Core, op: &Op) -> Step {
    let address = core.effective_address(op);
    core.put(op.r1, T::truncate(address));
    Ok(())
}

fn mov_handler(form: Form, bytes: usize) -> Handler {
    by_width!(bytes, T => match form {
        Form::RegisterRegister => mov::<T, R1, R2>,
        Form::RegisterMemory => mov::<T, R1, Memory>,
        Form::MemoryRegister => mov::<T, Memory, R1>,
        Form::RegisterImmediate => mov::<T, R1, Immediate>,
        Form::MemoryImmediate => mov::<T, Memory, Immediate>,
    })
}

/// Picks among destination width, source width and source kind.
macro_rules! extending_handler {
    ($operation:ident, $instruction:expr) => {{
        let from_register = $instruction.op1_kind() == OpKind::Register;
        by_width!(width($instruction, 0), To => {
            match (width($instruction, 1), from_register) {
                (1, true) => $operation::<To, u8, R2>,
                (1, false) => $operation::<To, u8, Memory>,
                (2, true) => $operation::<To, u16, R2>,
                (2, false) => $operation::<To, u16, Memory>,
                (_, true) => $operation::<To, u32, R2>,
                (_, false) => $operation::<To, u32, Memory>,
            }
        })
    }};
}

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Mov => mov_handler(Form::of(instruction)?, width(instruction, 0)),
        Mnemonic::Movzx => extending_handler!(movzx, instruction),
        Mnemonic::Movsx | Mnemonic::Movsxd => extending_handler!(movsx, instruction),
        Mnemonic::Lea => by_width!(width(instruction, 0), T => lea::<T>),
        _ => return None,
    };
    Selected::anywhere(handler)
}
