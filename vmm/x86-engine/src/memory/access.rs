//! Loads and stores of instructions: the fast path, and segmentation.

use super::{
    Access,
    ram::{PAGE_BYTES, Plain},
};
use crate::{
    cpu::{CodeSize, Core, Halt, Segment, SegmentName, Step},
    decode::op::Op,
    exception::Exception,
};

impl Core {
    /// The offset part of an operation's memory operand, before segmentation.
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        self.general[op.base as usize]
            .wrapping_add(self.general[op.index as usize].wrapping_shl(u32::from(op.scale)))
            .wrapping_add(op.displacement as u64)
    }

    /// The offset as LEA gives it: cut to the address size.
    #[inline(always)]
    pub(crate) fn effective_address(&self, op: &Op) -> u64 {
        self.offset(op) & op.address_mask()
    }

    /// The linear address of an operation's memory operand of `bytes` bytes.
    #[inline(always)]
    pub(crate) fn linear(&mut self, op: &Op, bytes: u64, access: Access) -> Result<u64, Halt> {
        if op.narrow {
            return self.narrow_linear(op, bytes, access);
        }
        Ok(self
            .offset(op)
            .wrapping_add(self.long_bases[op.segment as usize]))
    }

    /// Outside of 64-bit mode, and with an address-size prefix in it.
    #[cold]
    #[inline(never)]
    fn narrow_linear(&mut self, op: &Op, bytes: u64, access: Access) -> Result<u64, Halt> {
        let offset = self.effective_address(op);
        self.segmented(op.segment, offset, bytes, access)
    }

    /// From a logical to a linear address, with the segment's checks (SDM 3A 5.3 and 5.4). In 64-bit mode only FS and GS
    /// have bases and nothing has limits.
    pub(crate) fn segmented(
        &mut self,
        name: SegmentName,
        offset: u64,
        bytes: u64,
        access: Access,
    ) -> Result<u64, Halt> {
        if self.code_size == CodeSize::Bits64 {
            return Ok(offset.wrapping_add(self.long_bases[name as usize]));
        }
        let segment = self.segment(name);
        if !segment_allows(&segment, offset, bytes, access) {
            let exception = if name == SegmentName::Ss {
                Exception::stack_fault(0)
            } else {
                Exception::general_protection(0)
            };
            return Err(self.raise(exception));
        }
        Ok(segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    /// The linear address of an operation's memory operand in 64-bit mode.
    #[inline(always)]
    pub(crate) fn flat_linear(&self, op: &Op) -> u64 {
        self.offset(op)
            .wrapping_add(self.long_bases[op.segment as usize])
    }

    /// Loads an operation's memory operand, if that takes no more than a look into the translation cache. Handlers try this
    /// first and leave all the rest to a second, cold function: so the first calls nothing and needs no stack frame.
    #[inline(always)]
    pub(crate) fn load_quickly<T: Plain>(&self, op: &Op) -> Option<T> {
        if op.narrow {
            return None;
        }
        let linear = self.flat_linear(op);
        let page = self.tlb.readable(linear, T::BYTES)?;
        Some(page.load(linear % PAGE_BYTES))
    }

    /// The same for an operand that will be stored to.
    #[inline(always)]
    pub(crate) fn load_to_modify_quickly<T: Plain>(&self, op: &Op) -> Option<T> {
        if op.narrow {
            return None;
        }
        let linear = self.flat_linear(op);
        let page = self.tlb.writable(linear, T::BYTES)?;
        Some(page.load(linear % PAGE_BYTES))
    }

    /// Stores to an operation's memory operand, if that takes no more than a look; returns whether it did.
    #[inline(always)]
    pub(crate) fn store_quickly<T: Plain>(&self, op: &Op, value: T) -> bool {
        if op.narrow {
            return false;
        }
        let linear = self.flat_linear(op);
        let Some(page) = self.tlb.writable(linear, T::BYTES) else {
            return false;
        };
        page.store(linear % PAGE_BYTES, value);
        true
    }

    /// Loads an operation's memory operand.
    #[inline(always)]
    pub(crate) fn load<T: Plain>(&mut self, op: &Op) -> Result<T, Halt> {
        let linear = self.linear(op, T::BYTES, Access::Read)?;
        self.load_linear(linear, op.segment)
    }

    /// Stores to an operation's memory operand.
    #[inline(always)]
    pub(crate) fn store<T: Plain>(&mut self, op: &Op, value: T) -> Step {
        let linear = self.linear(op, T::BYTES, Access::Write)?;
        self.store_linear(linear, op.segment, value)
    }

    /// Loads an operand that will be stored to: a page fault reports a write, and the store that follows cannot fault.
    #[inline(always)]
    pub(crate) fn load_to_modify<T: Plain>(&mut self, op: &Op) -> Result<T, Halt> {
        let linear = self.linear(op, T::BYTES, Access::Write)?;
        if let Some(page) = self.tlb.writable(linear, T::BYTES) {
            return Ok(page.load(linear % PAGE_BYTES));
        }
        self.load_to_modify_slow(linear, op.segment)
    }

    /// Loads from a logical address that is not an operation's operand: strings, stacks.
    #[inline(always)]
    pub(crate) fn load_at<T: Plain>(
        &mut self,
        segment: SegmentName,
        offset: u64,
    ) -> Result<T, Halt> {
        let linear = self.segmented(segment, offset, T::BYTES, Access::Read)?;
        self.load_linear(linear, segment)
    }

    /// Stores to a logical address that is not an operation's operand.
    #[inline(always)]
    pub(crate) fn store_at<T: Plain>(
        &mut self,
        segment: SegmentName,
        offset: u64,
        value: T,
    ) -> Step {
        let linear = self.segmented(segment, offset, T::BYTES, Access::Write)?;
        self.store_linear(linear, segment, value)
    }

    /// Loads from a linear address at the current privilege. `segment` chooses between #SS and #GP for a non-canonical one.
    #[inline(always)]
    pub(crate) fn load_linear<T: Plain>(
        &mut self,
        linear: u64,
        segment: SegmentName,
    ) -> Result<T, Halt> {
        if let Some(page) = self.tlb.readable(linear, T::BYTES) {
            return Ok(page.load(linear % PAGE_BYTES));
        }
        self.load_slow(linear, segment)
    }

    /// Stores to a linear address at the current privilege.
    #[inline(always)]
    pub(crate) fn store_linear<T: Plain>(
        &mut self,
        linear: u64,
        segment: SegmentName,
        value: T,
    ) -> Step {
        if let Some(page) = self.tlb.writable(linear, T::BYTES) {
            page.store(linear % PAGE_BYTES, value);
            return Ok(());
        }
        self.store_slow(linear, segment, value)
    }
}

/// Type, limit and null checks.
pub(crate) fn segment_allows(segment: &Segment, offset: u64, bytes: u64, access: Access) -> bool {
    // A null selector in DS to GS leaves a segment that is not present.
    if !segment.present() {
        return false;
    }
    let is_code = segment.has(Segment::CODE);
    let readable_or_writable = segment.has(Segment::READABLE_OR_WRITABLE);
    let allowed = match access {
        Access::Read => !is_code || readable_or_writable,
        Access::Write => !is_code && readable_or_writable,
        Access::Fetch => is_code,
    };
    let last = offset.wrapping_add(bytes - 1);
    let limit = u64::from(segment.limit);
    let inside = if !is_code && segment.has(Segment::CONFORMING_OR_DOWN) {
        let top = if segment.default_big() {
            0xFFFF_FFFF
        } else {
            0xFFFF
        };
        offset > limit && last <= top
    } else {
        last <= limit
    };
    allowed && inside && last >= offset
}
