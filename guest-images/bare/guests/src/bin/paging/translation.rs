//! Where addresses lead: pages of each size, aliases, many mappings.

use bare::hash::{Hash, xorshift};
use bare::machine::checks::Checks;
use bare::machine::control;
use bare::machine::paging::{self, LARGE};

use crate::access::{self, DONE, PROTECTION, RESERVED};
use bare::machine::space::{
    BASE, FRAMES, HUGE_BASE, LARGE_BASE, LARGE_PAGE, OPEN, PAGE, Space, address, frame, read, write,
};

/// Pages and frames of the many mappings.
const MANY: u64 = 256;
const ROUNDS: u64 = 4096;
/// CPUID 0x80000001, EDX: pages of 1 GiB.
const HUGE_PAGES: u32 = 1 << 26;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    small_pages(checks, space);
    not_canonical_neighbours(checks);
    large_page(checks, space);
    huge_page(checks, space);
    aliases(checks, space);
    many_mappings(checks, space);
}

fn small_pages(checks: &mut Checks, space: &Space) {
    write(frame(0) + 8, 0x1111);
    write(frame(5) + 0xFF8, 0x5555);
    space.map(0, frame(5), OPEN);
    space.map(511, frame(0), OPEN);
    space.map(512, frame(5), OPEN);
    let nothing = access::load(address(1) + 0x123);
    checks.check(
        "small_pages",
        &[
            ("page_0", access::load(address(0) + 0xFF8).value, 0x5555),
            ("page_511", access::load(address(511) + 8).value, 0x1111),
            ("page_512", access::load(address(512) + 0xFF8).value, 0x5555),
            ("unmapped", nothing.error, 0),
            ("unmapped_address", nothing.address, address(1) + 0x123),
            ("no_table", access::load(LARGE_BASE + 5).error, 0),
            ("no_directory", access::load(HUGE_BASE + 5).error, 0),
            ("no_pointers", access::load(BASE << 1).error, 0),
        ],
    );
}

/// The last address of the lower half and the first of the upper are canonical: nothing is mapped there, which is a page fault and no #GP.
fn not_canonical_neighbours(checks: &mut Checks) {
    let (low, high) = (0x0000_7FFF_FFFF_FFF8, 0xFFFF_8000_0000_0000);
    checks.check(
        "edges_of_the_halves",
        &[
            ("low", access::load(low).address, low),
            ("high", access::load(high).address, high),
            ("past_low", access::load(low + 8).error, 0xE00 + 13),
            ("before_high", access::load(high - 8).error, 0xE00 + 13),
        ],
    );
}

fn large_page(checks: &mut Checks, space: &Space) {
    write(space.directory_entry(2), FRAMES | OPEN | LARGE);
    write(frame(511) + 0xFF8, 0x2222);
    let last = access::load(LARGE_BASE + LARGE_PAGE - 8);
    let stored = access::store(LARGE_BASE + 0x3010, 0x3333);
    // Bits 13 to 20 of such an entry are reserved.
    write(space.directory_entry(2), FRAMES | OPEN | LARGE | 1 << 13);
    paging::invalidate(LARGE_BASE);
    let reserved = access::load(LARGE_BASE);
    write(space.directory_entry(2), 0);
    paging::invalidate(LARGE_BASE);
    checks.check(
        "large_page",
        &[
            ("load", last.value, 0x2222),
            ("store", stored.error, DONE),
            ("stored", read(frame(3) + 0x10), 0x3333),
        ],
    );
    checks.check(
        "reserved_bit_of_a_large_page",
        &[("error", reserved.error, PROTECTION | RESERVED)],
    );
}

/// 1 GiB from address 0; where the processor has no such pages, the bit is reserved.
fn huge_page(checks: &mut Checks, space: &Space) {
    write(space.pointer_entry(1), OPEN | LARGE);
    write(frame(7), 0x7777);
    let seen = access::load(HUGE_BASE + frame(7));
    write(space.pointer_entry(1), 0);
    paging::invalidate(HUGE_BASE);
    let [_, _, _, features] = control::cpuid(0x8000_0001, 0);
    if features & HUGE_PAGES != 0 {
        checks.check("huge_page", &[("load", seen.value, 0x7777)]);
    } else {
        checks.check(
            "no_huge_pages",
            &[("error", seen.error, PROTECTION | RESERVED)],
        );
    }
}

fn aliases(checks: &mut Checks, space: &Space) {
    space.map(20, frame(9), OPEN);
    space.map(700, frame(9), OPEN);
    access::store(address(20) + 16, 0xAAAA);
    let first = access::load(address(700) + 16).value;
    access::store(address(700) + 16, 0xBBBB);
    checks.check(
        "aliases",
        &[
            ("first", first, 0xAAAA),
            ("second", access::load(address(20) + 16).value, 0xBBBB),
            ("memory", read(frame(9) + 16), 0xBBBB),
        ],
    );
}

/// Pages are remapped at random, each time with INVLPG, and read through two of the caches' generations.
fn many_mappings(checks: &mut Checks, space: &Space) {
    for index in 0..MANY {
        write(frame(index), index * PAGE);
        space.map(index as usize, frame(index), OPEN);
    }
    let (mut found, mut expected) = (Hash::new(), Hash::new());
    let mut mapped = [0_u8; MANY as usize];
    for (index, frame) in mapped.iter_mut().enumerate() {
        *frame = index as u8;
    }
    let mut state = 1;
    for _ in 0..ROUNDS {
        state = xorshift(state);
        let (page, other) = ((state % MANY) as usize, (state >> 8) % MANY);
        mapped[page] = other as u8;
        space.map(page, frame(other), OPEN);
        let probe = (state >> 16) as usize % MANY as usize;
        found.word(read(address(page)));
        found.word(read(address(probe)));
        expected.word(u64::from(mapped[page]) * PAGE);
        expected.word(u64::from(mapped[probe]) * PAGE);
    }
    checks.check(
        "many_mappings",
        &[("hash", found.value(), expected.value())],
    );
}
