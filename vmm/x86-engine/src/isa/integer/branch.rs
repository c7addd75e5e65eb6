//! Near branches: JMP, Jcc, CALL, RET, LOOP, JCXZ.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{
    by_width,
    stack::push,
    stack::{top_of_stack, top_of_stack_quickly},
};
use crate::{
    cpu::{Core, Register, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    integer::Integer,
    isa::operand::{Memory, R1, Source, Width},
    memory::slow::is_canonical,
};

/// Goes to a direct branch's target. `extra` has the operand size in bits.
#[inline(always)]
fn take(core: &mut Core, op: &Op) {
    let target = core.general[Register::Block as usize].wrapping_add(op.immediate);
    core.rip = if op.narrow {
        target & (u64::MAX >> (64 - op.extra))
    } else {
        target
    };
}

/// The return address of a call.
#[inline(always)]
fn after(core: &Core, op: &Op) -> u64 {
    core.advanced(core.general[Register::Block as usize], op.next_offset())
}

fn jump(core: &mut Core, op: &Op) -> Step {
    take(core, op);
    Ok(())
}

fn jump_if<const CONDITION: u8>(core: &mut Core, op: &Op) -> Step {
    if core.flags.condition(CONDITION) {
        take(core, op);
    }
    Ok(())
}

fn call<T: Width>(core: &mut Core, op: &Op) -> Step {
    let address = after(core, op);
    push(core, T::truncate(address))?;
    take(core, op);
    Ok(())
}

/// A target outside of the address space faults at the branch.
#[inline(always)]
fn go<T: Width>(core: &mut Core, target: T) -> Step {
    let target = target.zero_extend();
    if T::BITS == 64 && !is_canonical(target) {
        return Err(core.general_protection());
    }
    core.rip = target;
    Ok(())
}

fn jump_to<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let target = S::read(core, op)?;
    go(core, target)
}

fn call_to<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let target = S::read(core, op)?;
    if T::BITS == 64 && !is_canonical(target.zero_extend()) {
        // That the stack can be written is found out before.
        let bytes = <T as Integer>::BYTES;
        let top = core.stack_pointer().wrapping_sub(bytes);
        core.check_alignment(top, bytes, bytes, SegmentName::Ss)?;
        core.probe_write(top, bytes, SegmentName::Ss)?;
        return Err(core.general_protection());
    }
    let address = after(core, op);
    push(core, T::truncate(address))?;
    go(core, target)
}

/// `immediate` bytes of arguments are dropped; 0 in the plain form.
fn ret<T: Width>(core: &mut Core, op: &Op) -> Step {
    if let Some(target) = top_of_stack_quickly::<T>(core)
        && is_canonical(target.zero_extend())
    {
        core.rip = target.zero_extend();
        let top = &mut core.general[Register::Rsp as usize];
        *top = top.wrapping_add(8).wrapping_add(op.immediate);
        return Ok(());
    }
    ret_slowly::<T>(core, op)
}

#[cold]
#[inline(never)]
fn ret_slowly<T: Width>(core: &mut Core, op: &Op) -> Step {
    let target: T = top_of_stack(core, 0)?;
    go(core, target)?;
    core.drop_from_stack(<T as Integer>::BYTES + op.immediate);
    Ok(())
}

/// What LOOPcc asks besides the counter.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Also {
    Nothing,
    Zero,
    NotZero,
}

fn loop_while<Counter: Width, const ALSO: u8>(core: &mut Core, op: &Op) -> Step {
    let count = core.get::<Counter>(Register::Rcx).sub(Counter::truncate(1));
    core.put(Register::Rcx, count);
    let also = if ALSO == Also::Zero as u8 {
        core.flags.zero()
    } else if ALSO == Also::NotZero as u8 {
        !core.flags.zero()
    } else {
        true
    };
    if count != Counter::truncate(0) && also {
        take(core, op);
    }
    Ok(())
}

fn jump_if_counter_zero<Counter: Width>(core: &mut Core, op: &Op) -> Step {
    if core.get::<Counter>(Register::Rcx) == Counter::truncate(0) {
        take(core, op);
    }
    Ok(())
}

const CONDITIONAL: [Handler; 16] = [
    jump_if::<0>,
    jump_if::<1>,
    jump_if::<2>,
    jump_if::<3>,
    jump_if::<4>,
    jump_if::<5>,
    jump_if::<6>,
    jump_if::<7>,
    jump_if::<8>,
    jump_if::<9>,
    jump_if::<10>,
    jump_if::<11>,
    jump_if::<12>,
    jump_if::<13>,
    jump_if::<14>,
    jump_if::<15>,
];

/// The condition code of a Jcc, SETcc or CMOVcc.
pub(crate) fn condition(instruction: &Instruction) -> Option<usize> {
    use iced_x86::ConditionCode as C;
    let order = [
        C::o,
        C::no,
        C::b,
        C::ae,
        C::e,
        C::ne,
        C::be,
        C::a,
        C::s,
        C::ns,
        C::p,
        C::np,
        C::l,
        C::ge,
        C::le,
        C::g,
    ];
    let code = instruction.condition_code();
    order.iter().position(|entry| *entry == code)
}

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let handler = match instruction.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            direct(instruction, op)?
        }
        _ => indirect(instruction)?,
    };
    Selected::last(handler)
}

fn direct(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let bytes = match instruction.op0_kind() {
        OpKind::NearBranch16 => 2,
        OpKind::NearBranch32 => 4,
        _ => 8,
    };
    op.extra = bytes * 8;
    if instruction.is_jcc_short_or_near() {
        return Some(CONDITIONAL[condition(instruction)?]);
    }
    let counter = (instruction.code().op_code().address_size() / 8) as usize;
    Some(match instruction.mnemonic() {
        Mnemonic::Jmp => jump,
        Mnemonic::Call => by_width!(bytes, T => call::<T>),
        Mnemonic::Loop => by_width!(counter, T => loop_while::<T, { Also::Nothing as u8 }>),
        Mnemonic::Loope => by_width!(counter, T => loop_while::<T, { Also::Zero as u8 }>),
        Mnemonic::Loopne => by_width!(counter, T => loop_while::<T, { Also::NotZero as u8 }>),
        Mnemonic::Jcxz | Mnemonic::Jecxz | Mnemonic::Jrcxz => {
            by_width!(counter, T => jump_if_counter_zero::<T>)
        }
        _ => return None,
    })
}

fn indirect(instruction: &Instruction) -> Option<Handler> {
    use iced_x86::Code;
    let in_register = instruction.op0_kind() == OpKind::Register;
    Some(match instruction.code() {
        Code::Jmp_rm16 | Code::Jmp_rm32 | Code::Jmp_rm64 => {
            by_width!(super::width(instruction, 0), T => if in_register {
                jump_to::<T, R1>
            } else {
                jump_to::<T, Memory>
            })
        }
        Code::Call_rm16 | Code::Call_rm32 | Code::Call_rm64 => {
            by_width!(super::width(instruction, 0), T => if in_register {
                call_to::<T, R1>
            } else {
                call_to::<T, Memory>
            })
        }
        Code::Retnw | Code::Retnw_imm16 => ret::<u16>,
        Code::Retnd | Code::Retnd_imm16 => ret::<u32>,
        Code::Retnq | Code::Retnq_imm16 => ret::<u64>,
        _ => return None,
    })
}
