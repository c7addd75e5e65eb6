//! Stacks that are not the current one yet, and pushes and pops that may still be taken back.
//!
//! What always holds: [`Stack`] moves a pointer of its own. RSP and SS change when the instruction or the delivery that uses it has nothing
//! left that could fail.

use crate::{
    cpu::{CR4_SMAP, Core, Halt, Register, Segment, SegmentName, Step},
    exception::Exception,
    flags,
    integer::Integer,
    memory::{Access, access::segment_allows, tlb},
};

/// A stack to push to or to pop from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    /// SS.
    pub(crate) segment: Segment,
    /// RSP.
    pub(crate) pointer: u64,
    /// The bits of RSP in use.
    mask: u64,
    /// 64-bit mode: neither base nor limit.
    flat: bool,
    /// Error code of the #SS that a push beyond the limit raises.
    fault_code: u32,
    /// Translations of the stack's privilege.
    bank: usize,
}

impl Stack {
    /// The current stack.
    pub(crate) fn current(core: &Core) -> Self {
        Self {
            segment: core.segment(SegmentName::Ss),
            pointer: core.general[Register::Rsp as usize],
            mask: core.stack_mask,
            flat: core.is_64_bit(),
            fault_code: 0,
            bank: core.tlb.selected(),
        }
    }

    /// A 64-bit stack at privilege `cpl`.
    pub(crate) fn flat(core: &Core, segment: Segment, pointer: u64, cpl: u8) -> Self {
        Self {
            segment,
            pointer,
            mask: u64::MAX,
            flat: true,
            fault_code: 0,
            bank: core.stack_bank(cpl),
        }
    }

    /// A stack in a segment, at privilege `cpl`. Beyond its limit is #SS with `fault_code`.
    pub(crate) fn segmented(
        core: &Core,
        segment: Segment,
        pointer: u64,
        cpl: u8,
        fault_code: u32,
    ) -> Self {
        Self {
            segment,
            pointer,
            mask: if segment.default_big() {
                0xFFFF_FFFF
            } else {
                0xFFFF
            },
            flat: false,
            fault_code,
            bank: core.stack_bank(cpl),
        }
    }

    /// RSP after it moved to `pointer`: a 16-bit stack leaves the upper bits alone.
    fn moved(&self, pointer: u64) -> u64 {
        if self.mask == 0xFFFF {
            self.pointer & !0xFFFF | pointer & 0xFFFF
        } else {
            pointer & self.mask
        }
    }

    fn linear(
        &self,
        core: &mut Core,
        pointer: u64,
        bytes: u64,
        access: Access,
    ) -> Result<u64, Halt> {
        let offset = pointer & self.mask;
        if self.flat {
            return Ok(offset);
        }
        if !segment_allows(&self.segment, offset, bytes, access) {
            return Err(core.raise(Exception::stack_fault(self.fault_code)));
        }
        Ok(self.segment.base.wrapping_add(offset) & 0xFFFF_FFFF)
    }

    /// Pushes the low `bytes` bytes of `value`: 2, 4 or 8.
    pub(crate) fn push(&mut self, core: &mut Core, bytes: u64, value: u64) -> Step {
        let pointer = self.moved(self.pointer.wrapping_sub(bytes));
        let linear = self.linear(core, pointer, bytes, Access::Write)?;
        let (bank, before) = (self.bank, core.tlb.selected());
        core.tlb.select(bank);
        let stored = match bytes {
            8 => core.store_linear(linear, SegmentName::Ss, value),
            4 => core.store_linear(linear, SegmentName::Ss, value as u32),
            _ => core.store_linear(linear, SegmentName::Ss, value as u16),
        };
        core.tlb.select(before);
        stored?;
        self.pointer = pointer;
        Ok(())
    }

    /// Reads `bytes` bytes that lie `above` bytes above the top.
    pub(crate) fn peek(&self, core: &mut Core, above: u64, bytes: u64) -> Result<u64, Halt> {
        let linear = self.linear(core, self.pointer.wrapping_add(above), bytes, Access::Read)?;
        let before = core.tlb.selected();
        core.tlb.select(self.bank);
        let loaded = match bytes {
            8 => core.load_linear::<u64>(linear, SegmentName::Ss),
            4 => core
                .load_linear::<u32>(linear, SegmentName::Ss)
                .map(Integer::zero_extend),
            _ => core
                .load_linear::<u16>(linear, SegmentName::Ss)
                .map(Integer::zero_extend),
        };
        core.tlb.select(before);
        loaded
    }

    /// Pops `bytes` bytes.
    pub(crate) fn pop(&mut self, core: &mut Core, bytes: u64) -> Result<u64, Halt> {
        let value = self.peek(core, 0, bytes)?;
        self.skip(bytes);
        Ok(value)
    }

    /// Moves the pointer up.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.pointer = self.moved(self.pointer.wrapping_add(bytes));
    }
}

impl Core {
    /// The translations for a stack at privilege `cpl`: these are explicit accesses, so EFLAGS.AC counts.
    fn stack_bank(&self, cpl: u8) -> usize {
        if cpl == 3 {
            tlb::USER
        } else if self.cr4 & CR4_SMAP != 0 && self.flags.system(flags::AC) == 0 {
            tlb::SUPERVISOR
        } else {
            tlb::SUPERVISOR_ALL
        }
    }
}
