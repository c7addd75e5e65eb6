//! Whoever is killed, stopped or cut off: the client's connection goes on, and never are two replicas live.

use std::time::Duration;

use lockstep_tests::{
    images, on_every_engine,
    rig::{self, CALM, NERVOUS, PATIENCE, Scene, ask},
};
use tokio::sync::watch;
use vmm::{
    demo::{
        ArbiterKind, DemoError, Guest, Images, Member, RigOptions,
        network::{Cable, Host},
        rig::BACKUP_PORT,
        round::{self, Stage},
    },
    engine::EngineKind,
    host::Event,
};

/// Exit code of a replica that may not go on.
const HALTED: i32 = 3;

/// A story as a test on each engine: `story!(name, options, |scene| { … })`.
macro_rules! story {
    ($(#[$meta:meta])* $name:ident, $options:expr, |$scene:ident| $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn tell(engine: EngineKind) {
                rig::play($options(engine), |mut $scene: Scene| async move {
                    let result: Result<(), DemoError> = async { $body Ok(()) }.await;
                    ($scene, result)
                });
            }

            #[test]
            fn kvm() {
                tell(EngineKind::Kvm);
            }

            #[test]
            fn soft() {
                tell(EngineKind::Soft);
            }
        }
    };
}

/// A bare guest's pair, but for its engine.
fn bare(arbiter: ArbiterKind, failure_timeout: Duration) -> impl FnOnce(EngineKind) -> RigOptions {
    move |engine| rig::options(engine, Guest::Bare, arbiter, failure_timeout)
}

/// Plays the demo's story: SIGKILL of the primary with requests in flight.
fn kill_the_primary(engine: EngineKind, guest: Guest, arbiter: ArbiterKind, kill_after: Duration) {
    let _one = rig::serial();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (stage, _) = watch::channel(Stage::Starting);
    let options = rig::options(engine, guest, arbiter, CALM);
    let round = runtime.block_on(round::play(options, kill_after, &stage));
    let report = round.result.unwrap_or_else(|error| {
        panic!(
            "killed after {kill_after:?}: {error}\n{:#?}",
            round.evidence
        )
    });
    assert!(
        report.passed(),
        "killed after {kill_after:?}: {:?}\n{:#?}",
        report.faults,
        round.evidence
    );
}

/// Times to kill at, by SplitMix64; another seed can be set.
fn kill_times(rounds: u64) -> impl Iterator<Item = Duration> {
    let seed: u64 = std::env::var("LOCKSTEP_KILL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    (0..rounds).map(move |round| {
        let mut z = seed.wrapping_add(round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_micros((z ^ (z >> 31)) % 500_000)
    })
}

on_every_engine! {
    fn the_primary_is_killed_at_fifty_random_times(engine) {
        for kill_after in kill_times(50) {
            kill_the_primary(engine, Guest::Bare, ArbiterKind::Tcp, kill_after);
        }
    }

    fn the_primary_of_a_linux_guest_is_killed(engine) {
        for kill_after in kill_times(3) {
            kill_the_primary(
                engine,
                Guest::Linux,
                ArbiterKind::Tcp,
                Duration::from_secs(1) + kill_after,
            );
        }
    }

    fn a_guest_that_computes_without_exits_computes_on_after_a_failover(engine) {
        // 52 ms from tick to tick: longer than between two digests.
        computes_on(engine, "spinner", "hz=19 count=20");
    }

    /// State deltas of many mebibytes: more than the channel holds at a time.
    fn a_guest_that_dirties_much_memory_computes_on_after_a_failover(engine) {
        computes_on(engine, "scribbler", "hz=19 count=20 mib=8");
    }
}

