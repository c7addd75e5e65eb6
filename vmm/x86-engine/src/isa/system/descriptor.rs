//! Descriptors and gates, as they lie in the GDT, the LDT and the IDT (SDM 3A 3.4.5, 5.8.3 and 6.14.1).
//!
//! In: selectors. Out: descriptors as values, or the exception that the access to the table raises. Reading changes nothing but
//! page tables' accessed bits; the one write is a descriptor's own accessed bit ([`Core::mark_accessed`]).

use crate::{
    cpu::{Core, Halt, Segment, Step},
    exception::Exception,
};

/// Types of system descriptors: SDM 3A table 3-2.
pub(crate) const TSS_16: u16 = 1;
pub(crate) const LDT: u16 = 2;
pub(crate) const TSS_16_BUSY: u16 = 3;
pub(crate) const CALL_GATE_16: u16 = 4;
pub(crate) const TASK_GATE: u16 = 5;
pub(crate) const INTERRUPT_GATE_16: u16 = 6;
pub(crate) const TRAP_GATE_16: u16 = 7;
/// Also the 64-bit TSS.
pub(crate) const TSS: u16 = 9;
pub(crate) const TSS_BUSY: u16 = 11;
pub(crate) const CALL_GATE: u16 = 12;
pub(crate) const INTERRUPT_GATE: u16 = 14;
pub(crate) const TRAP_GATE: u16 = 15;

/// Selector bit: the descriptor is in the LDT.
pub(crate) const LOCAL: u16 = 1 << 2;

/// An exception that carries a selector in its error code.
pub(crate) type WithSelector = fn(u32) -> Exception;

/// The selector in an exception's error code: without its RPL (SDM 3A 6.13).
pub(crate) fn error_code(selector: u16) -> u32 {
    u32::from(selector & !3)
}

/// Whether a selector is null: 0 to 3.
pub(crate) fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// The requested privilege level of a selector.
pub(crate) fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// A descriptor or a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Linear address of its first byte.
    pub(crate) address: u64,
    /// Its first eight bytes.
    pub(crate) low: u64,
    /// The second eight bytes of a system descriptor in long mode.
    pub(crate) high: u64,
}

impl Descriptor {
    /// The bits of [`Segment::access`].
    pub(crate) fn access(&self) -> u16 {
        (self.low >> 40) as u16 & 0xF0FF
    }

    /// What a segment register's hidden part takes from it.
    pub(crate) fn segment(&self, selector: u16) -> Segment {
        let low = self.low;
        let access = self.access();
        let limit = (low & 0xFFFF | low >> 32 & 0xF_0000) as u32;
        Segment {
            selector,
            base: low >> 16 & 0xFF_FFFF | low >> 32 & 0xFF00_0000 | self.high << 32,
            limit: if access & Segment::GRANULARITY != 0 {
                limit << 12 | 0xFFF
            } else {
                limit
            },
            access,
        }
    }

    /// S is clear: neither code nor data.
    pub(crate) fn is_system(&self) -> bool {
        self.access() & Segment::CODE_OR_DATA == 0
    }

    /// The four type bits.
    pub(crate) fn kind(&self) -> u16 {
        self.access() & 0xF
    }

    /// Code, conforming or not.
    pub(crate) fn is_code(&self) -> bool {
        self.access() & (Segment::CODE_OR_DATA | Segment::CODE)
            == Segment::CODE_OR_DATA | Segment::CODE
    }

    /// Code that runs at the privilege of its caller.
    pub(crate) fn is_conforming_code(&self) -> bool {
        self.is_code() && self.access() & Segment::CONFORMING_OR_DOWN != 0
    }

    /// Data, or code that can be read.
    pub(crate) fn is_readable(&self) -> bool {
        !self.is_system() && (!self.is_code() || self.access() & Segment::READABLE_OR_WRITABLE != 0)
    }

    /// Data that can be written: what a stack needs.
    pub(crate) fn is_writable(&self) -> bool {
        !self.is_system() && !self.is_code() && self.access() & Segment::READABLE_OR_WRITABLE != 0
    }

    /// A 16-byte descriptor whose second half has a type, which must be 0 (SDM 3A 7.2.3 and 5.8.3.1).
    pub(crate) fn is_malformed(&self) -> bool {
        self.high >> 40 & 0x1F != 0
    }

    pub(crate) fn present(&self) -> bool {
        self.access() & Segment::PRESENT != 0
    }

    pub(crate) fn dpl(&self) -> u8 {
        (self.access() >> 5 & 3) as u8
    }

    /// Of a gate: the code segment's selector.
    pub(crate) fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }

    /// Of a gate: the entry point.
    pub(crate) fn gate_offset(&self) -> u64 {
        self.low & 0xFFFF | self.low >> 32 & 0xFFFF_0000 | self.high << 32
    }

    /// Of a 64-bit interrupt or trap gate: the entry of the interrupt stack table, 0 for none.
    pub(crate) fn stack_table_index(&self) -> u64 {
        self.low >> 32 & 7
    }

    /// Of a 16- or 32-bit call gate: how many parameters are copied.
    pub(crate) fn parameters(&self) -> u64 {
        self.low >> 32 & 0x1F
    }
}

impl Core {
    /// The descriptor of a selector that is not null, or `None` if the table has none there.
    pub(crate) fn find_descriptor(&mut self, selector: u16) -> Result<Option<Descriptor>, Halt> {
        let (base, limit) = if selector & LOCAL == 0 {
            (self.gdtr.base, u32::from(self.gdtr.limit))
        } else if self.ldtr.present() {
            (self.ldtr.base, self.ldtr.limit)
        } else {
            return Ok(None);
        };
        let offset = u32::from(selector & !7);
        if offset + 7 > limit {
            return Ok(None);
        }
        let address = self.wrap(base.wrapping_add(u64::from(offset)));
        let low = self.load_system(address)?;
        let mut descriptor = Descriptor {
            address,
            low,
            high: 0,
        };
        if self.long_mode() && descriptor.is_system() {
            if offset + 15 > limit {
                return Ok(None);
            }
            descriptor.high = self.load_system(address.wrapping_add(8))?;
        }
        Ok(Some(descriptor))
    }

    /// The descriptor of a selector that is not null; if the table has none there, `missing` with the selector.
    pub(crate) fn descriptor(
        &mut self,
        selector: u16,
        missing: WithSelector,
    ) -> Result<Descriptor, Halt> {
        match self.find_descriptor(selector)? {
            Some(descriptor) => Ok(descriptor),
            None => Err(self.raise(missing(error_code(selector)))),
        }
    }

    /// Sets a code or data descriptor's accessed bit, as loading it does.
    pub(crate) fn mark_accessed(&mut self, descriptor: &mut Descriptor) -> Step {
        if descriptor.access() & Segment::ACCESSED == 0 {
            descriptor.low |= u64::from(Segment::ACCESSED) << 40;
            self.store_system(
                descriptor.address.wrapping_add(5),
                (descriptor.low >> 40) as u8,
            )?;
        }
        Ok(())
    }

    /// `Err` with #GP and the selector.
    #[cold]
    pub(crate) fn bad_selector<T>(&mut self, selector: u16) -> Result<T, Halt> {
        Err(self.raise(Exception::general_protection(error_code(selector))))
    }

    /// `Err` with #NP and the selector.
    #[cold]
    pub(crate) fn absent<T>(&mut self, selector: u16) -> Result<T, Halt> {
        Err(self.raise(Exception::segment_not_present(error_code(selector))))
    }
}
