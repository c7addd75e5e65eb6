//! What a replica's own log is good for: after a crash either log replays anywhere, and a replica that parts from its log says where.

use std::{ffi::OsStr, path::Path};

use lockstep_tests::{
    images, on_every_engine,
    rig::{self, CALM, PATIENCE, Scene, ask},
    told,
};
use vmm::{
    demo::{ArbiterKind, DemoError, Guest, Member},
    engine::EngineKind,
    host::Event,
    symbols::Symbols,
};

/// Exit code of a replica that may not go on.
const HALTED: i32 = 3;

/// Replays a log on no more than the log itself, and returns the events of the replay.
fn replay(log: &Path, folder: &Path) -> Vec<Event> {
    let options = ["replay", "--verify", "--console", "none", "--log"].map(OsStr::new);
    let (output, events) = told::run(options.into_iter().chain([log.as_os_str()]), folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    events
}

/// A pair whose replicas keep logs, the images in them.
async fn begin(scene: &mut Scene, folder: &Path) -> Result<vmm::demo::Client, DemoError> {
    scene.rig.start_arbiter().await?;
    let log = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (primary, backup) = (log("primary.log"), log("backup.log"));
    let rotate = ["--log-images", "--log-rotate", "16K"];
    scene
        .rig
        .start_backup(&[&["--log", &backup], &rotate[..]].concat())?;
    scene
        .rig
        .start_primary(&[&["--log", &primary], &rotate[..]].concat())?;
    scene.rig.wait_until_ready(Member::Primary).await?;
    scene.rig.connect(1, PATIENCE).await
}

fn play<F>(engine: EngineKind, story: F)
where
    F: AsyncFnOnce(&mut Scene) -> Result<(), DemoError>,
{
    let options = rig::options(engine, Guest::Bare, ArbiterKind::Tcp, CALM);
    rig::play(options, |mut scene: Scene| async move {
        let result = story(&mut scene).await;
        (scene, result)
    });
}

on_every_engine! {
    fn after_a_crash_the_logs_of_both_replicas_replay(engine) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        play(engine, async |scene| {
            let mut client = begin(scene, path).await?;
            ask(&mut client, 200).await?;
            scene.rig.kill(Member::Primary)?;
            scene.expect_live(Member::Backup).await?;
            ask(&mut client, 200).await?;
            scene.rig.kill(Member::Backup)?;
            scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
            Ok(())
        });
        let position = |events: &[Event]| {
            let ends = events.iter().find_map(|event| match event {
                Event::LogEnded { position, .. } => Some(*position),
                _ => None,
            });
            ends.unwrap_or_else(|| panic!("the log ends before the guest: {events:?}"))
        };
        let primary = position(&replay(&path.join("primary.log"), path));
        let backup = position(&replay(&path.join("backup.log"), path));
        assert!(backup > primary, "the backup went on where the primary stopped: {backup}, {primary}");
        assert!(path.join("backup.log.1").exists(), "more than one file");
    }

    fn a_backup_with_a_flipped_bit_says_so_and_the_primary_goes_on_unprotected(engine) {
        play(engine, async |scene| {
            scene.rig.start_arbiter().await?;
            scene.rig.start_backup(&["--inject", &fault()])?;
            scene.rig.start_primary(&[])?;
            scene.rig.wait_until_ready(Member::Primary).await?;
            let mut client = scene.rig.connect(1, PATIENCE).await?;
            ask(&mut client, 50).await?;
            let diverged = |event: &Event| matches!(event, Event::Divergence { .. });
            let told = scene.expect(Member::Backup, "that it diverged", diverged).await?;
            let Event::Divergence { last_entries, mode, .. } = told else {
                unreachable!("it was asked for")
            };
            assert!(!last_entries.is_empty() && mode.contains("64-bit"), "{mode}");
            let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
            assert_eq!(status.code(), Some(HALTED));
            let live = |event: &Event| matches!(event, Event::Live { .. });
            assert!(!scene.has(Member::Backup, live)?, "it went live");
            // It went on when it had won the next term, and says why.
            scene.expect_live(Member::Primary).await?;
            let told = |event: &Event| matches!(event, Event::PeerLost { why } if why.contains("no copy any more"));
            assert!(scene.has(Member::Primary, told)?);
            ask(&mut client, 50).await?;
            Ok(())
        });
    }
}

/// A bit of the guest's code: the first instruction of what it does with each byte of a request becomes another.
fn fault() -> String {
    let image = std::fs::read(images::bare("echo")).expect("the guest");
    let symbols = Symbols::of_elf(&image);
    let mut functions = symbols.functions();
    let (address, _) = functions
        .find(|(_, name)| name.contains("consume_byte"))
        .expect("the guest counts requests by byte");
    format!("memory:{address:#x}.7@100")
}