/// The backup takes over in the middle of a computation, at whatever instruction the log ended at; on KVM, from the last exit or state delta.
fn computes_on(engine: EngineKind, guest: &str, options_of_guest: &str) {
    for kill_after in kill_times(5) {
        let mut options = bare(ArbiterKind::Tcp, CALM)(engine);
        let kernel = images::bare(guest);
        options.images = Images::named(Guest::Bare, kernel, None, options_of_guest);
        rig::play(options, |mut scene: Scene| async move {
            let result = async {
                scene.rig.start_pair().await?;
                let formed = |event: &Event| matches!(event, Event::PairFormed { .. });
                scene.expect(Member::Primary, "a pair", formed).await?;
                tokio::time::sleep(kill_after).await;
                scene.rig.kill(Member::Primary)?;
                scene.expect_live(Member::Backup).await?;
                let ended = |event: &Event| matches!(event, Event::Ended { reason, .. } if reason == "Reset");
                scene
                    .expect(Member::Backup, "the guest's end", ended)
                    .await?;
                Ok(())
            };
            let result = result.await;
            (scene, result)
        });
    }
}

/// KVM that steps over each instruction: slow, and a pair like any other.
#[test]
fn the_primary_of_a_guest_that_is_stepped_is_killed() {
    let options = bare(ArbiterKind::Tcp, CALM)(EngineKind::Kvm);
    rig::play(options, |mut scene: Scene| async move {
        let result = async {
            scene.rig.start_arbiter().await?;
            scene.rig.start_backup(&["--count", "step"])?;
            scene.rig.start_primary(&["--count", "step"])?;
            scene.rig.wait_until_ready(Member::Primary).await?;
            let mut client = scene.rig.connect(1, PATIENCE).await?;
            ask(&mut client, 3).await?;
            scene.rig.kill(Member::Primary)?;
            scene.expect_live(Member::Backup).await?;
            ask(&mut client, 3).await?;
            Ok(())
        };
        let result = result.await;
        (scene, result)
    });
}

story!(
    the_backup_is_killed_and_the_primary_goes_on_alone,
    bare(ArbiterKind::Tcp, CALM),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        scene.rig.kill(Member::Backup)?;
        ask(&mut client, 50).await?;
        scene.expect_live(Member::Primary).await?;
        ask(&mut client, 50).await?;
    }
);

story!(
    without_the_arbiter_nobody_goes_live_until_it_is_back,
    bare(ArbiterKind::Tcp, CALM),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        scene.rig.kill(Member::Arbiter)?;
        scene.rig.wait_for_end(Member::Arbiter, PATIENCE).await?;
        // A pair needs no arbiter while both live.
        ask(&mut client, 50).await?;
        scene.rig.kill(Member::Primary)?;
        let waits = |event: &Event| matches!(event, Event::WaitingForArbiter);
        scene
            .expect(Member::Backup, "that it waits for the arbiter", waits)
            .await?;
        let live = |event: &Event| matches!(event, Event::Live { .. });
        assert!(!scene.has(Member::Backup, live)?, "live without an arbiter");
        scene.rig.start_arbiter().await?;
        scene.expect_live(Member::Backup).await?;
        ask(&mut client, 50).await?;
    }
);

story!(
    /// The same for a primary that has lost its backup: it says what it waits for, and lets nothing out.
    without_the_arbiter_a_primary_that_lost_its_backup_waits_too,
    bare(ArbiterKind::Tcp, CALM),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        scene.rig.kill(Member::Arbiter)?;
        scene.rig.wait_for_end(Member::Arbiter, PATIENCE).await?;
        scene.rig.kill(Member::Backup)?;
        let waits = |event: &Event| matches!(event, Event::WaitingForArbiter);
        scene
            .expect(Member::Primary, "that it waits for the arbiter", waits)
            .await?;
        let sent_before = scene.frames_sent(Host::Primary)?;
        client.fill_window()?;
        let live = |event: &Event| matches!(event, Event::Live { .. });
        assert!(
            !scene.has(Member::Primary, live)?,
            "live without an arbiter"
        );
        let sent = scene.frames_sent(Host::Primary)?;
        assert_eq!(sent, sent_before, "frames left without a claim");
        scene.rig.start_arbiter().await?;
        scene.expect_live(Member::Primary).await?;
        client.next_answer().await?;
        ask(&mut client, 50).await?;
    }
);

