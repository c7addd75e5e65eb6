//! Far JMP, CALL and RET, direct, through memory, and through call gates (SDM 3A 5.8; SDM 2A, CALL and JMP; SDM 2B, RET).
//!
//! Pushes come before the first change, so an instruction that fails has changed nothing. A far jump or call to a TSS or a task gate would
//! switch tasks in hardware, which is not supported: #GP with the selector, as for a descriptor of any other type.

use iced_x86::{Code, Instruction, OpKind};

use super::{
    descriptor::{CALL_GATE, CALL_GATE_16, Descriptor, error_code, is_null, rpl},
    stack::Stack,
    transfer::null_stack,
};
use crate::{
    cpu::{Core, Halt, Register, Segment, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
    integer::Integer,
    isa::operand::Width,
    memory::Access,
};

/// Where a far transfer goes, and how its operand is encoded.
struct FarPointer {
    selector: u16,
    offset: u64,
    /// Operand size, bytes: the width of what CALL pushes.
    bytes: u64,
}

/// A call gate, checked as far as it goes by itself.
struct CallGate {
    descriptor: Descriptor,
    /// Width of what is pushed, bytes.
    bytes: u64,
}

impl CallGate {
    fn entry(&self) -> u64 {
        let offset = self.descriptor.gate_offset();
        if self.bytes == 2 {
            offset & 0xFFFF
        } else {
            offset
        }
    }
}

/// What a selector of a far transfer leads to.
enum Destination {
    Segment(Segment),
    Gate(CallGate),
}

/// `immediate` and `extra` of the instruction.
fn direct<const BYTES: u64>(op: &Op) -> FarPointer {
    FarPointer {
        selector: op.extra,
        offset: op.immediate,
        bytes: BYTES,
    }
}

/// In memory: the offset, then the selector.
fn indirect<T: Width>(core: &mut Core, op: &Op) -> Result<FarPointer, Halt> {
    let bytes = <T as Integer>::BYTES;
    let linear = core.linear(op, bytes + 2, Access::Read)?;
    let offset: T = core.load_linear(linear, op.segment)?;
    let beyond = core.wrap(linear.wrapping_add(bytes));
    Ok(FarPointer {
        selector: core.load_linear(beyond, op.segment)?,
        offset: offset.zero_extend(),
        bytes,
    })
}

impl Core {
    /// Looks up and checks what a far jump or call leads to.
    fn far_destination(&mut self, selector: u16) -> Result<Destination, Halt> {
        if is_null(selector) {
            return Err(self.general_protection());
        }
        let descriptor = self.descriptor(selector, Exception::general_protection)?;
        if descriptor.is_code() {
            return self
                .far_segment(descriptor, selector)
                .map(Destination::Segment);
        }
        let bytes = match descriptor.kind() {
            CALL_GATE if self.long_mode() => 8,
            CALL_GATE => 4,
            CALL_GATE_16 if !self.long_mode() => 2,
            _ => return self.bad_selector(selector),
        };
        let forbidden = descriptor.dpl() < self.cpl.max(rpl(selector));
        if !descriptor.is_system() || descriptor.is_malformed() || forbidden {
            return self.bad_selector(selector);
        }
        if !descriptor.present() {
            return self.absent(selector);
        }
        Ok(Destination::Gate(CallGate { descriptor, bytes }))
    }

    /// A code segment that is reached without a gate: the privilege stays (SDM 3A 5.8.1).
    fn far_segment(&mut self, mut descriptor: Descriptor, selector: u16) -> Result<Segment, Halt> {
        let allowed = if descriptor.is_conforming_code() {
            descriptor.dpl() <= self.cpl
        } else {
            descriptor.dpl() == self.cpl && rpl(selector) <= self.cpl
        };
        let segment = descriptor.segment(selector);
        let both_sizes = self.long_mode() && segment.long() && segment.default_big();
        if !allowed || both_sizes {
            return self.bad_selector(selector);
        }
        if !descriptor.present() {
            return self.absent(selector);
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(Segment {
            selector: selector & !3 | u16::from(self.cpl),
            ..descriptor.segment(selector)
        })
    }
}

fn jump(core: &mut Core, target: &FarPointer) -> Step {
    let (code, entry) = match core.far_destination(target.selector)? {
        Destination::Segment(code) => (code, target.offset),
        Destination::Gate(gate) => {
            let selector = gate.descriptor.gate_selector();
            let (code, cpl) = core.gate_target(selector)?;
            if cpl != core.cpl {
                return core.bad_selector(selector);
            }
            (code, gate.entry())
        }
    };
    core.check_entry(&code, entry)?;
    core.set_code_segment(code);
    core.rip = entry;
    core.update_mode();
    Ok(())
}

fn call(core: &mut Core, op: &Op, target: &FarPointer) -> Step {
    let back = core.advanced(core.general[Register::Block as usize], op.next_offset());
    match core.far_destination(target.selector)? {
        Destination::Segment(code) => {
            let mut stack = Stack::current(core);
            push_return(core, &mut stack, target.bytes, back)?;
            enter(core, code, target.offset, &stack)
        }
        Destination::Gate(gate) => call_gate(core, &gate, back),
    }
}

fn call_gate(core: &mut Core, gate: &CallGate, back: u64) -> Step {
    let (code, cpl) = core.gate_target(gate.descriptor.gate_selector())?;
    let old = Stack::current(core);
    let mut stack = old;
    if cpl != core.cpl {
        stack = inner_stack(core, gate, cpl)?;
        let before = core.segment(SegmentName::Ss).selector;
        stack.push(core, gate.bytes, u64::from(before))?;
        stack.push(core, gate.bytes, core.general[Register::Rsp as usize])?;
        if gate.bytes != 8 {
            for index in (0..gate.descriptor.parameters()).rev() {
                let value = old.peek(core, index * gate.bytes, gate.bytes)?;
                stack.push(core, gate.bytes, value)?;
            }
        }
    }
    push_return(core, &mut stack, gate.bytes, back)?;
    enter(core, code, gate.entry(), &stack)
}

/// The stack that the TSS has for privilege `cpl`.
fn inner_stack(core: &mut Core, gate: &CallGate, cpl: u8) -> Result<Stack, Halt> {
    if gate.bytes == 8 {
        let pointer = core.long_task_stack(cpl)?;
        let segment = null_stack(u16::from(cpl), cpl);
        return Ok(Stack::flat(core, segment, pointer, cpl));
    }
    let (segment, pointer) = core.task_stack(cpl)?;
    let code = error_code(segment.selector);
    Ok(Stack::segmented(core, segment, pointer, cpl, code))
}

fn push_return(core: &mut Core, stack: &mut Stack, bytes: u64, back: u64) -> Step {
    let code = core.segment(SegmentName::Cs).selector;
    stack.push(core, bytes, u64::from(code))?;
    stack.push(core, bytes, back)
}

fn enter(core: &mut Core, code: Segment, entry: u64, stack: &Stack) -> Step {
    core.check_entry(&code, entry)?;
    core.set_code_segment(code);
    core.segments[SegmentName::Ss as usize] = stack.segment;
    core.general[Register::Rsp as usize] = stack.pointer;
    core.rip = entry;
    core.update_mode();
    Ok(())
}

/// RETF: `immediate` bytes of parameters are dropped from both stacks.
fn far_return<const BYTES: u64>(core: &mut Core, op: &Op) -> Step {
    let parameters = op.immediate & 0xFFFF;
    let mut stack = Stack::current(core);
    let entry = stack.pop(core, BYTES)?;
    let selector = stack.pop(core, BYTES)? as u16;
    let code = core.return_target(selector)?;
    let cpl = rpl(selector);
    stack.skip(parameters);
    if cpl == core.cpl {
        return enter(core, code, entry, &stack);
    }
    let pointer = stack.pop(core, BYTES)?;
    let stack_selector = stack.pop(core, BYTES)? as u16;
    let to_64_bit = core.long_mode() && code.long();
    let segment = core.return_stack(stack_selector, cpl, to_64_bit)?;
    core.check_entry(&code, entry)?;
    core.set_code_segment(code);
    core.segments[SegmentName::Ss as usize] = segment;
    core.update_mode();
    core.set_stack_pointer(pointer.wrapping_add(parameters));
    core.rip = entry;
    core.drop_inner_segments();
    core.update_mode();
    Ok(())
}

fn jump_direct<const BYTES: u64>(core: &mut Core, op: &Op) -> Step {
    jump(core, &direct::<BYTES>(op))
}

fn jump_indirect<T: Width>(core: &mut Core, op: &Op) -> Step {
    let target = indirect::<T>(core, op)?;
    jump(core, &target)
}

fn call_direct<const BYTES: u64>(core: &mut Core, op: &Op) -> Step {
    call(core, op, &direct::<BYTES>(op))
}

fn call_indirect<T: Width>(core: &mut Core, op: &Op) -> Step {
    let target = indirect::<T>(core, op)?;
    call(core, op, &target)
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Jmp_ptr1616 => jump_direct::<2>,
        Code::Jmp_ptr1632 => jump_direct::<4>,
        Code::Jmp_m1616 => jump_indirect::<u16>,
        Code::Jmp_m1632 => jump_indirect::<u32>,
        Code::Jmp_m1664 => jump_indirect::<u64>,
        Code::Call_ptr1616 => call_direct::<2>,
        Code::Call_ptr1632 => call_direct::<4>,
        Code::Call_m1616 => call_indirect::<u16>,
        Code::Call_m1632 => call_indirect::<u32>,
        Code::Call_m1664 => call_indirect::<u64>,
        Code::Retfw | Code::Retfw_imm16 => far_return::<2>,
        Code::Retfd | Code::Retfd_imm16 => far_return::<4>,
        Code::Retfq | Code::Retfq_imm16 => far_return::<8>,
        _ => return None,
    };
    if instruction.op0_kind() == OpKind::Immediate16 {
        op.immediate = u64::from(instruction.immediate16());
    }
    Selected::last(handler)
}

#[cfg(test)]
#[path = "far_tests.rs"]
mod tests;
