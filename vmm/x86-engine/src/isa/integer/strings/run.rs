//! Many elements of a repeated MOVS, STOS, CMPS or SCAS at once.
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

/// Where RSI points to.
fn source(core: &Core, op: &Op) -> (SegmentName, u64) {
    let offset = core.general[Register::Rsi as usize] & op.address_mask();
    (op.segment, offset)
}

/// Where RDI points to.
fn target(core: &Core, op: &Op) -> (SegmentName, u64) {
    let offset = core.general[Register::Rdi as usize] & op.address_mask();
    (SegmentName::Es, offset)
}

/// MOVS of elements of `bytes` bytes; returns how many were moved.
pub(crate) fn move_run(core: &mut Core, op: &Op, bytes: u64, limit: u64) -> u64 {
    if !can_run(core) {
        return 0;
    }
    let (from, to) = (source(core, op), target(core, op));
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
    let to = target(core, op);
    let Some(to) = range(core, op, to, bytes, limit, Access::Write) else {
        return 0;
    };
    let value: T = core.get(Register::Rax);
    core.ram.fill(to.physical, value, to.elements);
    advance(core, op, Register::Rdi, to.elements * bytes);
    to.elements
}

/// CMPS; returns how many elements were compared.
pub(crate) fn compare_run<T: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
    if !can_run(core) {
        return 0;
    }
    let bytes = <T as Integer>::BYTES;
    let (first, second) = (source(core, op), target(core, op));
    let Some(first) = range(core, op, first, bytes, limit, Access::Read) else {
        return 0;
    };
    let Some(second) = range(core, op, second, bytes, first.elements, Access::Read) else {
        return 0;
    };
    let compared = compare_elements::<T, WHILE>(core, second.elements, |core, index| {
        let offset = index * bytes;
        (
            core.ram.load(first.physical + offset),
            core.ram.load(second.physical + offset),
        )
    });
    advance(core, op, Register::Rsi, compared * bytes);
    advance(core, op, Register::Rdi, compared * bytes);
    compared
}

/// SCAS; returns how many elements were compared.
pub(crate) fn scan_run<T: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
    if !can_run(core) {
        return 0;
    }
    let bytes = <T as Integer>::BYTES;
    let place = target(core, op);
    let Some(place) = range(core, op, place, bytes, limit, Access::Read) else {
        return 0;
    };
    let value: T = core.get(Register::Rax);
    let compared = compare_elements::<T, WHILE>(core, place.elements, |core, index| {
        (value, core.ram.load(place.physical + index * bytes))
    });
    advance(core, op, Register::Rdi, compared * bytes);
    compared
}

/// Compares up to `elements` pairs, at least one, up to the first that ends the repetition; the flags are those of the last.
#[inline(always)]
fn compare_elements<T: Width, const WHILE: u8>(
    core: &mut Core,
    elements: u64,
    pair: impl Fn(&Core, u64) -> (T, T),
) -> u64 {
    let ends = |&index: &u64| {
        let (a, b) = pair(core, index);
        u8::from(a == b) != WHILE
    };
    let last = (0..elements).find(ends).unwrap_or(elements - 1);
    let (a, b) = pair(core, last);
    core.flags.after_sub(a, b, a.sub(b));
    last + 1
}
