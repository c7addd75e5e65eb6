//! IRET, IRETD and IRETQ (SDM 2A, IRET).
//!
//! Everything is popped and checked at the privilege that executes the instruction; then everything changes at once. With NT set IRET would
//! return to another task: in long mode that is #GP(0), and since hardware task switches are not supported, it is so everywhere. A return to
//! virtual-8086 mode, which is not supported either, raises #GP(0) too.

use iced_x86::{Code, Instruction};

use super::{descriptor::rpl, stack::Stack};
use crate::{
    cpu::{Core, Segment, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    flags,
};

/// What a return found on the stack.
struct Frame {
    code: Segment,
    rip: u64,
    flags: u64,
    /// Width of each value, bytes.
    bytes: u64,
}

fn iret<const BYTES: u64>(core: &mut Core, _op: &Op) -> Step {
    if core.flags.system(flags::NT) != 0 {
        return Err(core.general_protection());
    }
    let mut stack = Stack::current(core);
    let rip = stack.pop(core, BYTES)?;
    let selector = stack.pop(core, BYTES)? as u16;
    let image = stack.pop(core, BYTES)?;
    if !core.long_mode() && core.cpl == 0 && BYTES == 4 && image & flags::VM != 0 {
        return Err(core.general_protection());
    }
    let frame = Frame {
        code: core.return_target(selector)?,
        rip,
        flags: image,
        bytes: BYTES,
    };
    // 64-bit mode always pops SS and RSP.
    if core.is_64_bit() || rpl(selector) > core.cpl {
        return return_with_stack(core, &frame, stack);
    }
    core.check_entry(&frame.code, frame.rip)?;
    commit(core, &frame, stack.segment, stack.pointer);
    Ok(())
}

fn return_with_stack(core: &mut Core, frame: &Frame, mut stack: Stack) -> Step {
    let pointer = stack.pop(core, frame.bytes)?;
    let selector = stack.pop(core, frame.bytes)? as u16;
    let cpl = rpl(frame.code.selector);
    let to_64_bit = core.long_mode() && frame.code.long();
    let segment = core.return_stack(selector, cpl, to_64_bit)?;
    core.check_entry(&frame.code, frame.rip)?;
    let outward = cpl > core.cpl;
    commit(core, frame, segment, pointer);
    if outward {
        core.drop_inner_segments();
        core.update_mode();
    }
    Ok(())
}

fn commit(core: &mut Core, frame: &Frame, stack: Segment, pointer: u64) {
    load_flags(core, frame);
    core.set_code_segment(frame.code);
    // Hidden as the CPL even where the selector is null.
    core.segments[SegmentName::Ss as usize] = stack;
    core.update_mode();
    core.set_stack_pointer(pointer);
    core.rip = frame.rip;
}

/// Which flags change depends on the privilege before.
fn load_flags(core: &mut Core, frame: &Frame) {
    let mut loaded = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if frame.bytes > 2 {
        loaded |= flags::RF | flags::AC | flags::ID;
    }
    let before = core.flags.get();
    if u64::from(core.cpl) <= (before & flags::IOPL) >> 12 {
        loaded |= flags::IF;
    }
    if core.cpl == 0 {
        loaded |= flags::IOPL;
        if frame.bytes > 2 {
            loaded |= flags::VIF_VIP;
        }
    }
    core.flags.set(before & !loaded | frame.flags & loaded);
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Iretw => iret::<2>,
        Code::Iretd => iret::<4>,
        Code::Iretq => iret::<8>,
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "iret_tests.rs"]
mod tests;
