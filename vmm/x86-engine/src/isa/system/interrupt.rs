//! Delivery of interrupts and exceptions through the IDT (SDM 3A 6.12 and 6.14).
//!
//! In: an exception, an external interrupt's vector, or INT n. Out: the processor at the handler's first instruction, or `Err` with what
//! went wrong on the way, and the processor still where it was: RIP, RSP, flags and segments change once everything is pushed.
//!
//! ```text
//!  event ─► gate in the IDT ─► code segment ─► stack: the same, the TSS's for the new privilege, or the interrupt stack table's
//!        ─► push (SS, RSP,) RFLAGS, CS, RIP(, error code) ─► commit
//! ```
//!
//! Task gates are not supported: no operating system for this processor has used them for anything but double faults since the 1990s.
//! One in the IDT raises #GP with its vector, as a gate of an unknown type does. Nor is virtual-8086 mode.

use iced_x86::{Code, Instruction};

use super::{
    descriptor::{
        Descriptor, INTERRUPT_GATE, INTERRUPT_GATE_16, TRAP_GATE, TRAP_GATE_16, error_code,
    },
    stack::Stack,
    transfer::null_stack,
};
use crate::{
    cpu::{Core, Halt, Register, Segment, SegmentName, Shadow, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
    flags,
};

/// Error code bit: the event was external to the program (SDM 3A 6.13).
const EXTERNAL: u32 = 1 << 0;
/// Error code bit: the selector is a vector.
const IN_IDT: u32 = 1 << 1;
/// DR6: a debug register was accessed.
pub(super) const DEBUG_REGISTER_ACCESS: u64 = 1 << 13;
/// DR6: the bits that tell which breakpoint it was.
const BREAKPOINTS: u64 = 0xF;
/// DR7: accesses to debug registers raise #DB.
pub(super) const GENERAL_DETECT: u64 = 1 << 13;

/// What is delivered.
struct Event {
    vector: u8,
    error_code: Option<u32>,
    /// INT n, INT3 or INTO: the gate's DPL counts.
    software: bool,
    /// Where the handler returns to.
    rip: u64,
    /// The RFLAGS it finds on the stack.
    flags: u64,
}

/// What a second exception makes of a first one that could not be delivered (SDM 3A 6.15, "Interrupt 8"); `None`: shutdown.
pub(crate) fn combine(first: Exception, second: Exception) -> Option<Exception> {
    let contributory = |vector| matches!(vector, 0 | 10..=13);
    match (first.vector, second.vector) {
        (8, _) => None,
        (14, 14) => Some(Exception::DOUBLE_FAULT),
        (14, next) if contributory(next) => Some(Exception::DOUBLE_FAULT),
        (before, next) if contributory(before) && contributory(next) => {
            Some(Exception::DOUBLE_FAULT)
        }
        _ => Some(second),
    }
}

/// Faults push RFLAGS with RF set, so that an instruction breakpoint does not hit again (SDM 3B 17.3.1.1); traps and aborts do not.
fn is_fault(exception: &Exception) -> bool {
    match exception.vector {
        1 => exception.debug_status & DEBUG_REGISTER_ACCESS != 0,
        3 | 4 | 8 => false,
        _ => true,
    }
}

impl Core {
    /// Delivers an exception.
    pub(crate) fn deliver_exception(&mut self, exception: Exception) -> Step {
        if self.shadow != Shadow::Traps {
            // A data breakpoint of an instruction that then faulted: it will hit again.
            self.pending_debug = 0;
        }
        if let Some(address) = exception.fault_address {
            self.cr2 = address;
        }
        if exception.vector == 1 {
            self.note_debug(exception.debug_status);
        }
        let mut image = self.flags.get();
        if is_fault(&exception) {
            image |= flags::RF;
        }
        self.deliver_external(&Event {
            vector: exception.vector,
            error_code: exception.error_code,
            software: false,
            rip: self.rip,
            flags: image,
        })
    }

    /// Delivers an external interrupt.
    pub(crate) fn deliver_interrupt(&mut self, vector: u8) -> Step {
        self.deliver_external(&Event {
            vector,
            error_code: None,
            software: false,
            rip: self.rip,
            flags: self.flags.get(),
        })
    }

    /// Whatever goes wrong while something external is delivered says so in its error code.
    fn deliver_external(&mut self, event: &Event) -> Step {
        let delivered = self.deliver(event);
        if delivered.is_err()
            && let Some(exception) = &mut self.pending
            && matches!(exception.vector, 10..=13)
            && let Some(code) = &mut exception.error_code
        {
            *code |= EXTERNAL;
        }
        delivered
    }

    /// DR6 tells what a #DB is about; its four breakpoint bits are this one's alone, the others stay set until software clears them
    /// (SDM 3B 17.2.3).
    fn note_debug(&mut self, status: u64) {
        self.debug[6] = self.debug[6] & !BREAKPOINTS | status;
        self.debug[7] &= !GENERAL_DETECT;
    }

    fn deliver(&mut self, event: &Event) -> Step {
        if self.long_mode() {
            self.deliver_long(event)
        } else {
            self.deliver_protected(event)
        }
    }

    /// The IDT's gate for an event, checked up to its presence.
    fn interrupt_gate(&mut self, event: &Event) -> Result<Descriptor, Halt> {
        let long = self.long_mode();
        let bytes = if long { 16 } else { 8 };
        let code = u32::from(event.vector) << 3 | IN_IDT;
        let offset = u64::from(event.vector) * bytes;
        if offset + bytes - 1 > u64::from(self.idtr.limit) {
            return Err(self.raise(Exception::general_protection(code)));
        }
        let address = self.idtr.base.wrapping_add(offset);
        let gate = Descriptor {
            address,
            low: self.load_system(address)?,
            high: if long {
                self.load_system(address.wrapping_add(8))?
            } else {
                0
            },
        };
        let known = match gate.kind() {
            INTERRUPT_GATE | TRAP_GATE => true,
            INTERRUPT_GATE_16 | TRAP_GATE_16 => !long,
            _ => false,
        };
        if !gate.is_system() || !known || (event.software && gate.dpl() < self.cpl) {
            return Err(self.raise(Exception::general_protection(code)));
        }
        if !gate.present() {
            return Err(self.raise(Exception::segment_not_present(code)));
        }
        Ok(gate)
    }

    /// SDM 3A 6.14: 8-byte pushes, always with SS and RSP, on a stack aligned to 16 bytes.
    fn deliver_long(&mut self, event: &Event) -> Step {
        let gate = self.interrupt_gate(event)?;
        let (code, cpl) = self.gate_target(gate.gate_selector())?;
        let table_index = gate.stack_table_index();
        let before = self.segment(SegmentName::Ss);
        let segment = if cpl == self.cpl {
            before
        } else {
            null_stack(u16::from(cpl), cpl)
        };
        let pointer = if table_index != 0 {
            self.interrupt_stack(table_index)?
        } else if cpl != self.cpl {
            self.long_task_stack(cpl)?
        } else {
            self.general[Register::Rsp as usize]
        };
        let entry = gate.gate_offset();
        self.check_entry(&code, entry)?;
        let mut stack = Stack::flat(self, segment, pointer & !0xF, cpl);
        stack.push(self, 8, u64::from(before.selector))?;
        stack.push(self, 8, self.general[Register::Rsp as usize])?;
        self.push_return(&mut stack, event, 8)?;
        self.commit(&gate, code, &stack, entry);
        Ok(())
    }

    /// SDM 3A 6.12.1, figure 6-4.
    fn deliver_protected(&mut self, event: &Event) -> Step {
        let gate = self.interrupt_gate(event)?;
        let (code, cpl) = self.gate_target(gate.gate_selector())?;
        let (bytes, entry) = match gate.kind() {
            INTERRUPT_GATE_16 | TRAP_GATE_16 => (2, gate.gate_offset() & 0xFFFF),
            _ => (4, gate.gate_offset()),
        };
        let mut stack = Stack::current(self);
        if cpl != self.cpl {
            let (segment, pointer) = self.task_stack(cpl)?;
            let code = error_code(segment.selector);
            stack = Stack::segmented(self, segment, pointer, cpl, code);
            let before = self.segment(SegmentName::Ss).selector;
            stack.push(self, bytes, u64::from(before))?;
            stack.push(self, bytes, self.general[Register::Rsp as usize])?;
        }
        self.push_return(&mut stack, event, bytes)?;
        self.check_entry(&code, entry)?;
        self.commit(&gate, code, &stack, entry);
        Ok(())
    }

    fn push_return(&mut self, stack: &mut Stack, event: &Event, bytes: u64) -> Step {
        stack.push(self, bytes, event.flags)?;
        let code = self.segment(SegmentName::Cs).selector;
        stack.push(self, bytes, u64::from(code))?;
        stack.push(self, bytes, event.rip)?;
        if let Some(error_code) = event.error_code {
            stack.push(self, bytes, u64::from(error_code))?;
        }
        Ok(())
    }

    /// Nothing can fail any more.
    fn commit(&mut self, gate: &Descriptor, code: Segment, stack: &Stack, entry: u64) {
        let mut cleared = flags::TF | flags::NT | flags::RF | flags::VM;
        if matches!(gate.kind(), INTERRUPT_GATE | INTERRUPT_GATE_16) {
            cleared |= flags::IF;
        }
        self.flags.set_system(cleared, false);
        self.set_code_segment(code);
        self.segments[SegmentName::Ss as usize] = stack.segment;
        self.general[Register::Rsp as usize] = stack.pointer;
        self.rip = entry;
        self.shadow = Shadow::None;
        self.update_mode();
    }
}

/// INT n and INT3: the return address is the next instruction's. A single step does not trap after them: the handler's first
/// instruction runs with TF clear (SDM 3B 17.3.1.4).
fn software_interrupt(core: &mut Core, op: &Op, vector: u8) -> Step {
    let event = software_event(core, op, vector);
    core.deliver(&Event {
        software: true,
        ..event
    })?;
    core.untraced = true;
    Ok(())
}

fn software_event(core: &Core, op: &Op, vector: u8) -> Event {
    Event {
        vector,
        error_code: None,
        software: false,
        rip: core.advanced(core.general[Register::Block as usize], op.next_offset()),
        flags: core.flags.get(),
    }
}

fn int(core: &mut Core, op: &Op) -> Step {
    software_interrupt(core, op, op.immediate as u8)
}

fn int3(core: &mut Core, op: &Op) -> Step {
    software_interrupt(core, op, 3)
}

fn into(core: &mut Core, op: &Op) -> Step {
    if core.flags.overflow() {
        software_interrupt(core, op, 4)
    } else {
        Ok(())
    }
}

/// INT1: a #DB that leaves DR6 alone and that no gate's DPL forbids; as external as a debug exception.
fn int1(core: &mut Core, op: &Op) -> Step {
    let event = software_event(core, op, 1);
    core.deliver_external(&event)?;
    core.debug[7] &= !GENERAL_DETECT;
    core.untraced = true;
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Int_imm8 => int,
        Code::Int3 => int3,
        Code::Into => into,
        Code::Int1 => int1,
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "interrupt_tests.rs"]
mod tests;
