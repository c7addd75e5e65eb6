//! Every guest, recorded with several seeds of its timing and replayed three times, in processes of their own: same output, same end, same state.

use std::time::Duration;

use lockstep_tests::{
    engines::EngineKind,
    images, on_every_engine,
    twins::{Guest, Recording, Talk},
};
use vmm::{engine::kvm::CountKind, machine::boot::BootProtocol};

/// Seeds of the recorded runs' timing.
const SEEDS: std::ops::Range<u64> = 1..6;
/// For runs that take seconds.
const FEW_SEEDS: std::ops::Range<u64> = 1..4;

fn twins(guest: &Guest, expected_output: &str) {
    twins_of(SEEDS, guest, expected_output);
}

fn twins_of(seeds: std::ops::Range<u64>, guest: &Guest, expected_output: &str) {
    for seed in seeds {
        eprintln!("timing seed {seed}");
        let recording = Recording::make(guest, seed);
        let output = String::from_utf8_lossy(&recording.end.console);
        assert!(output.contains(expected_output), "seed {seed}: {output}");
        recording.replays_alike();
    }
}

/// KVM that steps over each instruction: guests that need few of them.
mod kvm_step {
    use super::*;

    fn stepped(name: &str, command_line: &str, expected_output: &str) {
        let guest = Guest {
            count: CountKind::Step,
            ..Guest::bare(EngineKind::Kvm, name, command_line)
        };
        twins_of(FEW_SEEDS, &guest, expected_output);
    }

    #[test]
    fn counter() {
        stepped("counter", "count=3 words=64 hz=100", "counter end");
    }

    #[test]
    fn sleeper() {
        stepped("sleeper", "count=10 hz=100", "sleeper end");
    }

    /// Without an exit, and yet it is interrupted.
    #[test]
    fn spinner() {
        stepped("spinner", "count=5 hz=100", "spinner end");
    }

    #[test]
    fn entropy() {
        stepped("entropy", "count=5", "entropy end");
    }

    #[test]
    fn faults() {
        stepped("faults", "", "faults end");
    }

    #[test]
    fn user() {
        stepped("user", "count=3 loops=200 hz=100", "user end");
    }
}

on_every_engine! {
    fn counter(engine) {
        twins(&Guest::bare(engine, "counter", "count=20 hz=100"), "counter end");
    }

    /// Without an exit: on KVM by state deltas.
    fn spinner(engine) {
        twins(&Guest::bare(engine, "spinner", "count=30 hz=200"), "spinner end");
    }

    /// The same, with much memory written.
    fn scribbler(engine) {
        let guest = Guest {
            memory: "32M",
            ..Guest::bare(engine, "scribbler", "count=3 hz=50 mib=4")
        };
        twins(&guest, "scribbler end");
    }

    fn sleeper(engine) {
        twins(&Guest::bare(engine, "sleeper", "count=30 hz=200"), "sleeper end");
    }

    fn clock(engine) {
        twins(&Guest::bare(engine, "clock", "count=100"), "backwards=0");
    }

    fn entropy(engine) {
        twins(&Guest::bare(engine, "entropy", "count=10"), "entropy end");
    }

    fn faults(engine) {
        twins(&Guest::bare(engine, "faults", ""), "faults end");
    }

    fn user(engine) {
        twins(&Guest::bare(engine, "user", "count=20 hz=200"), "user end");
    }

    fn typist(engine) {
        let guest = Guest {
            talk: Talk::Typed("hello\nlockstep\nquit\n"),
            ..Guest::bare(engine, "typist", "")
        };
        twins(&guest, "petskcol");
    }

    fn echo(engine) {
        let guest = Guest {
            talk: Talk::Requests(100),
            ..Guest::bare(engine, "echo", "net.ip=172.31.0.2 count=100")
        };
        twins(&guest, "echo end answers=100");
    }

    /// The replays have no disk: all that it said is in the log.
    fn journal_on_its_own(engine) {
        let guest = Guest {
            disk_bytes: 1 << 20,
            ..Guest::bare(engine, "journal", "own=100")
        };
        twins(&guest, "journal end records=100");
    }

    fn journal_with_a_client(engine) {
        let guest = Guest {
            talk: Talk::Requests(60),
            disk_bytes: 1 << 20,
            ..Guest::bare(engine, "journal", "net.ip=172.31.0.2 count=60")
        };
        twins(&guest, "journal end records=60");
    }

    fn linux_boots_alike(engine) {
        let command_line = images::variable("LOCKSTEP_LINUX_CMDLINE");
        let guest = Guest {
            engine,
            count: CountKind::default(),
            kernel: images::variable("LOCKSTEP_LINUX_KERNEL").into(),
            boot: BootProtocol::Auto,
            initrd: Some(images::variable("LOCKSTEP_LINUX_INITRD").into()),
            command_line: format!("{command_line} lockstep.run=poweroff"),
            memory: "96M",
            disk_bytes: 0,
            talk: Talk::Nothing,
            limit: Duration::from_secs(600),
        };
        twins_of(FEW_SEEDS, &guest, "lockstep: bye");
    }
}
