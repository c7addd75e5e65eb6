//! What transfers of control between segments and privileges have in common: interrupts, returns, far calls and jumps.
//!
//! Checks come first and change nothing but accessed bits; the functions that change CS, SS and the data segments cannot fail.

use super::descriptor::{error_code, is_null, rpl};
use crate::{
    cpu::{Core, EPOCH, Halt, Segment, SegmentName, Step},
    exception::Exception,
    memory::slow::is_canonical,
};

/// TSS: the stacks of CPL 0 to 2 begin here (SDM 3A figures 7-2 and 7-11).
const TSS_STACKS: u32 = 4;
/// Of a 16-bit TSS (SDM 3A figure 7-10).
const TSS_16_STACKS: u32 = 2;
/// 64-bit TSS: the interrupt stack table's first entry.
const TSS_STACK_TABLE: u32 = 36;

impl Core {
    /// Sets CS. [`Self::update_mode`] is the caller's to call, after SS.
    ///
    /// Blocks are remembered by their offset in the code segment, so a segment that lies elsewhere makes them useless.
    pub(crate) fn set_code_segment(&mut self, segment: Segment) {
        let before = self.segment(SegmentName::Cs);
        if (before.base, before.limit) != (segment.base, segment.limit) {
            self.epoch += EPOCH;
        }
        self.segments[SegmentName::Cs as usize] = segment;
    }

    /// #GP(0) unless the instruction pointer lies in the code segment: below its limit, or canonical in 64-bit mode.
    pub(crate) fn check_entry(&mut self, code: &Segment, rip: u64) -> Step {
        let valid = if self.long_mode() && code.long() {
            is_canonical(rip)
        } else {
            rip <= u64::from(code.limit)
        };
        if valid {
            Ok(())
        } else {
            Err(self.general_protection())
        }
    }

    /// The code segment that a gate leads to and the privilege that it runs at (SDM 3A 5.8.4 and 6.12.1).
    pub(crate) fn gate_target(&mut self, selector: u16) -> Result<(Segment, u8), Halt> {
        if is_null(selector) {
            return Err(self.general_protection());
        }
        let mut descriptor = self.descriptor(selector, Exception::general_protection)?;
        if !descriptor.is_code() || descriptor.dpl() > self.cpl {
            return self.bad_selector(selector);
        }
        let segment = descriptor.segment(selector);
        if self.long_mode() && (!segment.long() || segment.default_big()) {
            return self.bad_selector(selector);
        }
        if !descriptor.present() {
            return self.absent(selector);
        }
        self.mark_accessed(&mut descriptor)?;
        let cpl = if descriptor.is_conforming_code() {
            self.cpl
        } else {
            descriptor.dpl()
        };
        let segment = Segment {
            selector: selector & !3 | u16::from(cpl),
            ..descriptor.segment(selector)
        };
        Ok((segment, cpl))
    }

