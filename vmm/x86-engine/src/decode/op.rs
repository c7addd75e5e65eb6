//! A decoded instruction, ready to run.

use crate::cpu::{Core, Register, SegmentName, Step};

/// Executes one instruction.
pub(crate) type Handler = fn(&mut Core, &Op) -> Step;

/// A decoded instruction.
///
/// It knows nothing of the linear address it was decoded at: RIP-relative operands and branch targets are relative to the block's
/// beginning, since one physical page can be mapped at many addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) run: Handler,
    /// An immediate operand, sign-extended where the instruction does; or a near branch's target, relative to the block.
    pub(crate) immediate: u64,
    /// Of the memory operand.
    pub(crate) displacement: i64,
    /// Of the memory operand; [`Register::Zero`] if it has none.
    pub(crate) base: Register,
    /// Of the memory operand; [`Register::Zero`] if it has none.
    pub(crate) index: Register,
    /// Shift of the index: 0 to 3.
    pub(crate) scale: u8,
    /// Of the memory operand, or of a string instruction's source.
    pub(crate) segment: SegmentName,
    /// The first register operand (general, XMM, MM, ST, segment, control: its number), by position among all operands.
    pub(crate) r1: Register,
    /// The second register operand.
    pub(crate) r2: Register,
    /// Bit 0: `r1` is AH, CH, DH or BH of its register; bit 1: `r2` is.
    pub(crate) high: u8,
    /// Address size of the memory operand, bits: 16, 32 or 64.
    pub(crate) address_bits: u8,
    /// The address must be cut to the address size, and segments checked: everything but 64-bit addresses in 64-bit mode.
    pub(crate) narrow: bool,
    /// Bytes.
    pub(crate) length: u8,
    /// Bytes from the block's beginning to the instruction.
    pub(crate) offset: u16,
    /// What the family of instructions wants to remember besides.
    pub(crate) extra: u16,
}

const _: () = assert!(size_of::<Op>() == 40);

impl Op {
    /// Bytes from the block's beginning to the next instruction.
    #[inline(always)]
    pub(crate) fn next_offset(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }

    /// Cuts an offset to the address size.
    #[inline(always)]
    pub(crate) fn address_mask(&self) -> u64 {
        u64::MAX >> (64 - self.address_bits)
    }
}

/// What a family's `select` found for an instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected {
    pub(crate) run: Handler,
    pub(crate) place: Place,
}

/// Where an instruction can stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere.
    Anywhere,
    /// At the end: it branches, exits, or changes what decoding or the translation of addresses depends on.
    Last,
    /// In a block of its own: repeated string instructions, which look at the budget.
    Alone,
}

impl Selected {
    pub(crate) fn anywhere(run: Handler) -> Option<Self> {
        Some(Self {
            run,
            place: Place::Anywhere,
        })
    }

    pub(crate) fn last(run: Handler) -> Option<Self> {
        Some(Self {
            run,
            place: Place::Last,
        })
    }

    pub(crate) fn alone(run: Handler) -> Option<Self> {
        Some(Self {
            run,
            place: Place::Alone,
        })
    }
}
