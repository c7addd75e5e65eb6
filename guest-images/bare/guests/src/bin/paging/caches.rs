//! Cached translations: what must be seen after INVLPG, a load of CR3, or nothing at all (Intel SDM 3A §4.10.4).
//!
//! A stale translation may be used or not; what is checked is only what the processor owes.

use bare::machine::checks::Checks;
use bare::machine::control::{self, CR4_PGE};
use bare::machine::paging::{self, GLOBAL, LARGE, PRESENT, USER};

use crate::access::{self, DONE, PROTECTION, WRITE};
use bare::machine::space::{BASE, FRAMES, LARGE_PAGE, OPEN, Space, address, frame, read, write};

const PAGE_HERE: usize = 60;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    for index in 0..4 {
        write(frame(index), 0x100 + index);
        write(frame(index) + 8, access::function() + (index << 8));
    }
    remapped(checks, space);
    newly_mapped(checks, space);
    global(checks, space);
    another_table(checks, space);
    page_becomes_table(checks, space);
}

/// Data and code.
fn remapped(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    let see = || (access::load(here).value, access::call(here + 8).value);
    space.map(PAGE_HERE, frame(0), OPEN);
    let first = see();
    space.map(PAGE_HERE, frame(1), OPEN);
    let by_page = see();
    write(space.entry(PAGE_HERE), frame(2) | OPEN);
    paging::flush();
    let by_cr3 = see();
    write(space.entry(PAGE_HERE), 0);
    paging::flush();
    let gone = access::load(here);
    checks.check(
        "remapped",
        &[
            ("first", first.0, 0x100),
            ("first_code", first.1, 7),
            ("by_page", by_page.0, 0x101),
            ("by_page_code", by_page.1, 8),
            ("by_cr3", by_cr3.0, 0x102),
            ("by_cr3_code", by_cr3.1, 9),
            ("gone", gone.error, 0),
        ],
    );
}

/// What was not present was not cached; after a fault, more rights are seen at once.
fn newly_mapped(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    space.map(PAGE_HERE, 0, 0);
    let before = access::load(here);
    write(space.entry(PAGE_HERE), frame(3) | PRESENT | USER);
    let loaded = access::load(here);
    let refused = access::store(here + 16, 1);
    write(space.entry(PAGE_HERE), frame(3) | OPEN);
    let stored = access::store(here + 16, 2);
    checks.check(
        "newly_mapped",
        &[
            ("before", before.error, 0),
            ("loaded", loaded.value, 0x103),
            ("refused", refused.error, PROTECTION | WRITE),
            // One more fault would be allowed, and would end it.
            (
                "stored",
                if stored.error == DONE {
                    DONE
                } else {
                    access::store(here + 16, 2).error
                },
                DONE,
            ),
            ("memory", read(frame(3) + 16), 2),
        ],
    );
}

/// Global pages: INVLPG and a change of CR4.PGE drop them. Their bit means nothing while CR4.PGE is off.
fn global(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    let load = || access::load(here).value;
    let cr4 = control::cr4();
    // SAFETY: every x86-64 processor has global pages.
    let set = |value| unsafe { control::set_cr4(value) };
    set(cr4 & !CR4_PGE);
    space.map(PAGE_HERE, frame(0), OPEN | GLOBAL);
    load();
    write(space.entry(PAGE_HERE), frame(1) | OPEN | GLOBAL);
    paging::flush();
    let not_global = load();
    set(cr4 | CR4_PGE);
    space.map(PAGE_HERE, frame(2), OPEN | GLOBAL);
    load();
    space.map(PAGE_HERE, frame(3), OPEN | GLOBAL);
    let by_page = load();
    write(space.entry(PAGE_HERE), frame(0) | OPEN | GLOBAL);
    set(cr4 & !CR4_PGE);
    let by_switch = load();
    space.map(PAGE_HERE, 0, 0);
    set(cr4);
    checks.check(
        "global",
        &[
            ("not_global", not_global, 0x101),
            ("by_page", by_page, 0x103),
            ("by_switch", by_switch, 0x100),
        ],
    );
}

/// A table is exchanged for another. INVLPG of one page drops what is cached of the tables on its way.
fn another_table(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    space.map(PAGE_HERE, frame(0), OPEN);
    let first = access::load(here).value;
    write(space.spare_table() + PAGE_HERE as u64 * 8, frame(1) | OPEN);
    let table = space.directory_entry(0);
    let old = read(table);
    write(table, space.spare_table() | OPEN);
    paging::invalidate(here);
    let second = access::load(here).value;
    write(table, old);
    paging::flush();
    let third = access::load(here).value;
    checks.check(
        "another_table",
        &[
            ("first", first, 0x100),
            ("second", second, 0x101),
            ("third", third, 0x100),
        ],
    );
}

/// A large page in the place of a table, and back.
fn page_becomes_table(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    space.map(PAGE_HERE, frame(2), OPEN);
    let table = space.directory_entry(0);
    let old = read(table);
    write(table, FRAMES | OPEN | LARGE);
    paging::flush();
    write(frame(PAGE_HERE as u64), 0x600D);
    let large = access::load(here).value;
    let end = access::load(BASE + LARGE_PAGE - 8).error;
    write(table, old);
    paging::invalidate(here);
    checks.check(
        "page_becomes_table",
        &[
            ("large", large, 0x600D),
            ("end", end, DONE),
            ("small", access::load(here).value, 0x102),
        ],
    );
}
