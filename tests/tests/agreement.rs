//! KVM that steps over each instruction, and the software CPU: the same guest is in the same state at the same positions.
//!
//! `LOCKSTEP_AGREEMENT_SEED` chooses another timing, inputs and stops, `LOCKSTEP_AGREEMENT_INSTRUCTIONS` how many are compared at most. Left out are `exceptions`, which kvm-pvm cannot run (it has no INT3 and no INT n at
//! privilege level 0, and a guest that single-steps itself cannot be stepped), `paging`, which checks what the two CPU models differ in (pages of
//! 1 GiB, SMEP, SMAP), and `echo`, which wants a network.

use lockstep_tests::{agreement::agree, exactness::Subject};

/// Of a guest, some 10 s.
const INSTRUCTIONS: u64 = 200_000;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")),
        Err(_) => default,
    }
}

/// Replays on both, in pieces of at most `longest` instructions.
fn same(subject: &Subject, longest: u64) {
    let seed = number("LOCKSTEP_AGREEMENT_SEED", 1);
    let most = number("LOCKSTEP_AGREEMENT_INSTRUCTIONS", INSTRUCTIONS);
    let compared = agree(subject, seed, longest, most);
    eprintln!("{compared:?}");
    assert!(compared.turns >= 200, "{compared:?}");
}

macro_rules! bare {
    ($($name:ident($guest:literal, $options:literal, $expected:literal, $longest:literal);)*) => {
        $(#[test] fn $name() { same(&Subject::bare($guest, $options, $expected), $longest); })*
    };
}

bare! {
    counter("counter", "count=10 words=64 hz=100", "counter end", 50);
    sleeper("sleeper", "count=10 hz=200", "sleeper end", 20);
    spinner("spinner", "count=5 hz=1000", "spinner end", 100);
    clock("clock", "count=50", "backwards=0", 20);
    entropy("entropy", "count=10", "entropy end", 20);
    faults("faults", "count=3", "faults end", 2);
    user("user", "count=5 loops=200 hz=200", "user end", 20);
}

#[test]
fn typist() {
    let subject = Subject::bare("typist", "", "petskcol");
    same(&subject.hears("hello\nlockstep\nquit\n"), 20);
}

/// It executes CPUID, whose answer it does not use, only to serialise. The stores that are left out kvm-pvm does not emulate.
#[test]
fn self_modifying() {
    let skipped = "skip=store_x87,store_sse,store_unaligned_sse,store_past_the_cache";
    let subject = Subject::bare("self_modifying", skipped, "self-modifying: ok");
    same(&subject.without_cpuid(), 500);
}
