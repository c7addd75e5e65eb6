//! Additions to the loader's page tables, which map low memory one to one.

use core::arch::asm;

use super::Global;

// Bits of an entry: Intel SDM 3A §4.5.5.
/// There is a page, or a table.
pub const PRESENT: u64 = 1;
/// Stores are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// Privilege level 3 is allowed.
pub const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 4;
/// The processor has used the entry.
pub const ACCESSED: u64 = 1 << 5;
/// The processor has written to the page.
pub const DIRTY: u64 = 1 << 6;
/// A page of 2 MiB or 1 GiB, not a table.
pub const LARGE: u64 = 1 << 7;
/// The translation outlives a change of CR3.
pub const GLOBAL: u64 = 1 << 8;
/// No instructions are fetched.
pub const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// Bytes mapped by an entry of a page directory.
const LARGE_PAGE: u64 = 1 << 21;

/// A table of any level.
pub type Table = [u64; 512];

static DEVICE_DIRECTORY: Global<Table> = Global::new([0; 512]);

/// Maps the 2 MiB around a device's registers, unless the loader has.
pub fn map_device(address: u64) {
    let directories = top();
    let index = (address >> 30 & 511) as usize;
    if directories[index] & PRESENT == 0 {
        directories[index] = &raw const *DEVICE_DIRECTORY.take() as u64 | WRITABLE | PRESENT;
    } else if directories[index] & LARGE != 0 {
        return;
    }
    let directory = table(directories[index]);
    let entry = &mut directory[(address >> 21 & 511) as usize];
    if *entry & PRESENT == 0 {
        *entry = address & !(LARGE_PAGE - 1) | LARGE | UNCACHED | WRITABLE | PRESENT;
    }
    flush();
}

/// Opens the first `pages` large pages to privilege level 3.
pub fn open_to_user(pages: usize) {
    top_entry_to_user();
    let directories = top();
    directories[0] |= USER;
    if directories[0] & LARGE == 0 {
        for entry in table(directories[0]).iter_mut().take(pages) {
            *entry |= USER;
        }
    }
    flush();
}

/// The table that CR3 points at.
pub fn root() -> &'static mut Table {
    let root: u64;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    table(root)
}

fn top_entry_to_user() {
    root()[0] |= USER;
}

/// The page directory pointers of the lowest 512 GiB.
fn top() -> &'static mut Table {
    table(root()[0])
}

fn table(entry: u64) -> &'static mut Table {
    // SAFETY: the loader's tables lie in memory that it mapped one to one, ours in `.bss`; nobody
    // else touches them, and each reference here is dropped before the same table is asked for again.
    unsafe { &mut *core::ptr::with_exposed_provenance_mut((entry & ADDRESS) as usize) }
}

/// Drops the translation of the page at `address`.
pub fn invalidate(address: u64) {
    // SAFETY: the processor walks the tables again, which say what is so.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Drops all translations but those of global pages.
pub fn flush() {
    // SAFETY: loads the value CR3 has, which drops stale translations.
    unsafe {
        asm!("mov {scratch}, cr3", "mov cr3, {scratch}", scratch = out(reg) _, options(nostack, preserves_flags));
    };
}