    /// The code segment that a return goes back to (SDM 2A, IRET and RET).
    pub(crate) fn return_target(&mut self, selector: u16) -> Result<Segment, Halt> {
        if is_null(selector) {
            return Err(self.general_protection());
        }
        let mut descriptor = self.descriptor(selector, Exception::general_protection)?;
        let target = rpl(selector);
        let privilege_fits = if descriptor.is_conforming_code() {
            descriptor.dpl() <= target
        } else {
            descriptor.dpl() == target
        };
        let segment = descriptor.segment(selector);
        let both_sizes = self.long_mode() && segment.long() && segment.default_big();
        if !descriptor.is_code() || target < self.cpl || !privilege_fits || both_sizes {
            return self.bad_selector(selector);
        }
        if !descriptor.present() {
            return self.absent(selector);
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// The stack segment that a return goes back to, along with code at privilege `cpl`. A null one is for 64-bit code outside of CPL 3.
    pub(crate) fn return_stack(
        &mut self,
        selector: u16,
        cpl: u8,
        to_64_bit: bool,
    ) -> Result<Segment, Halt> {
        if is_null(selector) {
            if to_64_bit && cpl != 3 && rpl(selector) == cpl {
                return Ok(null_stack(selector, cpl));
            }
            return Err(self.general_protection());
        }
        self.stack_segment(selector, cpl, Exception::general_protection)
    }

    /// A stack segment for privilege `cpl` by a selector that is not null; what is wrong with it is an exception of the kind `wrong`, or #SS if it is
    /// not present.
    pub(crate) fn stack_segment(
        &mut self,
        selector: u16,
        cpl: u8,
        wrong: fn(u32) -> Exception,
    ) -> Result<Segment, Halt> {
        let mut descriptor = self.descriptor(selector, wrong)?;
        if rpl(selector) != cpl || descriptor.dpl() != cpl || !descriptor.is_writable() {
            return Err(self.raise(wrong(error_code(selector))));
        }
        if !descriptor.present() {
            return Err(self.raise(Exception::stack_fault(error_code(selector))));
        }
        self.mark_accessed(&mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// After a return to a less privileged level: data segments that it may not use become null (SDM 3A 5.8.6). Their bases stay, as those of
    /// segments that are null already do: in 64-bit mode they may have come from a model-specific register.
    pub(crate) fn drop_inner_segments(&mut self) {
        for name in [
            SegmentName::Es,
            SegmentName::Ds,
            SegmentName::Fs,
            SegmentName::Gs,
        ] {
            let cpl = self.cpl;
            let segment = &mut self.segments[name as usize];
            let conforming = segment.has(Segment::CODE_OR_DATA)
                && segment.has(Segment::CODE)
                && segment.has(Segment::CONFORMING_OR_DOWN);
            if segment.dpl() < cpl && !conforming {
                segment.selector = 0;
                segment.access = 0;
            }
        }
    }

    /// A 64-bit TSS's stack pointer for privilege `cpl`.
    pub(crate) fn long_task_stack(&mut self, cpl: u8) -> Result<u64, Halt> {
        self.task_word(TSS_STACKS + 8 * u32::from(cpl))
    }

    /// Entry `index`, 1 to 7, of a 64-bit TSS's interrupt stack table.
    pub(crate) fn interrupt_stack(&mut self, index: u64) -> Result<u64, Halt> {
        self.task_word(TSS_STACK_TABLE + 8 * (index as u32 - 1))
    }

    fn task_word(&mut self, offset: u32) -> Result<u64, Halt> {
        self.check_task_limit(offset + 7)?;
        self.load_system(self.tr.base.wrapping_add(u64::from(offset)))
    }

    fn check_task_limit(&mut self, last: u32) -> Step {
        if self.tr.present() && last <= self.tr.limit {
            return Ok(());
        }
        let code = error_code(self.tr.selector);
        Err(self.raise(Exception::invalid_tss(code)))
    }

    /// SS and ESP for privilege `cpl` out of a 16- or 32-bit TSS, checked.
    pub(crate) fn task_stack(&mut self, cpl: u8) -> Result<(Segment, u64), Halt> {
        let narrow = self.tr.kind() <= super::descriptor::TSS_16_BUSY;
        let (offset, bytes) = if narrow {
            (TSS_16_STACKS + 4 * u32::from(cpl), 2)
        } else {
            (TSS_STACKS + 8 * u32::from(cpl), 4)
        };
        self.check_task_limit(offset + bytes + 1)?;
        let address = self.tr.base.wrapping_add(u64::from(offset));
        let pointer = if narrow {
            u64::from(self.load_system::<u16>(address)?)
        } else {
            u64::from(self.load_system::<u32>(address)?)
        };
        let selector: u16 = self.load_system(address.wrapping_add(u64::from(bytes)))?;
        if is_null(selector) {
            return Err(self.raise(Exception::invalid_tss(error_code(selector))));
        }
        let segment = self.stack_segment(selector, cpl, Exception::invalid_tss)?;
        Ok((segment, pointer))
    }
}

/// SS as 64-bit mode has it after an interrupt from a less privileged level: null, though it tells the CPL.
pub(crate) fn null_stack(selector: u16, cpl: u8) -> Segment {
    Segment {
        selector,
        ..Segment::default()
    }
    .with_dpl(cpl)
}
