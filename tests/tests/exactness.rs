//! The software CPU stops at exactly any instruction, and what it goes on from there does not know that it was stopped.

use lockstep_tests::exactness::{Subject, in_pieces, record, straight};

/// Seed of the recorded runs.
const SEED: u64 = 1;

/// Runs a guest to the end, and again in pieces: some `stops` of them, on processors of their own.
fn exact(subject: &Subject, stops: u64) {
    let recording = record(subject, SEED);
    let marks = straight(subject, &recording);
    let longest = (recording.finish.retired / stops).max(1);
    let stopped = in_pieces(subject, &recording, &marks, longest, SEED);
    eprintln!(
        "{} instructions, {} entries, {} turns, {stopped} stops",
        recording.finish.retired,
        recording.log.len(),
        marks.len()
    );
    assert!(stopped >= stops, "{stopped} stops");
}

macro_rules! bare {
    ($($name:ident($guest:literal, $options:literal, $expected:literal);)*) => {
        $(#[test] fn $name() { exact(&Subject::bare($guest, $options, $expected), 1_000); })*
    };
}

bare! {
    counter("counter", "count=20 hz=100", "counter end");
    sleeper("sleeper", "count=30 hz=200", "sleeper end");
    spinner("spinner", "count=30 hz=200", "spinner end");
    clock("clock", "count=100", "backwards=0");
    entropy("entropy", "count=10", "entropy end");
    faults("faults", "", "faults end");
    user("user", "count=10 loops=20000 hz=200", "user end");
    exceptions("exceptions", "", "exceptions: ok");
    paging("paging", "", "paging: ok");
    self_modifying("self_modifying", "", "self-modifying: ok");
}

#[test]
fn typist() {
    let subject = Subject::bare("typist", "", "petskcol");
    exact(&subject.hears("hello\nlockstep\nquit\n"), 1_000);
}

#[test]
fn linux_boots() {
    exact(&Subject::linux("poweroff", "lockstep: bye"), 4_000);
}

#[test]
fn linux_tests_itself() {
    exact(&Subject::linux("selftest", "lockstep: bye"), 4_000);
}

#[test]
fn the_same_boot_twice() {
    let subject = Subject::linux("poweroff", "lockstep: bye");
    assert_eq!(record(&subject, SEED), record(&subject, SEED));
}
