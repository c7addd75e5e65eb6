//! The vCPU's first registers, whatever mode it begins in, and the descriptor table that they stand on.
//!
//! In: a code and a task segment. Out: both and flat data segments, as registers and as a table in guest memory. What
//! always holds: the hidden part of each segment register is what the table's entry says, so that a guest that
//! loads the selector again changes nothing.

use crate::machine::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::BootError;

const GDT: u64 = 0x1000;
/// A task state segment of zeros, for the modes that want one in memory of its own.
pub const TSS: u64 = 0x1080;
/// A small stack, for guests that bring none.
pub const STACK_TOP: u64 = 0x8FF0;

const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_TSS: u16 = 0x20;
/// The processor's minimum for a TSS (SDM 3A 8.2.1; 8.7 for 64-bit mode), less one.
const TSS_LIMIT: u32 = 0x67;

// CR0's bits: SDM 3A 2.5.
/// Protected mode.
pub const CR0_PE: u64 = 1 << 0;
/// Always 1 on processors with a built-in x87.
pub const CR0_ET: u64 = 1 << 4;
/// RFLAGS with nothing but the bit that always reads as 1: interrupts off.
pub const RFLAGS_RESERVED: u64 = 1 << 1;

/// A segment register, visible part and hidden part (SDM 3A 3.4.5), field by field as `kvm_segment` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Linear address of its first byte.
    pub base: u64,
    /// Offset of its last byte, in bytes.
    pub limit: u32,
    /// The descriptor's four type bits.
    pub type_: u8,
    /// Descriptor privilege level.
    pub dpl: u8,
    /// P.
    pub present: bool,
    /// S: code or data; clear for a system segment.
    pub code_or_data: bool,
    /// L: 64-bit code.
    pub long: bool,
    /// D/B: 32-bit default size.
    pub default_32: bool,
    /// G: the descriptor counts its limit in pages.
    pub granularity: bool,
}

impl Segment {
    /// Flat 64-bit code: execute, read, already accessed.
    pub const CODE_64: Self = Self {
        long: true,
        default_32: false,
        ..Self::CODE_32
    };
    /// Flat 32-bit code: execute, read, already accessed.
    pub const CODE_32: Self = Self {
        selector: BOOT_CS,
        type_: 0xB,
        ..Self::DATA
    };
    /// Flat data: read, write, already accessed.
    pub const DATA: Self = Self {
        selector: BOOT_DS,
        base: 0,
        limit: u32::MAX,
        type_: 0x3,
        dpl: 0,
        present: true,
        code_or_data: true,
        long: false,
        default_32: true,
        granularity: true,
    };

    /// A busy TSS at `base`, which must be below 4 GiB: VM entry asks for one (SDM 3C 26.3.1.2).
    pub const fn task(base: u64) -> Self {
        Self {
            selector: BOOT_TSS,
            base,
            limit: TSS_LIMIT,
            type_: 0xB,
            code_or_data: false,
            default_32: false,
            granularity: false,
            ..Self::DATA
        }
    }

    /// The eight bytes that describe it in the GDT (SDM 3A, figure 3-8). A base above 4 GiB does not fit.
    fn descriptor(&self) -> u64 {
        let limit = u64::from(if self.granularity {
            self.limit >> 12
        } else {
            self.limit
        });
        let bit = |value: bool, at: u32| u64::from(value) << at;
        (limit & 0xFFFF)
            | (self.base & 0xFF_FFFF) << 16
            | u64::from(self.type_) << 40
            | bit(self.code_or_data, 44)
            | u64::from(self.dpl) << 45
            | bit(self.present, 47)
            | (limit >> 16 & 0xF) << 48
            | bit(self.long, 53)
            | bit(self.default_32, 54)
            | bit(self.granularity, 55)
            | (self.base >> 24 & 0xFF) << 56
    }
}

/// The vCPU's first registers, in plain values for any engine. All other registers are 0, LDT included;
/// DS, ES, FS, GS and SS are all [`Self::data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootState {
    /// The kernel's entry point.
    pub rip: u64,
    /// Linux's 64-bit boot protocol: the zero page.
    pub rsi: u64,
    /// PVH: the start info.
    pub rbx: u64,
    /// A small stack, for guests that bring none.
    pub rsp: u64,
    /// Interrupts off.
    pub rflags: u64,
    /// Protected mode, with or without paging.
    pub cr0: u64,
    /// The page tables, if paging is on.
    pub cr3: u64,
    /// PAE, if paging is on.
    pub cr4: u64,
    /// Long mode, enabled and active; or 0.
    pub efer: u64,
    /// Global descriptor table.
    pub gdt_base: u64,
    /// Offset of its last byte.
    pub gdt_limit: u16,
    /// Interrupt descriptor table.
    pub idt_base: u64,
    /// Empty: an exception before the guest has its own table is a triple fault.
    pub idt_limit: u16,
    /// CS. Its L bit says whether the guest begins in 64-bit or in 32-bit mode.
    pub code: Segment,
    /// DS, ES, FS, GS and SS.
    pub data: Segment,
    /// TR.
    pub tss: Segment,
}

impl BootState {
    /// Protected mode without paging, about to execute `rip` in `code` with the task segment `tss`. Writes the
    /// descriptor table into `memory`.
    pub fn new(
        memory: &GuestMemory,
        rip: u64,
        code: Segment,
        tss: Segment,
    ) -> Result<Self, BootError> {
        Ok(Self {
            rip,
            rsi: 0,
            rbx: 0,
            rsp: STACK_TOP,
            rflags: RFLAGS_RESERVED,
            cr0: CR0_PE | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            gdt_base: GDT,
            gdt_limit: write_gdt(memory, &code, &tss)?,
            idt_base: 0,
            idt_limit: 0,
            code,
            data: Segment::DATA,
            tss,
        })
    }
}

/// The limit of the table that it wrote.
fn write_gdt(memory: &GuestMemory, code: &Segment, tss: &Segment) -> Result<u16, BootError> {
    // Two null entries bring the code segment to 0x10. A 64-bit TSS descriptor takes two entries; the upper half
    // of its base is 0.
    let table = [
        0,
        0,
        code.descriptor(),
        Segment::DATA.descriptor(),
        tss.descriptor(),
        0,
    ];
    write_table(memory, GDT, &table, "the descriptor table")?;
    Ok(0x2F)
}

/// Writes 64-bit entries one after the other.
pub fn write_table(
    memory: &GuestMemory,
    at: u64,
    entries: &[u64],
    what: &'static str,
) -> Result<(), BootError> {
    let bytes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    memory
        .write_slice(&bytes, GuestAddress(at))
        .map_err(|source| BootError::Write { what, source })
}