story!(
    /// The stopped primary wakes up with acknowledgements in its socket and outputs in its gate, and must emit nothing.
    a_primary_that_was_stopped_finds_that_it_lost,
    bare(ArbiterKind::Tcp, NERVOUS),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        client.fill_window()?;
        scene.rig.stop(Member::Primary)?;
        scene.expect_live(Member::Backup).await?;
        let sent_before = scene.frames_sent(Host::Primary)?;
        ask(&mut client, 50).await?;
        scene.rig.resume(Member::Primary)?;
        let status = scene.rig.wait_for_end(Member::Primary, PATIENCE).await?;
        assert_eq!(status.code(), Some(HALTED), "the loser halts");
        let lost = |event: &Event| matches!(event, Event::ClaimLost { term: 2 });
        assert!(scene.has(Member::Primary, lost)?, "it says why");
        let sent_after = scene.frames_sent(Host::Primary)?;
        assert_eq!(sent_after, sent_before, "the loser sent frames after it woke up");
        ask(&mut client, 50).await?;
    }
);

story!(
    /// The other way round: the backup was stopped; the primary goes on, and the backup must not.
    a_backup_that_was_stopped_finds_that_it_lost,
    bare(ArbiterKind::File, NERVOUS),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        scene.rig.stop(Member::Backup)?;
        ask(&mut client, 50).await?;
        scene.expect_live(Member::Primary).await?;
        scene.rig.resume(Member::Backup)?;
        let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
        assert_eq!(status.code(), Some(HALTED), "the loser halts");
        ask(&mut client, 50).await?;
    }
);

story!(
    /// Both replicas live and reach the arbiter, but not each other: exactly one goes on.
    a_cut_between_the_hosts_leaves_one_live,
    bare(ArbiterKind::File, NERVOUS),
    |scene| {
        let mut client = scene.begin().await?;
        ask(&mut client, 50).await?;
        scene.rig.network().unplug(Cable::Channel)?;
        let live = |event: &Event| matches!(event, Event::Live { .. });
        let halted = |event: &Event| matches!(event, Event::Halted { .. });
        ask(&mut client, 50).await?;
        let (winner, loser) = if scene.has(Member::Primary, live)? {
            (Member::Primary, Member::Backup)
        } else {
            (Member::Backup, Member::Primary)
        };
        scene.expect_live(winner).await?;
        scene.expect(loser, "that it halted", halted).await?;
        let status = scene.rig.wait_for_end(loser, PATIENCE).await?;
        assert_eq!(status.code(), Some(HALTED), "the loser halts");
        assert!(!scene.has(loser, live)?, "two replicas were live");
        ask(&mut client, 50).await?;
    }
);

story!(
    /// A port scanner, or a browser: the backup says so and waits on.
    a_backup_survives_whoever_is_no_primary,
    bare(ArbiterKind::File, CALM),
    |scene| {
        scene.rig.start_backup(&[])?;
        let address = (Host::Backup.channel_address(), BACKUP_PORT);
        for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 100]] {
            let talk = || {
                use std::io::Write;
                let mut stream = scene.patiently_connect(address);
                // The backup may have closed already.
                drop(stream.write_all(garbage));
            };
            scene.rig.network().on_host(Host::Primary, talk)?;
        }
        scene.rig.start_primary(&[])?;
        scene.rig.wait_until_ready(Member::Primary).await?;
        let mut client = scene.rig.connect(1, PATIENCE).await?;
        ask(&mut client, 10).await?;
    }
);

story!(
    /// Different command lines: no pair, and both say what differs.
    a_mismatched_pair_is_refused_with_the_difference,
    bare(ArbiterKind::File, CALM),
    |scene| {
        scene.rig.start_backup(&[])?;
        scene.rig.start_primary(&["--mac", "52:54:00:00:00:99"])?;
        for member in [Member::Primary, Member::Backup] {
            let status = scene.rig.wait_for_end(member, PATIENCE).await?;
            assert_eq!(status.code(), Some(2), "{}", member.name());
            let said = scene.rig.stderr(member)?;
            assert!(said.contains("52:54:00:00:00:99"), "{} says: {said}", member.name());
        }
    }
);
