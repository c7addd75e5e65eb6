//! PUSH and POP of general registers, memory and immediates; PUSHA, POPA, ENTER, LEAVE.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{by_width, is_immediate};
use crate::{
    cpu::{CodeSize, Core, Halt, Register, SegmentName, Step},
    decode::op::{Handler, Op, Selected},
    integer::Integer,
    isa::operand::{Immediate, Memory, R1, Source, Width},
    memory::ram::PAGE_BYTES,
};

/// Pushes a value.
#[inline(always)]
pub(crate) fn push<T: Width>(core: &mut Core, value: T) -> Step {
    if T::BITS == 64 {
        // Only 64-bit mode has pushes of this width: no segment, no mask.
        let top = core.general[Register::Rsp as usize].wrapping_sub(8);
        if let Some(page) = core.tlb.writable(top, 8) {
            page.store(top % PAGE_BYTES, value);
            core.general[Register::Rsp as usize] = top;
            return Ok(());
        }
    }
    push_slowly(core, value)
}

#[inline(never)]
fn push_slowly<T: Width>(core: &mut Core, value: T) -> Step {
    let top = core.stack_pointer().wrapping_sub(<T as Integer>::BYTES) & core.stack_mask;
    core.store_at(SegmentName::Ss, top, value)?;
    core.set_stack_pointer(top);
    Ok(())
}

/// Pops a value.
#[inline(always)]
pub(crate) fn pop<T: Width>(core: &mut Core) -> Result<T, Halt> {
    let value = top_of_stack(core, 0)?;
    core.drop_from_stack(<T as Integer>::BYTES);
    Ok(value)
}

/// Reads what lies `above` bytes above the top of the stack.
#[inline(always)]
pub(crate) fn top_of_stack<T: Width>(core: &mut Core, above: u64) -> Result<T, Halt> {
    if T::BITS == 64 {
        let top = core.general[Register::Rsp as usize].wrapping_add(above);
        return core.load_linear(top, SegmentName::Ss);
    }
    let top = core.stack_pointer().wrapping_add(above) & core.stack_mask;
    core.load_at(SegmentName::Ss, top)
}

/// Reads what lies on top of the stack, if it is 64 bits wide and that takes no more than a look into the translation cache.
#[inline(always)]
pub(crate) fn top_of_stack_quickly<T: Width>(core: &Core) -> Option<T> {
    if T::BITS != 64 {
        return None;
    }
    let top = core.general[Register::Rsp as usize];
    let page = core.tlb.readable(top, 8)?;
    Some(page.load(top % PAGE_BYTES))
}

impl Core {
    /// SP, ESP or RSP, as the stack segment has it.
    #[inline(always)]
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.general[Register::Rsp as usize] & self.stack_mask
    }

    /// Sets SP, ESP or RSP.
    #[inline(always)]
    pub(crate) fn set_stack_pointer(&mut self, value: u64) {
        let slot = &mut self.general[Register::Rsp as usize];
        *slot = match self.stack_mask {
            0xFFFF => *slot & !0xFFFF | value & 0xFFFF,
            mask => value & mask,
        };
    }

    /// Adds to SP, ESP or RSP.
    #[inline(always)]
    pub(crate) fn drop_from_stack(&mut self, bytes: u64) {
        let top = self.stack_pointer().wrapping_add(bytes);
        self.set_stack_pointer(top);
    }
}

fn push_operand<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    match S::read_quickly(core, op) {
        Some(value) => push(core, value),
        None => push_operand_slowly::<T, S>(core, op),
    }
}

#[cold]
#[inline(never)]
fn push_operand_slowly<T: Width, S: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let value = S::read(core, op)?;
    push(core, value)
}

fn pop_register<T: Width>(core: &mut Core, op: &Op) -> Step {
    if let Some(value) = top_of_stack_quickly::<T>(core) {
        core.general[Register::Rsp as usize] = core.general[Register::Rsp as usize].wrapping_add(8);
        core.put(op.r1, value);
        return Ok(());
    }
    pop_register_slowly::<T>(core, op)
}

#[cold]
#[inline(never)]
fn pop_register_slowly<T: Width>(core: &mut Core, op: &Op) -> Step {
    let value: T = pop(core)?;
    core.put(op.r1, value);
    Ok(())
}

/// An address with RSP in it is computed after RSP has moved (SDM 2B, POP).
fn pop_memory<T: Width>(core: &mut Core, op: &Op) -> Step {
    let before = core.general[Register::Rsp as usize];
    let value: T = pop(core)?;
    core.store(op, value).inspect_err(|_| {
        core.general[Register::Rsp as usize] = before;
    })
}

/// The stack pointer moves once all eight are stored.
fn push_all<T: Width>(core: &mut Core, _op: &Op) -> Step {
    let top = core.stack_pointer();
    let below = |count: u64| top.wrapping_sub(count * <T as Integer>::BYTES) & core.stack_mask;
    let addresses = [1, 2, 3, 4, 5, 6, 7, 8].map(below);
    for (number, address) in addresses.into_iter().enumerate() {
        let value: T = core.get(Register::numbered(number));
        core.store_at(SegmentName::Ss, address, value)?;
    }
    core.set_stack_pointer(addresses[7]);
    Ok(())
}

