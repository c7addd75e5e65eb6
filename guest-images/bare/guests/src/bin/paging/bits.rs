//! Accessed and dirty bits (Intel SDM 3A §4.8).

use bare::machine::checks::Checks;
use bare::machine::paging::{self, ACCESSED, DIRTY, LARGE, PRESENT, USER};

use crate::access::{self, DONE, PROTECTION, WRITE};
use bare::machine::space::{FRAMES, LARGE_BASE, OPEN, Space, address, frame, read, write};

const PAGE_HERE: usize = 30;
const BOTH: u64 = ACCESSED | DIRTY;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    small_page(checks, space);
    tables(checks, space);
    large_page(checks, space);
    refused(checks, space);
}

fn small_page(checks: &mut Checks, space: &Space) {
    let bits = || read(space.entry(PAGE_HERE)) & BOTH;
    space.map(PAGE_HERE, frame(1), OPEN);
    let fresh = bits();
    access::load(address(PAGE_HERE));
    let loaded = bits();
    // The translation is cached as clean: the store must find that out.
    access::store(address(PAGE_HERE), 1);
    let stored = bits();
    space.map(PAGE_HERE, frame(1), OPEN);
    access::store(address(PAGE_HERE), 1);
    let stored_first = bits();
    space.map(PAGE_HERE, frame(1), OPEN);
    write(frame(1), access::function());
    access::call(address(PAGE_HERE));
    checks.check(
        "accessed_and_dirty",
        &[
            ("fresh", fresh, 0),
            ("loaded", loaded, ACCESSED),
            ("stored", stored, BOTH),
            ("stored_first", stored_first, BOTH),
            ("executed", bits(), ACCESSED),
        ],
    );
}

/// Tables have an accessed bit, and a dirty bit that the processor leaves alone.
fn tables(checks: &mut Checks, space: &Space) {
    let entries = [space.directory_entry(0), space.pointer_entry(0)];
    for entry in entries {
        write(entry, read(entry) & !BOTH);
    }
    paging::flush();
    let fresh = entries.map(|entry| read(entry) & BOTH);
    access::store(address(PAGE_HERE), 1);
    let used = entries.map(|entry| read(entry) & BOTH);
    checks.check(
        "accessed_tables",
        &[
            ("directory_fresh", fresh[0], 0),
            ("pointers_fresh", fresh[1], 0),
            ("directory", used[0], ACCESSED),
            ("pointers", used[1], ACCESSED),
        ],
    );
}

fn large_page(checks: &mut Checks, space: &Space) {
    let entry = space.directory_entry(2);
    write(entry, FRAMES | OPEN | LARGE);
    access::load(LARGE_BASE + 0x1000);
    let loaded = read(entry) & BOTH;
    access::store(LARGE_BASE + 0x2000, 1);
    let stored = read(entry) & BOTH;
    write(entry, 0);
    paging::invalidate(LARGE_BASE);
    checks.check(
        "dirty_large_page",
        &[("loaded", loaded, ACCESSED), ("stored", stored, BOTH)],
    );
}

/// A store that is refused makes nothing dirty.
fn refused(checks: &mut Checks, space: &Space) {
    space.map(PAGE_HERE, frame(1), PRESENT | USER);
    write(frame(1), 5);
    let store = access::store(address(PAGE_HERE), 1);
    let exchange = access::exchange(address(PAGE_HERE), 1);
    let dirty = read(space.entry(PAGE_HERE)) & DIRTY;
    space.map(PAGE_HERE, frame(1), OPEN);
    // A compare-and-exchange that does not exchange stores what was there: the page becomes dirty.
    let unequal = access::exchange(address(PAGE_HERE), 1);
    checks.check(
        "refused_stores",
        &[
            ("store", store.error, PROTECTION | WRITE),
            ("exchange", exchange.error, PROTECTION | WRITE),
            ("dirty", dirty, 0),
            ("unequal", unequal.error, DONE),
            ("unequal_dirty", read(space.entry(PAGE_HERE)) & DIRTY, DIRTY),
            ("memory", read(frame(1)), 5),
        ],
    );
}
