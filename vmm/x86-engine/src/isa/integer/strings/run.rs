//! Many elements of a repeated MOVS or STOS at once.
//!
//! A run lies within one page of each operand, upwards, in plain memory (no device, no decoded code, no page tables, no watchpoint), and begins right after an
//! element that was done singly in the same pages. So both translations have their accessed and dirty bits, nothing can fault, nothing else changes,
//! and how long a run is cannot be seen.

use crate::{
    cpu::{Core, Register, SegmentName},
    decode::op::Op,
    flags::DF,
    integer::Integer,
    isa::operand::Width,
    memory::{Access, ram::PAGE_BYTES},
};

/// Elements of `bytes` bytes from a guest-physical address on.
struct Range {
    physical: u64,
    elements: u64,
}

/// What of the next `limit` elements at an offset a run can do.
fn range(
    core: &mut Core,
    op: &Op,
    (segment, offset): (SegmentName, u64),
    bytes: u64,
    limit: u64,
    access: Access,
) -> Option<Range> {
    let linear = quietly(core, |core| {
        core.segmented(segment, offset, bytes, access).ok()
    })?;
    let within = linear % PAGE_BYTES;
    if within == 0 {
        // The element before was in another page.
        return None;
    }
    // Offsets do not wrap within a run.
    let elements = limit
        .min((op.address_mask() - offset) / bytes)
        .min((PAGE_BYTES - within) / bytes);
    if elements == 0 {
        return None;
    }
    let physical = quietly(core, |core| {
        core.segmented(segment, offset, elements * bytes, access)
            .ok()?;
        core.page_of(linear, segment, access).ok()
    })?;
    let plain =
        core.ram.has_page(physical) && (access == Access::Read || core.ram.marks(physical) == 0);
    plain.then_some(Range { physical, elements })
}

/// Takes back an exception: the element that deserves it will raise it again, singly.
fn quietly<R>(core: &mut Core, work: impl FnOnce(&mut Core) -> Option<R>) -> Option<R> {
    let result = work(core);
    if result.is_none() {
        core.pending = None;
    }
    result
}

fn can_run(core: &Core) -> bool {
    core.flags.system(DF) == 0 && !core.watching
}

/// Moves an index register on by a run, within its address size.
fn advance(core: &mut Core, op: &Op, register: Register, bytes: u64) {
    let next = core.general[register as usize].wrapping_add(bytes);
    match op.address_bits {
        16 => core.put(register, next as u16),
        32 => core.put(register, next as u32),
        _ => core.put(register, next),
    }
}

/// MOVS of elements of `bytes` bytes; returns how many were moved.
pub(crate) fn move_run(core: &mut Core, op: &Op, bytes: u64, limit: u64) -> u64 {
    if !can_run(core) {
        return 0;
    }
    let mask = op.address_mask();
    let from = (op.segment, core.general[Register::Rsi as usize] & mask);
    let to = (SegmentName::Es, core.general[Register::Rdi as usize] & mask);
    let Some(from) = range(core, op, from, bytes, limit, Access::Read) else {
        return 0;
    };
    let Some(to) = range(core, op, to, bytes, from.elements, Access::Write) else {
        return 0;
    };
    let length = to.elements * bytes;
    let distance = to.physical.wrapping_sub(from.physical);
    // A target that begins within the source repeats what lies before it: pieces no longer than the distance do not overlap.
    let piece = if distance == 0 || distance >= length {
        length
    } else {
        distance / bytes * bytes
    };
    if piece == 0 {
        return 0;
    }
    let mut done = 0;
    while done < length {
        let next = piece.min(length - done);
        core.ram
            .copy(from.physical + done, to.physical + done, next);
        done += next;
    }
    advance(core, op, Register::Rsi, length);
    advance(core, op, Register::Rdi, length);
    to.elements
}

/// STOS; returns how many elements were stored.
pub(crate) fn store_run<T: Width>(core: &mut Core, op: &Op, limit: u64) -> u64 {
    if !can_run(core) {
        return 0;
    }
    let bytes = <T as Integer>::BYTES;
    let offset = core.general[Register::Rdi as usize] & op.address_mask();
    let to = (SegmentName::Es, offset);
    let Some(to) = range(core, op, to, bytes, limit, Access::Write) else {
        return 0;
    };
    let value: T = core.get(Register::Rax);
    core.ram.fill(to.physical, value, to.elements);
    advance(core, op, Register::Rdi, to.elements * bytes);
    to.elements
}
