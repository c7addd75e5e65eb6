//! The state that the 64-bit boot protocol wants the vCPU in (boot.rst, "64-bit Boot Protocol"):
//! 64-bit mode, paging with the kernel and its parameters mapped one to one, a flat `__BOOT_CS` (0x10) and
//! `__BOOT_DS` (0x18), interrupts off, RSI at the zero page.

use crate::machine::GuestMemory;

use super::BootError;
use super::state::{BootState, Segment, TSS, write_table};

const PML4: u64 = 0x9000;
const PDPT: u64 = 0xA000;
/// Four page directories, one after the other.
const PAGE_DIRECTORIES: u64 = 0xB000;
/// Gigabytes that are mapped.
const MAPPED_GIB: u64 = 4;

// Control bits: SDM 3A 2.5 (CR0, CR4) and 2.2.1 (EFER).
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

// Page table entries: SDM 3A 4.5.5. Accessed and dirty are set from the start, so that no
// processor ever has a reason to write to these tables.
const PRESENT_WRITABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;

/// Writes descriptor and page tables into `memory`; the state to begin at `entry` with them.
pub fn write(memory: &GuestMemory, entry: u64, zero_page: u64) -> Result<BootState, BootError> {
    write_page_tables(memory)?;
    let protected = BootState::new(memory, entry, Segment::CODE_64, Segment::task(TSS))?;
    Ok(BootState {
        rsi: zero_page,
        cr0: protected.cr0 | CR0_NE | CR0_PG,
        cr3: PML4,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        ..protected
    })
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
