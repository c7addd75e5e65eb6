//! Port input and output: IN, OUT, INS, OUTS (SDM 1 chapter 19).
//!
//! Every access is an exit. IN and OUT are done with its answer. An element of INS or OUTS is executed again once the answer
//! is there: the memory it goes to was made sure of before, so that no answer is lost to a page fault.

use iced_x86::{Code, Instruction};

use super::{descriptor::TSS, flag_control::has_io_privilege};
use crate::{
    cpu::{CR4_DE, Core, Halt, Register, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    exit::{Answer, Completion, Exit},
    flags,
    integer::Integer,
    isa::operand::Width,
    memory::Access,
};

/// TSS: where the I/O permission bitmap begins, and the last byte of that field.
const TSS_BITMAP: u64 = 102;
const TSS_BITMAP_LAST: u32 = 103;
/// DR7: a breakpoint on a port.
const PORT_BREAKPOINT: u64 = 2;

/// #GP(0) unless the program may use `bytes` ports from `port` on (SDM 1 19.5).
fn check_permission(core: &mut Core, port: u16, bytes: u64) -> Step {
    if has_io_privilege(core) {
        return Ok(());
    }
    let tr = core.tr;
    if !tr.present() || tr.kind() & TSS != TSS || tr.limit < TSS_BITMAP_LAST {
        return Err(core.general_protection());
    }
    let bitmap: u16 = core.load_system(tr.base.wrapping_add(TSS_BITMAP))?;
    let offset = u32::from(bitmap) + u32::from(port / 8);
    // Two bytes are always read.
    if offset + 1 > tr.limit {
        return Err(core.general_protection());
    }
    let bits: u16 = core.load_system(tr.base.wrapping_add(u64::from(offset)))?;
    let wanted = (1_u16 << bytes) - 1;
    if bits >> (port % 8) & wanted != 0 {
        return Err(core.general_protection());
    }
    Ok(())
}

/// I/O breakpoints (SDM 3B 17.2.4): traps.
fn watch_port(core: &mut Core, port: u16, bytes: u64) {
    if !core.watching || core.cr4 & CR4_DE == 0 {
        return;
    }
    let dr7 = core.debug[7];
    for index in 0..4 {
        let control = dr7 >> (16 + index * 4);
        if dr7 >> (index * 2) & 3 == 0 || control & 3 != PORT_BREAKPOINT {
            continue;
        }
        let length = (control >> 2 & 3) + 1;
        let start = core.debug[index as usize] & !(length - 1);
        let port = u64::from(port);
        if port < start.wrapping_add(length) && start < port + bytes {
            core.pending_debug |= 1 << index;
        }
    }
}

/// `immediate` is the port, unless it is in DX.
fn port(core: &Core, op: &Op) -> u16 {
    if op.extra == IN_DX {
        core.get(Register::Rdx)
    } else {
        u16::from(op.immediate as u8)
    }
}

const IN_DX: u16 = 1;

fn input<const BYTES: u64>(core: &mut Core, op: &Op) -> Step {
    let port = port(core, op);
    check_permission(core, port, BYTES)?;
    watch_port(core, port, BYTES);
    let width = BYTES as u8;
    Err(core.exit(Exit::PortRead { port, width }, Completion::Accumulator))
}

fn output<const BYTES: u64>(core: &mut Core, op: &Op) -> Step {
    let port = port(core, op);
    check_permission(core, port, BYTES)?;
    watch_port(core, port, BYTES);
    let value = core.get::<u32>(Register::Rax) & (u32::MAX >> (32 - 8 * BYTES));
    let width = BYTES as u8;
    let exit = Exit::PortWrite { port, width, value };
    Err(core.exit(exit, Completion::Retired))
}

/// One element of INS: `[ES:DI]` from port DX.
fn input_string<T: Width>(core: &mut Core, op: &Op) -> Step {
    let bytes = <T as Integer>::BYTES;
    let port = core.get::<u16>(Register::Rdx);
    // Also if there is nothing to do.
    check_permission(core, port, bytes)?;
    if is_over(core, op) {
        return Ok(());
    }
    let offset = core.general[Register::Rdi as usize] & op.address_mask();
    let linear = core.segmented(SegmentName::Es, offset, bytes, Access::Write)?;
    core.probe_write(linear, bytes, SegmentName::Es)?;
    let Some(Answer::Read(data)) = core.next_answer() else {
        let width = bytes as u8;
        return Err(core.exit(Exit::PortRead { port, width }, Completion::Again));
    };
    let value = T::truncate(u64::from_le_bytes(data));
    core.store_linear(linear, SegmentName::Es, value)?;
    watch_port(core, port, bytes);
    advance(core, op, Register::Rdi, bytes)
}

/// One element of OUTS: `[DS:SI]`, or another segment, to port DX.
fn output_string<T: Width>(core: &mut Core, op: &Op) -> Step {
    let bytes = <T as Integer>::BYTES;
    let port = core.get::<u16>(Register::Rdx);
    // Also if there is nothing to do.
    check_permission(core, port, bytes)?;
    if is_over(core, op) {
        return Ok(());
    }
    let offset = core.general[Register::Rsi as usize] & op.address_mask();
    let value: T = core.load_at(op.segment, offset)?;
    if core.next_answer().is_none() {
        let exit = Exit::PortWrite {
            port,
            width: bytes as u8,
            value: value.zero_extend() as u32,
        };
        return Err(core.exit(exit, Completion::Again));
    }
    watch_port(core, port, bytes);
    advance(core, op, Register::Rsi, bytes)
}

const REPEATED: u16 = 1;

/// A repeated instruction whose count is used up.
fn is_over(core: &Core, op: &Op) -> bool {
    op.extra == REPEATED && core.general[Register::Rcx as usize] & op.address_mask() == 0
}

/// Moves the pointer and counts. Each element is an exit, so each is an iteration of its own.
fn advance(core: &mut Core, op: &Op, pointer: Register, bytes: u64) -> Step {
    let step = if core.flags.system(flags::DF) != 0 {
        bytes.wrapping_neg()
    } else {
        bytes
    };
    add(core, op, pointer, step);
    if op.extra != REPEATED {
        return Ok(());
    }
    core.iterations = 1;
    if add(core, op, Register::Rcx, u64::MAX) == 0 {
        return Ok(());
    }
    Err(Halt::Repeat)
}

/// Adds to a register as wide as the address size; returns the sum.
fn add(core: &mut Core, op: &Op, register: Register, amount: u64) -> u64 {
    let sum = core.general[register as usize].wrapping_add(amount) & op.address_mask();
    match op.address_bits {
        16 => core.put(register, sum as u16),
        32 => core.put(register, sum as u32),
        _ => core.put(register, sum),
    }
    sum
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let string: Handler = match instruction.code() {
        Code::Insb_m8_DX => input_string::<u8>,
        Code::Insw_m16_DX => input_string::<u16>,
        Code::Insd_m32_DX => input_string::<u32>,
        Code::Outsb_DX_m8 => output_string::<u8>,
        Code::Outsw_DX_m16 => output_string::<u16>,
        Code::Outsd_DX_m32 => output_string::<u32>,
        _ => return select_single(instruction, op),
    };
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    op.extra = if repeated { REPEATED } else { 0 };
    Selected::alone(string)
}

fn select_single(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let (handler, in_dx): (Handler, bool) = match instruction.code() {
        Code::In_AL_imm8 => (input::<1>, false),
        Code::In_AX_imm8 => (input::<2>, false),
        Code::In_EAX_imm8 => (input::<4>, false),
        Code::In_AL_DX => (input::<1>, true),
        Code::In_AX_DX => (input::<2>, true),
        Code::In_EAX_DX => (input::<4>, true),
        Code::Out_imm8_AL => (output::<1>, false),
        Code::Out_imm8_AX => (output::<2>, false),
        Code::Out_imm8_EAX => (output::<4>, false),
        Code::Out_DX_AL => (output::<1>, true),
        Code::Out_DX_AX => (output::<2>, true),
        Code::Out_DX_EAX => (output::<4>, true),
        _ => return None,
    };
    op.extra = if in_dx { IN_DX } else { 0 };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
