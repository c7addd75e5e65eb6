//! Accesses that touch two pages, whose frames are far apart or of which one is missing.

use core::arch::{asm, global_asm};

use bare::machine::checks::Checks;
use bare::machine::exceptions::{self, Frame};
use bare::machine::paging::{PRESENT, USER};

use crate::access::{self, DONE, FETCH, PROTECTION, WRITE};
use bare::machine::space::{OPEN, PAGE, Space, address, frame, read, write};

const PAGE_HERE: usize = 70;
/// The end of the first page.
const EDGE: u64 = PAGE - 4;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    words(checks, space);
    missing(checks, space);
    instruction(checks, space);
    string(checks, space);
}

fn words(checks: &mut Checks, space: &Space) {
    space.map(PAGE_HERE, frame(11), OPEN);
    space.map(PAGE_HERE + 1, frame(8), OPEN);
    access::store(address(PAGE_HERE) + EDGE, 0x1122_3344_5566_7788);
    let loaded = access::load(address(PAGE_HERE) + EDGE).value;
    checks.check(
        "word_in_two_pages",
        &[
            ("loaded", loaded, 0x1122_3344_5566_7788),
            ("first", read(frame(11) + PAGE - 8) >> 32, 0x5566_7788),
            ("second", read(frame(8)) & 0xFFFF_FFFF, 0x1122_3344),
        ],
    );
}

/// Where the second page refuses, nothing is stored in the first, and CR2 is where the second begins.
fn missing(checks: &mut Checks, space: &Space) {
    let second = address(PAGE_HERE + 1);
    write(frame(11) + PAGE - 8, 0);
    space.map(PAGE_HERE + 1, 0, 0);
    let load = access::load(address(PAGE_HERE) + EDGE);
    let store = access::store(address(PAGE_HERE) + EDGE, u64::MAX);
    space.map(PAGE_HERE + 1, frame(8), PRESENT | USER);
    let read_only = access::store(address(PAGE_HERE) + EDGE, u64::MAX);
    space.map(PAGE_HERE + 1, frame(8), OPEN);
    space.map(PAGE_HERE, 0, 0);
    let first = access::load(address(PAGE_HERE) + EDGE);
    checks.check(
        "half_a_word",
        &[
            ("load", load.error, 0),
            ("load_address", load.address, second),
            ("store", store.error, WRITE),
            ("store_address", store.address, second),
            ("read_only", read_only.error, PROTECTION | WRITE),
            ("read_only_address", read_only.address, second),
            ("memory", read(frame(11) + PAGE - 8), 0),
            ("first_address", first.address, address(PAGE_HERE) + EDGE),
        ],
    );
}

/// `mov eax, 7` with its opcode in one page and its operand in the next.
fn instruction(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE) + PAGE - 1;
    space.map(PAGE_HERE, frame(11), OPEN);
    space.map(PAGE_HERE + 1, frame(8), OPEN);
    let code = access::function().to_le_bytes();
    write(frame(11) + PAGE - 8, u64::from(code[0]) << 56);
    write(frame(8), access::function() >> 8);
    let called = access::call(here);
    space.map(PAGE_HERE + 1, frame(12), OPEN);
    write(frame(12), (access::function() >> 8) + 2);
    let other = access::call(here);
    space.map(PAGE_HERE + 1, 0, 0);
    let missing = access::call(here);
    checks.check(
        "instruction_in_two_pages",
        &[
            ("called", called.value, 7),
            ("other", other.value, 9),
            ("missing", missing.error, FETCH),
            ("rip", missing.rip, here),
            ("address", missing.address, address(PAGE_HERE + 1)),
        ],
    );
}

global_asm!(
    "crossing_copy:",
    "rep movsb",
    "ret",
    ".pushsection .bss",
    ".balign 8",
    "crossing_entry: .zero 8",
    "crossing_value: .zero 8",
    ".popsection",
);

unsafe extern "C" {
    fn crossing_copy();
    static mut crossing_entry: u64;
    static mut crossing_value: u64;
}

/// A copy over three pages, of which the handler maps the second when it is reached: the copy goes on where it stopped.
fn string(checks: &mut Checks, space: &Space) {
    for page in 0..3 {
        space.map(PAGE_HERE + page, frame(13 + page as u64), OPEN);
        for word in 0..512 {
            write(frame(13 + page as u64) + word * 8, 0);
            write(frame(20 + page as u64) + word * 8, word * 8 + page as u64);
        }
    }
    space.map(PAGE_HERE + 1, 0, 0);
    // SAFETY: the handler that reads them is set below.
    unsafe {
        crossing_entry = space.entry(PAGE_HERE + 1);
        crossing_value = frame(14) | OPEN;
    }
    exceptions::handle(map_the_page);
    let (count, source, destination): (u64, u64, u64);
    // SAFETY: source and destination are frames that nobody else uses; the handler maps what is missing.
    unsafe {
        asm!(
            "call {copy}",
            copy = sym crossing_copy,
            inout("rcx") 2 * PAGE + 100 => count,
            inout("rsi") frame(20) => source,
            inout("rdi") address(PAGE_HERE) => destination,
        );
    }
    let mut wrong = 0;
    for byte in 0..(2 * PAGE + 96) / 8 {
        let page = byte * 8 / PAGE;
        wrong += u64::from(read(frame(13 + page) + byte * 8 % PAGE) != byte * 8 % PAGE + page);
    }
    checks.check(
        "copy_over_a_missing_page",
        &[
            ("rcx", count, 0),
            ("rsi", source, frame(20) + 2 * PAGE + 100),
            ("rdi", destination, address(PAGE_HERE) + 2 * PAGE + 100),
            ("wrong", wrong, 0),
            ("after", read(frame(15) + 104), 0),
            ("done", access::load(address(PAGE_HERE + 1)).error, DONE),
        ],
    );
}

fn map_the_page(frame: &mut Frame) {
    // SAFETY: `string` has set both.
    let (entry, value) = unsafe { (crossing_entry, crossing_value) };
    if frame.vector != 14 || read(entry) != 0 {
        exceptions::report("exception", frame);
        bare::machine::reset();
    }
    write(entry, value);
}
