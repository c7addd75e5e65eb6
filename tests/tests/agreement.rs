//! The same guest is in the same state at the same positions: on KVM that steps over each instruction and on the software CPU, and on KVM with a
//! counter that is late whatever it is late by.
//!
//! `LOCKSTEP_AGREEMENT_SEED` chooses another timing, inputs and stops, `LOCKSTEP_AGREEMENT_INSTRUCTIONS` how many are compared at most. Left out are `exceptions`, which kvm-pvm cannot run (it has no INT3 and no INT n at
//! privilege level 0, and a guest that single-steps itself cannot be stepped), `paging`, which checks what the two CPU models differ in (pages of
//! 1 GiB, SMEP, SMAP), and `echo`, which wants a network.

use lockstep_tests::{
    agreement::{Course, late_counters_agree, stepping_agrees},
    exactness::Subject,
};

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

/// In pieces of at most `longest`.
fn course(longest: u64) -> Course {
    Course {
        seed: number("LOCKSTEP_AGREEMENT_SEED", 1),
        longest,
        most: number("LOCKSTEP_AGREEMENT_INSTRUCTIONS", INSTRUCTIONS),
    }
}

fn same(subject: &Subject, longest: u64) {
    let compared = stepping_agrees(subject, course(longest));
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

/// Conditional branches that are compared in a run under late counters: some instructions each.
const BRANCHES: u64 = 20_000;

fn late(subject: &Subject, seed: u64, beyond: u64) -> Result<u64, String> {
    let course = Course {
        seed,
        most: BRANCHES,
        ..course(200)
    };
    late_counters_agree(subject, course, beyond).map(|compared| compared.turns)
}

#[test]
fn counters_that_are_late_stop_at_the_same_places() {
    for seed in 1..3 {
        for subject in [
            Subject::bare("counter", "count=3 words=32 hz=2000", "counter end"),
            Subject::bare("faults", "count=1", "faults end"),
            Subject::bare("user", "count=2 loops=100 hz=2000", "user end"),
        ] {
            let turns = late(&subject, seed, 0).unwrap_or_else(|error| panic!("{error}"));
            assert!(turns >= 50, "{turns}");
        }
    }
}

#[test]
fn a_counter_that_is_later_than_it_says_is_found_out() {
    let subject = Subject::bare("counter", "count=3 words=32 hz=2000", "counter end");
    let mut refused = 0;
    for seed in 1..4 {
        // What is not refused agreed.
        if let Err(error) = late(&subject, seed, 1000) {
            assert!(error.contains("too late"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0);
}
