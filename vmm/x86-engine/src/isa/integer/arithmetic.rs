//! ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST; INC, DEC, NEG, NOT.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{Form, by_width, width};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op, Selected},
    flags::Flags,
    integer::Integer,
    isa::operand::{Immediate, Memory, R1, R2, Source, Target, Width},
};

/// An operation on two operands.
trait Binary {
    /// Whether the result goes to the first operand.
    const STORES: bool = true;

    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T;
}

struct Add;
struct Adc;
struct Sub;
struct Sbb;
struct Cmp;
struct And;
struct Or;
struct Xor;
struct Test;

impl Binary for Add {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.add(b);
        flags.after_add(a, b, result);
        result
    }
}

impl Binary for Adc {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.add(b).add(T::truncate(u64::from(flags.carry())));
        flags.after_add(a, b, result);
        result
    }
}

impl Binary for Sub {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.sub(b);
        flags.after_sub(a, b, result);
        result
    }
}

impl Binary for Sbb {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
        let result = a.sub(b).sub(T::truncate(u64::from(flags.carry())));
        flags.after_sub(a, b, result);
        result
    }
}

impl Binary for Cmp {
    const STORES: bool = false;

    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
        Sub::apply(flags, a, b)
    }
}

macro_rules! logic {
    ($name:ident, $stores:expr, $result:expr) => {
        impl Binary for $name {
            const STORES: bool = $stores;

            #[inline(always)]
            fn apply<T: Integer>(flags: &mut Flags, a: T, b: T) -> T {
                let result: fn(T, T) -> T = $result;
                let result = result(a, b);
                flags.after_logic(result);
                result
            }
        }
    };
}

logic!(And, true, |a, b| a & b);
logic!(Or, true, |a, b| a | b);
logic!(Xor, true, |a, b| a ^ b);
logic!(Test, false, |a, b| a & b);

/// What takes no more than a look into the translation cache; all else is [`binary_slowly`]'s.
fn binary<B: Binary, T: Width, D: Target<T>, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let a = if B::STORES {
        D::read_to_modify_quickly(core, op)
    } else {
        D::read_quickly(core, op)
    };
    if let (Some(a), Some(b)) = (a, S::read_quickly(core, op)) {
        let mut flags = core.flags;
        let result = B::apply(&mut flags, a, b);
        if !B::STORES || D::write_quickly(core, op, result) {
            core.flags = flags;
            return Ok(());
        }
    }
    binary_slowly::<B, T, D, S>(core, op)
}

/// The flags change only when nothing can fail any more: a store to a device is executed twice.
#[cold]
#[inline(never)]
fn binary_slowly<B: Binary, T: Width, D: Target<T>, S: Source<T>>(
    core: &mut Core,
    op: &Op,
) -> Step {
    let a = if B::STORES {
        D::read_to_modify(core, op)?
    } else {
        D::read(core, op)?
    };
    let b = S::read(core, op)?;
    let mut flags = core.flags;
    let result = B::apply(&mut flags, a, b);
    if B::STORES {
        D::write(core, op, result)?;
    }
    core.flags = flags;
    Ok(())
}

fn binary_handler<B: Binary>(form: Form, bytes: usize) -> Handler {
    by_width!(bytes, T => match form {
        Form::RegisterRegister => binary::<B, T, R1, R2>,
        Form::RegisterMemory => binary::<B, T, R1, Memory>,
        Form::MemoryRegister => binary::<B, T, Memory, R1>,
        Form::RegisterImmediate => binary::<B, T, R1, Immediate>,
        Form::MemoryImmediate => binary::<B, T, Memory, Immediate>,
    })
}

/// An operation on one operand.
trait Unary {
    fn apply<T: Integer>(flags: &mut Flags, a: T) -> T;
}

struct Inc;
struct Dec;
struct Neg;
struct Not;

impl Unary for Inc {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T) -> T {
        let carry = flags.carry();
        let one = T::truncate(1);
        let result = a.add(one);
        flags.after_add(a, one, result);
        flags.set_carry(carry);
        result
    }
}

impl Unary for Dec {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T) -> T {
        let carry = flags.carry();
        let one = T::truncate(1);
        let result = a.sub(one);
        flags.after_sub(a, one, result);
        flags.set_carry(carry);
        result
    }
}

impl Unary for Neg {
    #[inline(always)]
    fn apply<T: Integer>(flags: &mut Flags, a: T) -> T {
        Sub::apply(flags, T::truncate(0), a)
    }
}

impl Unary for Not {
    #[inline(always)]
    fn apply<T: Integer>(_flags: &mut Flags, a: T) -> T {
        !a
    }
}

fn unary<U: Unary, T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    if let Some(a) = D::read_to_modify_quickly(core, op) {
        let mut flags = core.flags;
        let result = U::apply(&mut flags, a);
        if D::write_quickly(core, op, result) {
            core.flags = flags;
            return Ok(());
        }
    }
    unary_slowly::<U, T, D>(core, op)
}

#[cold]
#[inline(never)]
fn unary_slowly<U: Unary, T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    let a = D::read_to_modify(core, op)?;
    let mut flags = core.flags;
    let result = U::apply(&mut flags, a);
    D::write(core, op, result)?;
    core.flags = flags;
    Ok(())
}

fn unary_handler<U: Unary>(instruction: &Instruction) -> Handler {
    let in_register = instruction.op0_kind() == OpKind::Register;
    by_width!(width(instruction, 0), T => if in_register {
        unary::<U, T, R1>
    } else {
        unary::<U, T, Memory>
    })
}

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let binary: fn(Form, usize) -> Handler = match instruction.mnemonic() {
        Mnemonic::Add => binary_handler::<Add>,
        Mnemonic::Adc => binary_handler::<Adc>,
        Mnemonic::Sub => binary_handler::<Sub>,
        Mnemonic::Sbb => binary_handler::<Sbb>,
        Mnemonic::Cmp => binary_handler::<Cmp>,
        Mnemonic::And => binary_handler::<And>,
        Mnemonic::Or => binary_handler::<Or>,
        Mnemonic::Xor => binary_handler::<Xor>,
        Mnemonic::Test => binary_handler::<Test>,
        Mnemonic::Inc => return Selected::anywhere(unary_handler::<Inc>(instruction)),
        Mnemonic::Dec => return Selected::anywhere(unary_handler::<Dec>(instruction)),
        Mnemonic::Neg => return Selected::anywhere(unary_handler::<Neg>(instruction)),
        Mnemonic::Not => return Selected::anywhere(unary_handler::<Not>(instruction)),
        _ => return None,
    };
    Selected::anywhere(binary(Form::of(instruction)?, width(instruction, 0)))
}
