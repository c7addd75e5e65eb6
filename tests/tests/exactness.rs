//! The software CPU stops at exactly any instruction, and whoever goes on from there does not know that it was stopped.
//!
//! `LOCKSTEP_EXACTNESS_SEED` chooses another timing, inputs and stops, `LOCKSTEP_EXACTNESS_STOPS` how many times more of them there are.

use lockstep_tests::exactness::{Subject, in_pieces, record, straight};

/// Stops of a bare-metal guest, about.
const BARE_STOPS: u64 = 2_500;
/// Stops of Linux.
const LINUX_STOPS: u64 = 8_000;
/// As many as there are instructions.
const EVERYWHERE: u64 = u64::MAX;

fn number(variable: &str) -> u64 {
    let text = std::env::var(variable).unwrap_or_else(|_| "1".to_owned());
    text.parse()
        .unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number"))
}

fn seed() -> u64 {
    number("LOCKSTEP_EXACTNESS_SEED")
}

/// Runs a guest to the end, and again in pieces: at least `stops` of them, or half as many as there are instructions.
fn exact(subject: &Subject, stops: u64) {
    let recording = record(subject, seed());
    let marks = straight(subject, &recording);
    let instructions = recording.finish.retired;
    let stops = stops.saturating_mul(number("LOCKSTEP_EXACTNESS_STOPS"));
    let longest = (instructions / stops).max(1);
    let stopped = in_pieces(subject, &recording, &marks, longest, seed());
    eprintln!(
        "{instructions} instructions, {} entries, {} turns, {stopped} stops",
        recording.log.len(),
        marks.len()
    );
    assert!(stopped >= stops.min(instructions / 2), "{stopped} stops");
}

macro_rules! bare {
    ($($name:ident($guest:literal, $options:literal, $expected:literal);)*) => {
        $(#[test] fn $name() { exact(&Subject::bare($guest, $options, $expected), BARE_STOPS); })*
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
    paging("paging", "", "paging: ok");
    self_modifying("self_modifying", "", "self-modifying: ok");
}

/// At every instruction: it is about what waits for one more.
#[test]
fn exceptions() {
    exact(
        &Subject::bare("exceptions", "", "exceptions: ok"),
        EVERYWHERE,
    );
}

#[test]
fn typist() {
    let subject = Subject::bare("typist", "", "petskcol");
    exact(&subject.hears("hello\nlockstep\nquit\n"), BARE_STOPS);
}

#[test]
fn linux_boots() {
    exact(&Subject::linux("poweroff", "lockstep: bye"), LINUX_STOPS);
}

#[test]
fn linux_tests_itself() {
    exact(&Subject::linux("selftest", "lockstep: bye"), LINUX_STOPS);
}

#[test]
fn a_distributions_kernel_boots() {
    // It has inputs and exits by the hundred thousand, and stops between many of them.
    exact(
        &Subject::stock("poweroff", "lockstep: bye"),
        LINUX_STOPS / 10,
    );
}

#[test]
fn the_same_boot_twice() {
    let subject = Subject::linux("poweroff", "lockstep: bye");
    record(&subject, seed()).assert_same(&record(&subject, seed()));
}
