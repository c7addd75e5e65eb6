//! What the replicas' own logs of a pair with a disk are good for: they replay, without the disk.

use std::{ffi::OsStr, path::Path};

use lockstep_tests::{
    disk::{self, answers, drain, expect_whole, image},
    on_every_engine,
    rig::{self, CALM, PATIENCE, Scene},
    told,
};
use vmm::{
    demo::{DemoError, DiskAccess, Member, RigDisk, network::Host},
    host::Event,
    session::disk_config::Reads,
};

/// Replays a log on no more than the log itself: how it ended.
fn replay(log: &Path, folder: &Path) -> Event {
    let options = ["replay", "--verify", "--console", "none", "--log"].map(OsStr::new);
    let (output, events) = told::run(options.into_iter().chain([log.as_os_str()]), folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let end = |event: &Event| matches!(event, Event::LogEnded { .. } | Event::Ended { .. });
    let end = events.iter().find(|event| end(event)).cloned();
    end.unwrap_or_else(|| panic!("the replay has an end: {events:?}"))
}

on_every_engine! {
    fn after_a_failover_the_logs_of_both_replicas_replay_without_the_disk(engine) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let disk = RigDisk::zeros(disk::DISK_BYTES, DiskAccess::File { reads: Reads::Log });
        let options = disk::options_with(engine, disk, CALM, "count=120");
        rig::play(options, |mut scene: Scene| async move {
            let result: Result<(), DemoError> = async {
                scene.rig.start_arbiter().await?;
                let log = |name: &str| path.join(name).to_string_lossy().into_owned();
                let (primary, backup) = (log("primary.log"), log("backup.log"));
                scene.rig.start_backup(&["--log-images", "--log", &backup])?;
                scene.rig.start_primary(&["--log-images", "--log", &primary])?;
                scene.rig.wait_until_ready(Member::Primary).await?;
                let mut client = scene.rig.connect(3, PATIENCE).await?;
                answers(&mut client, 50).await?;
                scene.rig.kill(Member::Primary)?;
                // With these, and the two then in flight, the guest has all that it waits for.
                answers(&mut client, 118).await?;
                drain(&mut client).await?;
                let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
                assert!(status.success(), "{status}");
                expect_whole(&image(&scene, Host::Backup), 120);
                let ended = |event: &Event| matches!(event, Event::Ended { .. });
                let told = scene.expect(Member::Backup, "the guest's end", ended).await?;
                assert_eq!(replay(path.join("backup.log").as_path(), path), told, "the same end");
                let primary = replay(path.join("primary.log").as_path(), path);
                assert!(matches!(primary, Event::LogEnded { .. }), "it was killed: {primary:?}");
                Ok(())
            }
            .await;
            (scene, result)
        });
    }
}

/// A log that lacks what the disk's readers read for themselves cannot be replayed: it is refused at once.
#[test]
fn a_log_that_could_not_be_replayed_is_refused() {
    let reads = Reads::SelfRead;
    let options = disk::options(
        lockstep_tests::engines::EngineKind::Soft,
        DiskAccess::File { reads },
        CALM,
    );
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log").to_string_lossy().into_owned();
    rig::play(options, |mut scene: Scene| async move {
        let result: Result<(), DemoError> = async {
            scene.rig.start_backup(&["--log", &log])?;
            let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
            assert_eq!(status.code(), Some(1));
            let said = scene.rig.stderr(Member::Backup)?;
            assert!(said.contains("reads=log"), "{said}");
            Ok(())
        }
        .await;
        (scene, result)
    });
}
