//! Operands in memory that are larger than one access.
//!
//! What always holds: an area is known to be accessible before its first byte is stored, so that an instruction that faults has stored nothing,
//! and one that is repeated after an exit to a device stores the same again.

use crate::{
    cpu::{Core, Halt, SegmentName, Step},
    decode::op::Op,
    memory::Access,
};

/// The widest single access, bytes.
const WIDE: usize = 16;
/// All areas are multiples of this.
const NARROW: usize = 2;

/// An operand's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    linear: u64,
    segment: SegmentName,
}

impl Core {
    /// Finds an operand of `bytes` bytes, made of units of `unit` bytes (which #AC is about), that must be a multiple of `alignment` (else #GP)
    /// and readable, or writable.
    pub(super) fn area(
        &mut self,
        op: &Op,
        bytes: u64,
        unit: u64,
        alignment: u64,
        access: Access,
    ) -> Result<Area, Halt> {
        let linear = self.linear(op, bytes, access)?;
        self.check_alignment(linear, bytes, unit, op.segment)?;
        self.check_both_ends(linear, bytes, op.segment)?;
        if !linear.is_multiple_of(alignment) {
            return Err(self.general_protection());
        }
        match access {
            Access::Write => self.probe_write(linear, bytes, op.segment)?,
            Access::Read | Access::Fetch => self.probe_read(linear, bytes, op.segment)?,
        }
        Ok(Area {
            linear,
            segment: op.segment,
        })
    }

    /// Stores `data` at `offset` of an area.
    pub(super) fn store_area(&mut self, area: Area, offset: usize, data: &[u8]) -> Step {
        let (wide, rest) = data.as_chunks::<WIDE>();
        let (narrow, odd) = rest.as_chunks::<NARROW>();
        assert!(odd.is_empty(), "areas have an even size");
        for (index, chunk) in wide.iter().enumerate() {
            let linear = self.within(area, offset + index * WIDE);
            self.store_linear(linear, area.segment, *chunk)?;
        }
        for (index, chunk) in narrow.iter().enumerate() {
            let linear = self.within(area, offset + wide.len() * WIDE + index * NARROW);
            self.store_linear(linear, area.segment, *chunk)?;
        }
        Ok(())
    }

    /// Loads the bytes at `offset` of an area.
    pub(super) fn load_area(&mut self, area: Area, offset: usize, data: &mut [u8]) -> Step {
        let (wide, rest) = data.as_chunks_mut::<WIDE>();
        let wide_bytes = wide.len() * WIDE;
        for (index, chunk) in wide.iter_mut().enumerate() {
            let linear = self.within(area, offset + index * WIDE);
            *chunk = self.load_linear(linear, area.segment)?;
        }
        let (narrow, odd) = rest.as_chunks_mut::<NARROW>();
        assert!(odd.is_empty(), "areas have an even size");
        for (index, chunk) in narrow.iter_mut().enumerate() {
            let linear = self.within(area, offset + wide_bytes + index * NARROW);
            *chunk = self.load_linear(linear, area.segment)?;
        }
        Ok(())
    }

    fn within(&self, area: Area, offset: usize) -> u64 {
        let linear = area.linear.wrapping_add(offset as u64);
        if self.is_64_bit() {
            linear
        } else {
            linear & 0xFFFF_FFFF
        }
    }
}
