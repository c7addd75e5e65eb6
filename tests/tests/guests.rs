//! Guests that check the processor under them, and the ways into a guest: recorded, replayed in other processes, and right in themselves.

use std::time::Duration;

use lockstep_tests::{
    engines::EngineKind,
    images, on_every_engine,
    twins::{Guest, Recording, Talk},
};
use vmm::{engine::kvm::CountKind, machine::boot::BootProtocol};

/// Seeds of the recorded runs' timing.
const SEEDS: std::ops::Range<u64> = 1..3;

/// The output of a guest that was recorded and replayed alike.
fn output(guest: &Guest) -> String {
    output_of(guest, 1)
}

fn output_of(guest: &Guest, timing_seed: u64) -> String {
    let recording = Recording::make(guest, timing_seed);
    recording.replays_alike();
    String::from_utf8_lossy(&recording.end.console).into_owned()
}

/// `guest`'s verdict must be the last line. `beyond_kvm` are checks that not every KVM passes (`guest-images/bare/README.md`).
fn verdict(engine: EngineKind, guest: &str, name: &str, beyond_kvm: &str) {
    let options = match engine {
        EngineKind::Kvm => format!("skip={beyond_kvm}"),
        EngineKind::Soft => String::new(),
    };
    for seed in SEEDS {
        let output = output_of(&Guest::bare(engine, name, &options), seed);
        let last = output.lines().last();
        assert_eq!(last, Some(format!("{guest}: ok").as_str()), "{output}");
    }
}

/// kvm-pvm cannot run it: it has no INT3 at privilege level 0.
#[test]
fn exceptions_on_soft() {
    verdict(EngineKind::Soft, "exceptions", "exceptions", "");
}

on_every_engine! {
    fn paging(engine) {
        verdict(engine, "paging", "paging", "half_a_word");
    }

    fn self_modifying(engine) {
        let beyond_kvm = "store_x87,store_sse,store_unaligned_sse,store_past_the_cache";
        verdict(engine, "self-modifying", "self_modifying", beyond_kvm);
    }

    fn a_guest_does_the_same_whichever_way_it_is_entered(engine) {
        let entered = |boot| Guest { boot, ..Guest::bare(engine, "counter", "count=3 seed=7") };
        let linux = output(&entered(BootProtocol::Linux64));
        assert_eq!(linux.lines().count(), 4, "{linux}");
        assert_eq!(output(&entered(BootProtocol::Pvh)), linux);
    }
}

fn stock_kernel(command_line: &str) -> Guest {
    Guest {
        engine: EngineKind::Soft,
        count: CountKind::default(),
        kernel: images::variable("LOCKSTEP_STOCK_KERNEL").into(),
        boot: BootProtocol::Auto,
        initrd: Some(images::variable("LOCKSTEP_LINUX_INITRD_SHELL").into()),
        command_line: command_line.to_owned(),
        memory: "96M",
        disk_bytes: 0,
        talk: Talk::Nothing,
        limit: Duration::from_secs(600),
    }
}

#[test]
fn a_distributions_kernel_runs_a_shell() {
    let command_line = images::variable("LOCKSTEP_STOCK_CMDLINE");
    let output = output(&stock_kernel(&format!(
        "{command_line} lockstep.run=shelltest"
    )));
    assert!(output.contains("lockstep: shelltest ok"), "{output}");
}

/// Its ciphers' tests included, which use the SSE instructions of the processor.
#[test]
fn a_distributions_kernel_needs_to_be_told_its_console_alone() {
    let recording = Recording::make(&stock_kernel("console=ttyS0 lockstep.run=shelltest"), 1);
    let output = String::from_utf8_lossy(&recording.end.console);
    assert!(output.contains("Linux version"), "{output}");
    assert!(!output.contains("alg: self-tests failed"), "{output}");
    assert!(output.contains("lockstep: shelltest ok"), "{output}");
}

#[test]
fn kvm_refuses_a_compressed_kernel() {
    let refused = std::process::Command::new(images::lockstep())
        .args(["run", "--engine", "kvm", "--kernel"])
        .arg(images::variable("LOCKSTEP_STOCK_KERNEL"))
        .output()
        .expect("lockstep runs");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(
        errors.contains("compressed") && errors.contains("--engine soft"),
        "{errors}"
    );
}
