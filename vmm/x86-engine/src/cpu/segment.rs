//! Segment registers with their hidden parts (SDM 3A 3.4.3).

use super::Core;

/// A segment register's number, as instructions encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the manual's names")]
pub(crate) enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

impl SegmentName {
    /// How many there are.
    pub(crate) const COUNT: usize = 6;

    /// The one with the hardware's number; DS for numbers that there are none for.
    pub(crate) fn numbered(number: u16) -> Self {
        match number {
            0 => Self::Es,
            1 => Self::Cs,
            2 => Self::Ss,
            4 => Self::Fs,
            5 => Self::Gs,
            _ => Self::Ds,
        }
    }
}

/// A segment register, or LDTR or TR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Linear address of its first byte.
    pub base: u64,
    /// Offset of its last byte, in bytes: the descriptor's granularity is worked in.
    pub limit: u32,
    /// The descriptor's bits 40 to 55 without the limit's: bits 0 to 3 type, 4 S, 5 and 6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G.
    pub access: u16,
}

impl Segment {
    /// Type bits: code rather than data.
    pub(crate) const CODE: u16 = 1 << 3;
    /// Type bits: conforming code, or data that expands down.
    pub(crate) const CONFORMING_OR_DOWN: u16 = 1 << 2;
    /// Type bits: readable code, or writable data.
    pub(crate) const READABLE_OR_WRITABLE: u16 = 1 << 1;
    /// Type bits: accessed.
    pub(crate) const ACCESSED: u16 = 1 << 0;
    /// S: code or data rather than system.
    pub(crate) const CODE_OR_DATA: u16 = 1 << 4;
    /// P.
    pub(crate) const PRESENT: u16 = 1 << 7;
    /// L.
    pub(crate) const LONG: u16 = 1 << 13;
    /// D or B.
    pub(crate) const BIG: u16 = 1 << 14;
    /// G.
    pub(crate) const GRANULARITY: u16 = 1 << 15;

    pub(crate) fn has(&self, bit: u16) -> bool {
        self.access & bit != 0
    }

    pub(crate) fn long(&self) -> bool {
        self.has(Self::LONG)
    }

    pub(crate) fn default_big(&self) -> bool {
        self.has(Self::BIG)
    }

    pub(crate) fn present(&self) -> bool {
        self.has(Self::PRESENT)
    }

    pub(crate) fn dpl(&self) -> u8 {
        (self.access >> 5 & 3) as u8
    }

    pub(crate) fn with_dpl(self, dpl: u8) -> Self {
        Self {
            access: self.access & !(3 << 5) | u16::from(dpl) << 5,
            ..self
        }
    }

    /// The four type bits.
    pub(crate) fn kind(&self) -> u16 {
        self.access & 0xF
    }
}

impl Core {
    #[inline(always)]
    pub(crate) fn segment(&self, name: SegmentName) -> Segment {
        self.segments[name as usize]
    }
}
