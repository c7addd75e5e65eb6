//! SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2B): transfers between user and kernel that look at no descriptors.
//!
//! The segments that they load are flat by definition; whether the GDT agrees is the operating system's business. Being Intel's, this processor has
//! SYSCALL and SYSRET in 64-bit mode alone, and SYSENTER and SYSEXIT everywhere.

use iced_x86::{Code, Instruction};

use crate::{
    cpu::{Core, EFER_SCE, Register, Segment, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    flags,
    memory::slow::is_canonical,
};

/// DR6: single step.
const SINGLE_STEP: u64 = 1 << 14;
/// The flags that SYSRET takes from R11: all but RF and VM.
const SYSRET_FLAGS: u64 = 0x3C_7FD7;

/// Code, readable, accessed, present, 4 GiB.
const CODE: u16 = 0x809B;
/// Data, writable, accessed, present, 32-bit, 4 GiB.
const DATA: u16 = 0xC093;

fn flat(selector: u64, access: u16, cpl: u8) -> Segment {
    Segment {
        selector: selector as u16 & !3 | u16::from(cpl),
        base: 0,
        limit: u32::MAX,
        access,
    }
    .with_dpl(cpl)
}

fn code(selector: u64, cpl: u8, wide: bool) -> Segment {
    let size = if wide { Segment::LONG } else { Segment::BIG };
    flat(selector, CODE | size, cpl)
}

fn data(selector: u64, cpl: u8) -> Segment {
    flat(selector, DATA, cpl)
}

impl Core {
    fn enter_flat(&mut self, code: Segment, stack: Segment) {
        self.set_code_segment(code);
        self.segments[SegmentName::Ss as usize] = stack;
        self.update_mode();
    }

    /// #UD unless in 64-bit mode with EFER.SCE.
    fn require_syscalls(&mut self) -> Step {
        if self.is_64_bit() && self.efer & EFER_SCE != 0 {
            Ok(())
        } else {
            Err(self.invalid_opcode())
        }
    }
}

fn syscall(core: &mut Core, op: &Op) -> Step {
    core.require_syscalls()?;
    let next = core.advanced(core.general[Register::Block as usize], op.next_offset());
    let before = core.flags.get();
    core.general[Register::Rcx as usize] = next;
    core.general[Register::R11 as usize] = before;
    core.rip = core.msrs.lstar;
    core.flags.set(before & !core.msrs.fmask & !flags::RF);
    // TF counts as FMASK leaves it: a kernel that masks it is not stepped into.
    core.untraced = core.flags.system(flags::TF) == 0;
    let selector = core.msrs.star >> 32;
    core.enter_flat(code(selector, 0, true), data((selector & !3) + 8, 0));
    Ok(())
}

fn sysret<const WIDE: bool>(core: &mut Core, _op: &Op) -> Step {
    core.require_syscalls()?;
    core.require_supervisor()?;
    let target = core.general[Register::Rcx as usize];
    if WIDE && !is_canonical(target) {
        return Err(core.general_protection());
    }
    let selector = core.msrs.star >> 48;
    core.rip = if WIDE { target } else { target & 0xFFFF_FFFF };
    let image = core.general[Register::R11 as usize] & SYSRET_FLAGS;
    core.flags.set(image);
    // TF counts as it is now: the trap is as if SYSCALL had just completed.
    core.untraced = true;
    if core.flags.system(flags::TF) != 0 {
        core.pending_debug |= SINGLE_STEP;
    }
    let code_selector = if WIDE { selector + 16 } else { selector };
    core.enter_flat(code(code_selector, 3, WIDE), data(selector + 8, 3));
    Ok(())
}

fn sysenter(core: &mut Core, _op: &Op) -> Step {
    let selector = core.msrs.sysenter_cs & 0xFFFC;
    if selector == 0 {
        return Err(core.general_protection());
    }
    core.flags.set_system(flags::VM | flags::IF, false);
    let wide = core.long_mode();
    let mask = if wide { u64::MAX } else { 0xFFFF_FFFF };
    core.general[Register::Rsp as usize] = core.msrs.sysenter_esp & mask;
    core.rip = core.msrs.sysenter_eip & mask;
    core.enter_flat(code(selector, 0, wide), data(selector + 8, 0));
    Ok(())
}

fn sysexit<const WIDE: bool>(core: &mut Core, _op: &Op) -> Step {
    let selector = core.msrs.sysenter_cs & 0xFFFC;
    if core.cpl != 0 || selector == 0 {
        return Err(core.general_protection());
    }
    let (stack, target) = (
        core.general[Register::Rcx as usize],
        core.general[Register::Rdx as usize],
    );
    if WIDE && !(is_canonical(stack) && is_canonical(target)) {
        return Err(core.general_protection());
    }
    let mask = if WIDE { u64::MAX } else { 0xFFFF_FFFF };
    core.general[Register::Rsp as usize] = stack & mask;
    core.rip = target & mask;
    let code_selector = selector + if WIDE { 32 } else { 16 };
    core.enter_flat(code(code_selector, 3, WIDE), data(code_selector + 8, 3));
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Syscall => syscall,
        Code::Sysretq => sysret::<true>,
        Code::Sysretd => sysret::<false>,
        Code::Sysenter => sysenter,
        Code::Sysexitq => sysexit::<true>,
        Code::Sysexitd => sysexit::<false>,
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "syscall_tests.rs"]
mod tests;
