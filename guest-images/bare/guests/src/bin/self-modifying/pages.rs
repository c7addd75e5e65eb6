//! Code that crosses pages, that two addresses lead to, and whose address leads elsewhere.

use core::arch::global_asm;
use core::arch::x86_64::__cpuid;

use bare::machine::checks::Checks;
use bare::machine::paging::LARGE;
use bare::machine::space::{FRAMES, LARGE_BASE, OPEN, PAGE, Space, address, frame, read, write};

use crate::{call, returning};

const ROUNDS: u32 = 32;
const PAGE_HERE: usize = 10;
const ALIAS: usize = 600;

// Copied to the end of a page: stores the first argument into the next page and runs into it.
global_asm!(
    ".balign 8",
    "pages_before_edge:",
    "mov rdx, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov [rcx], rdx",
    ".balign 8, 0x90",
    "pages_store_and_jump:",
    "mov rdx, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov [rcx], rdx",
    "jmp rcx",
);

unsafe extern "C" {
    static pages_before_edge: [u64; 2];
    static pages_store_and_jump: u8;
}

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    across_the_edge(checks, space);
    next_page(checks, space);
    aliases(checks, space);
    large_alias(checks, space);
    remapped(checks, space);
    freed_and_used_again(checks, space);
}

/// An instruction that begins in one page and ends in the next, patched in either part and in both.
fn across_the_edge(checks: &mut Checks, space: &Space) {
    // Frames that are not neighbours, so that only the addresses are.
    space.map(PAGE_HERE, frame(3), OPEN);
    space.map(PAGE_HERE + 1, frame(1), OPEN);
    let edge = address(PAGE_HERE + 1);
    let mut wrong = [0; 3];
    for round in 0..ROUNDS {
        // One to five bytes of `mov eax, N` are in the first page.
        let start = edge - 1 - u64::from(round % 5);
        let both = call(
            &raw const pages_store_and_jump as u64,
            [returning(round), start],
        );
        wrong[0] += u64::from(both != round.into());
        // The operand's highest byte, in the second page.
        write_byte(
            start + 4 + u64::from(round % 5 == 4),
            if round % 5 == 4 { 0xC3 } else { 0x55 },
        );
        let expected = if round % 5 == 4 {
            u64::from(round)
        } else {
            0x5500_0000 | u64::from(round)
        };
        wrong[1] += u64::from(call(start, [0, 0]) != expected);
        // The opcode, in the first page: `mov ecx, N` leaves EAX, which is the code's address.
        write_byte(start, 0xB9);
        wrong[2] += u64::from(call(start, [0, 0]) != start);
    }
    checks.check(
        "across_the_edge",
        &[
            ("both", wrong[0], 0),
            ("second", wrong[1], 0),
            ("first", wrong[2], 0),
        ],
    );
}

/// Code at a page's end patches the beginning of the next page, and runs into it.
fn next_page(checks: &mut Checks, space: &Space) {
    space.map(PAGE_HERE, frame(4), OPEN);
    space.map(PAGE_HERE + 1, frame(9), OPEN);
    let edge = address(PAGE_HERE + 1);
    // SAFETY: constant code.
    let code = unsafe { pages_before_edge };
    write(edge - 16, code[0]);
    write(edge - 8, code[1]);
    let mut wrong = 0;
    for round in 0..ROUNDS {
        wrong += u64::from(call(edge - 16, [returning(round), edge]) != round.into());
    }
    checks.check("next_page", &[("wrong", wrong, 0)]);
}

/// Two pages lead to one frame: written through one, executed through the other, and the other way round.
fn aliases(checks: &mut Checks, space: &Space) {
    space.map(PAGE_HERE, frame(6), OPEN);
    space.map(ALIAS, frame(6), OPEN);
    let (one, other) = (address(PAGE_HERE) + 0x100, address(ALIAS) + 0x100);
    let mut wrong = [0; 4];
    for round in 0..ROUNDS {
        let mut try_it = |index: usize, written: u64, executed: u64, value: u32| {
            write(written, returning(value));
            serialise();
            wrong[index] += u64::from(call(executed, [0, 0]) != value.into());
        };
        try_it(0, one, other, round);
        try_it(1, other, one, 0x100 + round);
        // Through the loader's own mapping.
        try_it(2, frame(6) + 0x100, one, 0x200 + round);
        try_it(3, one, frame(6) + 0x100, 0x300 + round);
    }
    checks.check(
        "aliases",
        &[
            ("one", wrong[0], 0),
            ("other", wrong[1], 0),
            ("physical", wrong[2], 0),
            ("executed_there", wrong[3], 0),
        ],
    );
}

/// The same with a large page over the frame.
fn large_alias(checks: &mut Checks, space: &Space) {
    write(space.directory_entry(2), FRAMES | OPEN | LARGE);
    space.map(PAGE_HERE, frame(6), OPEN);
    let (small, large) = (address(PAGE_HERE) + 0x200, LARGE_BASE + 6 * PAGE + 0x200);
    let mut wrong = 0;
    for round in 0..ROUNDS {
        write(small, returning(round));
        serialise();
        wrong += u64::from(call(large, [0, 0]) != round.into());
        write(large, returning(round + 1));
        serialise();
        wrong += u64::from(call(small, [0, 0]) != (round + 1).into());
    }
    checks.check("large_alias", &[("wrong", wrong, 0)]);
}

/// One address, many frames, each with code of its own that never changes.
fn remapped(checks: &mut Checks, space: &Space) {
    for index in 0..16 {
        write(frame(index) + 0x300, returning(index as u32));
    }
    let mut wrong = 0;
    for round in 0..ROUNDS {
        let index = u64::from(round * 7 % 16);
        space.map(PAGE_HERE, frame(index), OPEN);
        wrong += u64::from(call(address(PAGE_HERE) + 0x300, [0, 0]) != index);
    }
    checks.check("remapped", &[("wrong", wrong, 0)]);
}

/// A frame holds code, then data, then code again, at another address.
fn freed_and_used_again(checks: &mut Checks, space: &Space) {
    let mut wrong = [0; 2];
    for round in 0..ROUNDS {
        let page = PAGE_HERE + 20 + round as usize % 4;
        space.map(page, frame(17), OPEN);
        write(address(page), returning(round));
        serialise();
        wrong[0] += u64::from(call(address(page), [0, 0]) != round.into());
        space.map(page, 0, 0);
        for word in 0..8 {
            write(frame(17) + word * 8, u64::from(round) << 32 | word);
        }
        let sum: u64 = (0..8).map(|word| read(frame(17) + word * 8) & 0xFF).sum();
        wrong[1] += u64::from(sum != 28);
    }
    checks.check(
        "used_again",
        &[("code", wrong[0], 0), ("data", wrong[1], 0)],
    );
}

/// CPUID waits until all that was stored is seen by the next fetch, whatever its address.
fn serialise() {
    let _ = __cpuid(0);
}

fn write_byte(address: u64, value: u8) {
    // SAFETY: a page that was mapped for this.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address as usize).write_volatile(value) };
}
