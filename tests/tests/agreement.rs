//! KVM that steps over each instruction, and the software CPU: the same guest is in the same state at the same positions.

use lockstep_tests::{agreement::agree, exactness::Subject};

/// Replays on both, in pieces of at most `longest` instructions.
fn same(subject: &Subject, longest: u64) {
    let compared = agree(subject, 1, longest);
    eprintln!("{compared:?}");
    assert!(compared.turns >= 200, "{compared:?}");
}

macro_rules! bare {
    ($($name:ident($guest:literal, $options:literal, $expected:literal, $longest:literal);)*) => {
        $(#[test] fn $name() { same(&Subject::bare($guest, $options, $expected), $longest); })*
    };
}

bare! {
    counter("counter", "count=5 words=64 hz=100", "counter end", 100);
    sleeper("sleeper", "count=10 hz=200", "sleeper end", 100);
    spinner("spinner", "count=3 hz=1000", "spinner end", 100);
    clock("clock", "count=20", "backwards=0", 100);
    entropy("entropy", "count=5", "entropy end", 20);
    faults("faults", "count=3", "faults end", 20);
    paging("paging", "skip=half_a_word", "paging: ok", 100);
    self_modifying("self_modifying", "skip=store_x87,store_sse,store_unaligned_sse,store_past_the_cache", "self-modifying: ok", 100);
    user("user", "count=3 loops=200 hz=200", "user end", 100);
}
