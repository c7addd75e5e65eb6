//! Tables of our own beside the loader's: 512 GiB of addresses to play with, and frames to map there.
//!
//! Frames and tables are read and written through the loader's one-to-one mapping, so that looking leaves no trace.

use super::Global;
use super::paging::{self, PRESENT, Table, USER, WRITABLE};

/// First address of the space: the second entry of the root's.
pub const BASE: u64 = 1 << 39;
/// Bytes of a small page, and of a large one.
pub const PAGE: u64 = 1 << 12;
/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 1 << 21;
/// Small pages that have a table: two tables of 512.
pub const PAGES: usize = 1024;
/// Where large pages may be put: behind the small ones.
pub const LARGE_BASE: u64 = BASE + 2 * LARGE_PAGE;
/// Where a page of 1 GiB may be put.
pub const HUGE_BASE: u64 = BASE + (1 << 30);
/// Frames: from 4 MiB on, past this image, up to 8 MiB.
pub const FRAMES: u64 = 4 << 20;
/// What no check forbids.
pub const OPEN: u64 = PRESENT | WRITABLE | USER;

const POINTERS: usize = 0;
const DIRECTORY: usize = 1;
const FIRST: usize = 2;

static TABLES: Global<[Table; 5]> = Global::new([[0; 512]; 5]);

/// The space.
pub struct Space {
    tables: *mut Table,
}

impl Space {
    /// Hangs it into the root; nothing is mapped.
    #[must_use]
    pub fn take() -> Self {
        let space = Self {
            tables: TABLES.take().as_mut_ptr(),
        };
        paging::root()[1] = space.table(POINTERS) | OPEN;
        write(space.table(POINTERS), space.table(DIRECTORY) | OPEN);
        for half in 0..2 {
            write(
                space.directory_entry(half),
                space.table(FIRST + half) | OPEN,
            );
        }
        space
    }

    /// Where the entry of a small page is.
    #[must_use]
    pub fn entry(&self, page: usize) -> u64 {
        assert!(page < PAGES);
        self.table(FIRST) + page as u64 * 8
    }

    /// Where entry `index` of the page directory is: 0 and 1 are the tables of small pages, 2 is for large ones.
    #[must_use]
    pub fn directory_entry(&self, index: usize) -> u64 {
        self.table(DIRECTORY) + index as u64 * 8
    }

    /// Where entry `index` of the pointers to directories is: 0 is the directory, 1 for huge pages.
    #[must_use]
    pub fn pointer_entry(&self, index: usize) -> u64 {
        self.table(POINTERS) + index as u64 * 8
    }

    /// A table of zeros that hangs nowhere.
    #[must_use]
    pub fn spare_table(&self) -> u64 {
        self.table(FIRST + 2)
    }

    /// Maps a small page, and drops what the processor knew of it.
    pub fn map(&self, page: usize, frame: u64, flags: u64) {
        write(self.entry(page), frame | flags);
        paging::invalidate(address(page));
    }

    fn table(&self, index: usize) -> u64 {
        self.tables.wrapping_add(index) as u64
    }
}

/// The address of a small page.
#[must_use]
pub fn address(page: usize) -> u64 {
    BASE + page as u64 * PAGE
}

/// The address of a frame, 0 to 1023.
#[must_use]
pub fn frame(index: u64) -> u64 {
    assert!(index < 1024);
    FRAMES + index * PAGE
}

/// Reads a word of memory.
#[must_use]
pub fn read(address: u64) -> u64 {
    // SAFETY: frames and tables are memory that is mapped one to one and that no reference points to.
    unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

/// Writes a word of memory.
pub fn write(address: u64, value: u64) {
    // SAFETY: as in `read`.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<u64>(address as usize).write_volatile(value);
    };
}
