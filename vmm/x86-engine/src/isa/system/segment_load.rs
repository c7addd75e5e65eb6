//! Segment registers: MOV, PUSH and POP of them, and LDS, LES, LFS, LGS, LSS (SDM 3A 5.6 and 5.7).
//!
//! The descriptor is checked, and marked as accessed, before anything else changes.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::{
    descriptor::{is_null, rpl},
    transfer::null_stack,
};
use crate::{
    cpu::{CodeSize, Core, Halt, Register, Segment, SegmentName, Shadow, Step},
    decode::{
        op::{Handler, Op, Selected},
        translate::segment,
    },
    exception::Exception,
    integer::Integer,
    isa::{
        integer::{by_width, push, top_of_stack},
        operand::{Memory, R2, Source, Target, Width},
    },
    memory::Access,
};

impl Core {
    /// Loads DS, ES, FS, GS or SS with a selector, as instructions do.
    pub(crate) fn load_segment(&mut self, name: SegmentName, selector: u16) -> Step {
        let loaded = if name == SegmentName::Ss {
            self.checked_stack(selector)?
        } else {
            self.checked_data(selector)?
        };
        self.segments[name as usize] = loaded;
        self.update_mode();
        Ok(())
    }

    /// A null selector is allowed and makes a segment that cannot be used; in 64-bit mode that matters to nothing but its base,
    /// which becomes 0.
    fn checked_data(&mut self, selector: u16) -> Result<Segment, Halt> {
        if is_null(selector) {
            return Ok(Segment {
                selector,
                ..Segment::default()
            });
        }
        let mut descriptor = self.descriptor(selector, Exception::general_protection)?;
        let privileged = rpl(selector).max(self.cpl) > descriptor.dpl();
        if !descriptor.is_readable() || (privileged && !descriptor.is_conforming_code()) {
            return self.bad_selector(selector);
        }
        if !descriptor.present() {
            return self.absent(selector);
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    fn checked_stack(&mut self, selector: u16) -> Result<Segment, Halt> {
        if is_null(selector) {
            if self.is_64_bit() && self.cpl != 3 && rpl(selector) == self.cpl {
                return Ok(null_stack(selector, self.cpl));
            }
            return Err(self.general_protection());
        }
        self.stack_segment(selector, self.cpl, Exception::general_protection)
    }
}

/// The segment register's number is in `extra`.
fn name(op: &Op) -> SegmentName {
    SegmentName::numbered(op.extra)
}

fn read_selector<T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    let selector = core.segment(name(op)).selector;
    D::write(core, op, T::truncate(u64::from(selector)))
}

/// MOV to a segment register. After SS no interrupt or trap is taken before the next instruction, which may set RSP.
fn write_selector<S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    let selector = S::read(core, op)?;
    core.load_segment(name(op), selector)?;
    shadow_stack_load(core, op);
    Ok(())
}

fn shadow_stack_load(core: &mut Core, op: &Op) {
    if name(op) == SegmentName::Ss {
        core.shadow = Shadow::Traps;
    }
}

/// MOV to CS.
fn not_code(core: &mut Core, _op: &Op) -> Step {
    Err(core.invalid_opcode())
}

fn push_selector<T: Width>(core: &mut Core, op: &Op) -> Step {
    let selector = core.segment(name(op)).selector;
    push(core, T::truncate(u64::from(selector)))
}

fn pop_selector<T: Width>(core: &mut Core, op: &Op) -> Step {
    let value: T = top_of_stack(core, 0)?;
    let before = core.general[Register::Rsp as usize];
    // First: POP SS may change how wide the stack pointer is.
    core.drop_from_stack(<T as Integer>::BYTES);
    if let Err(halt) = core.load_segment(name(op), value.zero_extend() as u16) {
        core.general[Register::Rsp as usize] = before;
        return Err(halt);
    }
    shadow_stack_load(core, op);
    Ok(())
}

/// LDS and its like: the offset, then the selector.
fn load_far_pointer<T: Width>(core: &mut Core, op: &Op) -> Step {
    let bytes = <T as Integer>::BYTES;
    let linear = core.linear(op, bytes + 2, Access::Read)?;
    let offset: T = core.load_linear(linear, op.segment)?;
    let beyond = core.wrap(linear.wrapping_add(bytes));
    let selector: u16 = core.load_linear(beyond, op.segment)?;
    core.load_segment(name(op), selector)?;
    core.put(op.r1, offset);
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op, code: CodeSize) -> Option<Selected> {
    let handler = match instruction.mnemonic() {
        Mnemonic::Mov => select_move(instruction, op)?,
        Mnemonic::Push if instruction.op0_register().is_segment_register() => {
            op.extra = segment(instruction.op0_register()) as u16;
            return Selected::anywhere(
                by_width!(stack_bytes(instruction, code), T => push_selector::<T>),
            );
        }
        Mnemonic::Pop if instruction.op0_register().is_segment_register() => {
            op.extra = segment(instruction.op0_register()) as u16;
            by_width!(stack_bytes(instruction, code), T => pop_selector::<T>)
        }
        Mnemonic::Lds => far_pointer(instruction, op, SegmentName::Ds),
        Mnemonic::Les => far_pointer(instruction, op, SegmentName::Es),
        Mnemonic::Lfs => far_pointer(instruction, op, SegmentName::Fs),
        Mnemonic::Lgs => far_pointer(instruction, op, SegmentName::Gs),
        Mnemonic::Lss => far_pointer(instruction, op, SegmentName::Ss),
        _ => return None,
    };
    Selected::last(handler)
}

fn select_move(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let from_memory = instruction.op1_kind() == OpKind::Memory;
    Some(match instruction.code() {
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg => {
            op.extra = segment(instruction.op1_register()) as u16;
            super::selector_target!(instruction, read_selector)
        }
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => {
            op.extra = segment(instruction.op0_register()) as u16;
            match (name(op), from_memory) {
                (SegmentName::Cs, _) => not_code,
                (_, true) => write_selector::<Memory>,
                (_, false) => write_selector::<R2>,
            }
        }
        _ => return None,
    })
}

fn far_pointer(instruction: &Instruction, op: &mut Op, name: SegmentName) -> Handler {
    op.extra = name as u16;
    by_width!(instruction.op0_register().size(), T => load_far_pointer::<T>)
}

fn stack_bytes(instruction: &Instruction, code: CodeSize) -> usize {
    match (instruction.stack_pointer_increment().unsigned_abs(), code) {
        (2, _) => 2,
        (_, CodeSize::Bits64) => 8,
        _ => 4,
    }
}

#[cfg(test)]
#[path = "segment_load_tests.rs"]
mod tests;
