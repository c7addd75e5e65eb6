//! The state that the 64-bit boot protocol wants the vCPU in (boot.rst, "64-bit Boot Protocol"):
//! 64-bit mode, paging with the kernel and its parameters mapped one to one, a flat `__BOOT_CS` (0x10) and
//! `__BOOT_DS` (0x18), interrupts off, RSI at the zero page.

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::machine::GuestMemory;

const GDT: u64 = 0x1000;
const TSS: u64 = 0x1080;
const STACK_TOP: u64 = 0x8FF0;
const PML4: u64 = 0x9000;
const PDPT: u64 = 0xA000;
/// Four page directories, one after the other.
const PAGE_DIRECTORIES: u64 = 0xB000;
/// Gigabytes that are mapped.
const MAPPED_GIB: u64 = 4;

const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_TSS: u16 = 0x20;
/// The processor's minimum for a 64-bit TSS (SDM 3A 8.7, "Task Management in 64-bit Mode"), less one.
const TSS_LIMIT: u32 = 0x67;

// Control bits: SDM 3A 2.5 (CR0, CR4) and 2.2.1 (EFER).
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS with nothing but the bit that always reads as 1: interrupts off.
const RFLAGS_RESERVED: u64 = 1 << 1;

// Page table entries: SDM 3A 4.5.5. Accessed and dirty are set from the start, so that no
// processor ever has a reason to write to these tables.
const PRESENT_WRITABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;

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
    const CODE: Self = Self {
        selector: BOOT_CS,
        type_: 0xB,
        long: true,
        default_32: false,
        ..Self::DATA
    };
    /// Flat data: read, write, already accessed.
    const DATA: Self = Self {
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
    /// Busy 64-bit TSS: VM entry asks for one (SDM 3C 26.3.1.2).
    const TASK: Self = Self {
        selector: BOOT_TSS,
        base: TSS,
        limit: TSS_LIMIT,
        type_: 0xB,
        code_or_data: false,
        default_32: false,
        granularity: false,
        ..Self::DATA
    };

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
    /// The zero page.
    pub rsi: u64,
    /// A small stack, for guests that bring none.
    pub rsp: u64,
    /// Interrupts off.
    pub rflags: u64,
    /// Protected mode with paging.
    pub cr0: u64,
    /// The page tables.
    pub cr3: u64,
    /// PAE.
    pub cr4: u64,
    /// Long mode, enabled and active.
    pub efer: u64,
    /// Global descriptor table.
    pub gdt_base: u64,
    /// Offset of its last byte.
    pub gdt_limit: u16,
    /// Interrupt descriptor table.
    pub idt_base: u64,
    /// Empty: an exception before the guest has its own table is a triple fault.
    pub idt_limit: u16,
    /// CS.
    pub code: Segment,
    /// DS, ES, FS, GS and SS.
    pub data: Segment,
    /// TR.
    pub tss: Segment,
}

/// Writes descriptor and page tables into `memory`; the state to begin at `entry` with them.
pub fn write(memory: &GuestMemory, entry: u64, zero_page: u64) -> Result<BootState, BootError> {
    let gdt_limit = write_gdt(memory)?;
    write_page_tables(memory)?;
    Ok(BootState {
        rip: entry,
        rsi: zero_page,
        rsp: STACK_TOP,
        rflags: RFLAGS_RESERVED,
        cr0: CR0_PE | CR0_ET | CR0_NE | CR0_PG,
        cr3: PML4,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        gdt_base: GDT,
        gdt_limit,
        idt_base: 0,
        idt_limit: 0,
        code: Segment::CODE,
        data: Segment::DATA,
        tss: Segment::TASK,
    })
}

/// The limit of the table that it wrote.
fn write_gdt(memory: &GuestMemory) -> Result<u16, BootError> {
    // Two null entries bring the code segment to 0x10. A TSS descriptor takes two entries; the upper half
    // of its base is 0.
    let table = [
        0,
        0,
        Segment::CODE.descriptor(),
        Segment::DATA.descriptor(),
        Segment::TASK.descriptor(),
        0,
    ];
    write_table(memory, GDT, &table, "the descriptor table")?;
    Ok(0x2F)
}

fn write_page_tables(memory: &GuestMemory) -> Result<(), BootError> {
    const WHAT: &str = "the page tables";
    let table = PRESENT_WRITABLE | ACCESSED;
    let page = PRESENT_WRITABLE | ACCESSED | DIRTY | LARGE_PAGE;
    let directories: Vec<u64> = (0..MAPPED_GIB)
        .map(|gib| (PAGE_DIRECTORIES + gib * 0x1000) | table)
        .collect();
    let pages: Vec<u64> = (0..MAPPED_GIB * 512)
        .map(|index| index << 21 | page)
        .collect();
    write_table(memory, PML4, &[PDPT | table], WHAT)?;
    write_table(memory, PDPT, &directories, WHAT)?;
    write_table(memory, PAGE_DIRECTORIES, &pages, WHAT)
}

fn write_table(
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
