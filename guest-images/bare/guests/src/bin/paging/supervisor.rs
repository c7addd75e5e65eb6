//! SMEP and SMAP, where CPUID announces them: what level 0 may not do with pages of level 3 (Intel SDM 3A §4.6).

use bare::machine::checks::Checks;
use bare::machine::control::{self, CR4_SMAP, CR4_SMEP};
use bare::machine::paging::{PRESENT, WRITABLE};

use crate::access::{self, DONE, FETCH, PROTECTION, Seen, USER_LOAD, WRITE};
use crate::protection::CODE;
use bare::machine::space::{OPEN, Space, address, frame, write};

const PAGE_HERE: usize = 50;
/// CPUID 7, EBX.
const SMEP: u32 = 1 << 7;
const SMAP: u32 = 1 << 20;

/// Runs the checks.
pub fn check(checks: &mut Checks, space: &Space) {
    let [_, features, ..] = control::cpuid(7, 0);
    write(frame(3), access::function());
    space.map(PAGE_HERE, frame(3), OPEN);
    if features & SMEP != 0 {
        smep(checks, space);
    } else {
        checks.absent("smep", "CPUID has it not");
    }
    if features & SMAP != 0 {
        smap(checks, space);
    } else {
        checks.absent("smap", "CPUID has it not");
    }
}

/// Does something with bits of CR4 set.
fn with(bits: u64, act: impl FnOnce() -> Seen) -> Seen {
    let cr4 = control::cr4();
    // SAFETY: CPUID announces the bits, and this image lies in pages of level 0.
    unsafe { control::set_cr4(cr4 | bits) };
    let seen = act();
    // SAFETY: as it was.
    unsafe { control::set_cr4(cr4) };
    seen
}

fn smep(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    let before = access::call(here);
    let fetch = with(CR4_SMEP, || access::call(here));
    let load = with(CR4_SMEP, || access::load(here));
    space.map(PAGE_HERE, frame(3), PRESENT | WRITABLE);
    let own = with(CR4_SMEP, || access::call(here));
    space.map(PAGE_HERE, frame(3), OPEN);
    let after = access::call(here);
    checks.check(
        "smep",
        &[
            ("before", before.value, 7),
            ("fetch", fetch.error, PROTECTION | FETCH),
            ("rip", fetch.rip, here),
            ("load", load.error, DONE),
            ("own", own.value, 7),
            ("after", after.value, 7),
        ],
    );
}

fn smap(checks: &mut Checks, space: &Space) {
    let here = address(PAGE_HERE);
    let load = with(CR4_SMAP, || access::load(here));
    let store = with(CR4_SMAP, || access::store(here + 8, 1));
    let opened = with(CR4_SMAP, || access::load_open(here));
    let closed_again = with(CR4_SMAP, || {
        access::load_open(here);
        access::load(here)
    });
    let fetch = with(CR4_SMAP, || access::call(here));
    let by_user = with(CR4_SMAP, || {
        access::by_user(address(CODE) + USER_LOAD, here)
    });
    let after = access::load(here);
    space.map(PAGE_HERE, frame(3), PRESENT | WRITABLE);
    let own = with(CR4_SMAP, || access::load(here));
    checks.check(
        "smap",
        &[
            ("load", load.error, PROTECTION),
            ("store", store.error, PROTECTION | WRITE),
            ("opened", opened.error, DONE),
            ("closed_again", closed_again.error, PROTECTION),
            ("fetch", fetch.value, 7),
            ("by_user", by_user.error, DONE),
            ("after", after.error, DONE),
            ("own", own.error, DONE),
        ],
    );
}
