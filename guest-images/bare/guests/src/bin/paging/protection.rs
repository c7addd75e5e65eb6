//! What pages forbid: stores, fetches, privilege level 3, reserved bits; at each level of the tables.

use bare::machine::checks::Checks;
use bare::machine::control;
use bare::machine::paging::{self, NO_EXECUTE, PRESENT, USER, WRITABLE};

use crate::access::{
    self, DONE, FETCH, PROTECTION, RESERVED, USER_JUMP, USER_LOAD, USER_STORE, WRITE,
};
use bare::machine::space::{OPEN, Space, address, frame, read, write};

const PAGE_HERE: usize = 40;
/// The page that holds level 3's code, in the second table.
pub const CODE: usize = 600;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    for (index, word) in access::user_code().into_iter().enumerate() {
        write(frame(100) + index as u64 * 8, word);
    }
    space.map(CODE, frame(100), OPEN);
    read_only(checks, space);
    no_execute(checks, space);
    reserved_bits(checks, space);
    user(checks, space);
    user_tables(checks, space);
}

fn read_only(checks: &mut Checks, space: &Space) {
    write(frame(2), 0);
    space.map(PAGE_HERE, frame(2), PRESENT | USER);
    let refused = access::store(address(PAGE_HERE) + 8, 1);
    // SAFETY: paging and protection stay on.
    unsafe { control::set_cr0(control::cr0() & !control::CR0_WP) };
    let allowed = access::store(address(PAGE_HERE) + 8, 2);
    // SAFETY: as above.
    unsafe { control::set_cr0(control::cr0() | control::CR0_WP) };
    let again = access::store(address(PAGE_HERE) + 8, 3);
    let table = space.directory_entry(0);
    space.map(PAGE_HERE, frame(2), OPEN);
    write(table, read(table) & !WRITABLE);
    paging::flush();
    let by_table = access::store(address(PAGE_HERE) + 8, 4);
    write(table, read(table) | WRITABLE);
    paging::flush();
    checks.check(
        "read_only",
        &[
            ("refused", refused.error, PROTECTION | WRITE),
            ("address", refused.address, address(PAGE_HERE) + 8),
            ("without_wp", allowed.error, DONE),
            ("again", again.error, PROTECTION | WRITE),
            ("by_table", by_table.error, PROTECTION | WRITE),
            ("memory", read(frame(2) + 8), 2),
        ],
    );
}

fn no_execute(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    write(frame(2), access::function());
    space.map(PAGE_HERE, frame(2), OPEN);
    let allowed = access::call(here);
    space.map(PAGE_HERE, frame(2), OPEN | NO_EXECUTE);
    let refused = access::call(here);
    let load = access::load(here);
    space.map(PAGE_HERE, frame(2), OPEN);
    let table = space.directory_entry(0);
    write(table, read(table) | NO_EXECUTE);
    paging::flush();
    let by_table = access::call(here);
    write(table, read(table) & !NO_EXECUTE);
    paging::flush();
    space.map(PAGE_HERE, 0, 0);
    let nothing = access::call(here);
    checks.check(
        "no_execute",
        &[
            ("allowed", allowed.value, 7),
            ("refused", refused.error, PROTECTION | FETCH),
            ("address", refused.address, here),
            ("rip", refused.rip, here),
            ("load", load.error, DONE),
            ("by_table", by_table.error, PROTECTION | FETCH),
            ("nothing", nothing.error, FETCH),
        ],
    );
}

/// Bit 51 is above every address that this processor may have; bit 63 is reserved unless EFER gives it a meaning.
fn reserved_bits(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    space.map(PAGE_HERE, frame(2) | 1 << 51, OPEN);
    let address_bit = access::load(here);
    let store = access::store(here, 1);
    space.map(PAGE_HERE, frame(2) | 1 << 51, 0);
    let absent = access::load(here);
    space.map(PAGE_HERE, frame(2), OPEN | NO_EXECUTE);
    // SAFETY: every x86-64 processor has it.
    let efer = unsafe { control::msr(control::EFER) };
    // SAFETY: no entry in use has the bit set that this makes reserved.
    unsafe { control::set_msr(control::EFER, efer & !control::EFER_NXE) };
    paging::flush();
    let no_nx = access::load(here);
    // Without NXE, and without SMEP, a fetch is not told from a load.
    space.map(PAGE_HERE, 0, 0);
    let fetch = access::call(here);
    // SAFETY: as it was.
    unsafe { control::set_msr(control::EFER, efer) };
    paging::flush();
    let mut values = [
        ("load", address_bit.error, PROTECTION | RESERVED),
        ("store", store.error, PROTECTION | RESERVED | WRITE),
        ("absent", absent.error, 0),
        ("bit_63", no_nx.error, PROTECTION | RESERVED),
        ("fetch", fetch.error, 0),
    ];
    let [physical_bits, ..] = control::cpuid(0x8000_0008, 0);
    if physical_bits & 0xFF > 51 {
        // Then the address is only far away.
        values[0].2 = values[0].1;
        values[1].2 = values[1].1;
    }
    checks.check("reserved_bits", &values);
}

fn user(checks: &mut Checks, space: &Space) {
    let code = address(CODE);
    let here = address(PAGE_HERE);
    let load = || access::by_user(code + USER_LOAD, here);
    let store = || access::by_user(code + USER_STORE, here);
    let jump = || access::by_user(code + USER_JUMP, here);
    write(frame(2), access::user_function());
    space.map(PAGE_HERE, frame(2), OPEN);
    let open = [load().error, jump().error, store().error];
    let stored = read(frame(2));
    space.map(PAGE_HERE, frame(2), PRESENT | USER);
    let read_only = [load().error, store().error];
    space.map(PAGE_HERE, frame(2), PRESENT | WRITABLE);
    let closed = [load().error, store().error, jump().error];
    space.map(PAGE_HERE, frame(2), OPEN | NO_EXECUTE);
    let no_execute = jump().error;
    space.map(PAGE_HERE, 0, 0);
    let absent = [load().error, store().error, jump().error];
    let user = access::USER;
    checks.check(
        "user",
        &[
            ("load", open[0], DONE),
            ("jump", open[1], DONE),
            ("store", open[2], DONE),
            ("stored", stored, here),
            ("read_only_load", read_only[0], DONE),
            ("read_only_store", read_only[1], user | PROTECTION | WRITE),
            ("closed_load", closed[0], user | PROTECTION),
            ("closed_store", closed[1], user | PROTECTION | WRITE),
            ("closed_jump", closed[2], user | PROTECTION | FETCH),
            ("no_execute", no_execute, user | PROTECTION | FETCH),
            ("absent_load", absent[0], user),
            ("absent_store", absent[1], user | WRITE),
            ("absent_jump", absent[2], user | FETCH),
        ],
    );
}

/// Every level must be open.
fn user_tables(checks: &mut Checks, space: &Space) {
    let load = || access::by_user(address(CODE) + USER_LOAD, address(PAGE_HERE));
    space.map(PAGE_HERE, frame(2), OPEN);
    let table = space.directory_entry(0);
    write(table, read(table) & !USER);
    paging::flush();
    let closed = load();
    write(table, read(table) | USER);
    paging::flush();
    let open = load();
    checks.check(
        "user_tables",
        &[
            ("closed", closed.error, access::USER | PROTECTION),
            ("open", open.error, DONE),
        ],
    );
}