fn pop_all<T: Width>(core: &mut Core, _op: &Op) -> Step {
    let mut values = [T::truncate(0); 8];
    for (index, value) in values.iter_mut().enumerate() {
        *value = top_of_stack(core, index as u64 * <T as Integer>::BYTES)?;
    }
    for (index, value) in values.into_iter().enumerate() {
        let register = Register::numbered(7 - index);
        if register != Register::Rsp {
            core.put(register, value);
        }
    }
    core.drop_from_stack(8 * <T as Integer>::BYTES);
    Ok(())
}

fn leave<T: Width>(core: &mut Core, _op: &Op) -> Step {
    let frame = core.general[Register::Rbp as usize] & core.stack_mask;
    let value: T = core.load_at(SegmentName::Ss, frame)?;
    core.set_stack_pointer(frame.wrapping_add(<T as Integer>::BYTES));
    core.put(Register::Rbp, value);
    Ok(())
}

/// SDM 2A, ENTER. `immediate` is the frame's size, `extra` the nesting level.
fn enter<T: Width>(core: &mut Core, op: &Op) -> Step {
    let level = u64::from(op.extra % 32);
    let mask = core.stack_mask;
    let mut top = core.stack_pointer().wrapping_sub(<T as Integer>::BYTES) & mask;
    let frame = top;
    let caller: T = core.get(Register::Rbp);
    core.store_at(SegmentName::Ss, top, caller)?;
    let mut link = core.general[Register::Rbp as usize] & mask;
    for _ in 1..level {
        link = link.wrapping_sub(<T as Integer>::BYTES) & mask;
        top = top.wrapping_sub(<T as Integer>::BYTES) & mask;
        let value: T = core.load_at(SegmentName::Ss, link)?;
        core.store_at(SegmentName::Ss, top, value)?;
    }
    if level > 0 {
        top = top.wrapping_sub(<T as Integer>::BYTES) & mask;
        core.store_at(SegmentName::Ss, top, T::truncate(frame))?;
    }
    top = top.wrapping_sub(op.immediate & 0xFFFF) & mask;
    // The new frame's top must be writable, though nothing is written.
    let linear = core.segmented(
        SegmentName::Ss,
        top,
        <T as Integer>::BYTES,
        crate::memory::Access::Write,
    )?;
    let bytes = <T as Integer>::BYTES;
    core.check_alignment(linear, bytes, bytes, SegmentName::Ss)?;
    core.probe_write(linear, bytes, SegmentName::Ss)?;
    core.put(Register::Rbp, T::truncate(frame));
    core.set_stack_pointer(top);
    Ok(())
}

/// Finds the handler for an instruction of this family.
pub(crate) fn select(instruction: &Instruction, op: &mut Op, code: CodeSize) -> Option<Selected> {
    let mnemonic = instruction.mnemonic();
    let bytes = operand_bytes(instruction, code);
    let handler: Handler = match mnemonic {
        Mnemonic::Push => push_handler(instruction, op, bytes)?,
        Mnemonic::Pop => match instruction.op0_kind() {
            OpKind::Register if instruction.op0_register().is_gpr() => {
                by_width!(bytes, T => pop_register::<T>)
            }
            OpKind::Memory => by_width!(bytes, T => pop_memory::<T>),
            _ => return None,
        },
        Mnemonic::Pusha => push_all::<u16>,
        Mnemonic::Pushad => push_all::<u32>,
        Mnemonic::Popa => pop_all::<u16>,
        Mnemonic::Popad => pop_all::<u32>,
        Mnemonic::Leave => by_width!(bytes, T => leave::<T>),
        Mnemonic::Enter => by_width!(bytes, T => enter::<T>),
        _ => return None,
    };
    Selected::anywhere(handler)
}

fn push_handler(instruction: &Instruction, op: &mut Op, bytes: usize) -> Option<Handler> {
    Some(match instruction.op0_kind() {
        OpKind::Register if instruction.op0_register().is_gpr() => {
            by_width!(bytes, T => push_operand::<T, R1>)
        }
        OpKind::Memory => by_width!(bytes, T => push_operand::<T, Memory>),
        kind if is_immediate(kind) => {
            // The encodings with 8 bits are sign-extended.
            op.immediate = instruction.immediate(0);
            by_width!(bytes, T => push_operand::<T, Immediate>)
        }
        _ => return None,
    })
}

/// How much these instructions move RSP by for each value.
fn operand_bytes(instruction: &Instruction, code: CodeSize) -> usize {
    let moved = instruction.stack_pointer_increment().unsigned_abs() as usize;
    match instruction.mnemonic() {
        // ENTER's and LEAVE's depend on the operand size alone, which their code tells.
        Mnemonic::Enter | Mnemonic::Leave => match instruction.code() {
            iced_x86::Code::Enterw_imm16_imm8 | iced_x86::Code::Leavew => 2,
            iced_x86::Code::Enterd_imm16_imm8 | iced_x86::Code::Leaved => 4,
            _ => 8,
        },
        _ if moved == 2 => 2,
        _ if code == CodeSize::Bits64 => 8,
        _ => 4,
    }
}
