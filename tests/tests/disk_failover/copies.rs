//! Disks that are not shared: each replica has a copy, and both copies are the same while both replicas live.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use bare::journal::record::SECTOR;
use lockstep_tests::{
    disk::{self, answers, begin, drain, expect_whole, image},
    journal::Journal,
    on_every_engine,
    rig::{self, CALM, PATIENCE, Scene, ask},
};
use vmm::{
    demo::{DemoError, DiskAccess, Member, RigDisk, RigOptions, network::Host},
    engine::EngineKind,
    host::Event,
};

/// Exit code of a replica that may not go on.
const HALTED: i32 = 3;
/// Exit code of a replica that cannot start.
const FAILED: i32 = 1;
/// Records of a run that ends.
const RECORDS: u64 = 40;

/// A pair whose guest ends after so many records; 0: never.
fn options(engine: EngineKind, records: u64) -> RigOptions {
    let disk = RigDisk::zeros(disk::DISK_BYTES, DiskAccess::Private);
    disk::options_with(engine, disk, CALM, &format!("count={records}"))
}

fn play<F>(options: RigOptions, story: F)
where
    F: AsyncFnOnce(&mut Scene) -> Result<(), DemoError>,
{
    rig::play(options, |mut scene: Scene| async move {
        let result = story(&mut scene).await;
        (scene, result)
    });
}

/// Lets the guest make its records and end, on both replicas.
async fn run_to_the_end(scene: &mut Scene) -> Result<(), DemoError> {
    let mut client = begin(scene, 1).await?;
    for _ in 0..RECORDS {
        client.fill_window()?;
        client.next_answer().await?;
    }
    for member in [Member::Primary, Member::Backup] {
        let status = scene.rig.wait_for_end(member, PATIENCE).await?;
        assert!(status.success(), "{}: {status}", member.name());
    }
    Ok(())
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("an image")
}

on_every_engine! {
    /// Twice: the copies are good for another run.
    fn after_a_clean_end_both_copies_are_the_same(engine) {
        play(options(engine, RECORDS), async |scene| {
            for run in 1..=2 {
                run_to_the_end(scene).await?;
                let [primary, backup] = [Host::Primary, Host::Backup].map(|host| image(scene, host));
                expect_whole(&primary, run * RECORDS);
                assert!(bytes(&primary) == bytes(&backup), "the copies differ after run {run}");
            }
            Ok(())
        });
    }

    /// The survivor's copy goes on; the other is told to be stale.
    fn the_copy_of_a_killed_primary_is_refused(engine) {
        play(options(engine, 0), async |scene| {
            let mut client = begin(scene, 3).await?;
            answers(&mut client, 50).await?;
            scene.rig.kill(Member::Primary)?;
            scene.expect_live(Member::Backup).await?;
            answers(&mut client, 100).await?;
            drain(&mut client).await?;
            expect_whole(&image(scene, Host::Backup), client.tally().answers());
            let journal = Journal::read(&image(scene, Host::Primary));
            assert!(journal.records.len() < 100, "it has nothing of what came later");

            scene.rig.start_primary(&[])?;
            let status = scene.rig.wait_for_end(Member::Primary, PATIENCE).await?;
            assert_eq!(status.code(), Some(FAILED), "it does not start");
            let said = scene.rig.stderr(Member::Primary)?;
            assert!(said.contains("is stale"), "{said}");
            // Nothing of this disturbs the survivor.
            ask(&mut client, 20).await?;
            drain(&mut client).await
        });
    }

    fn the_copy_of_a_killed_backup_is_refused(engine) {
        play(options(engine, 0), async |scene| {
            let mut client = begin(scene, 3).await?;
            answers(&mut client, 50).await?;
            scene.rig.kill(Member::Backup)?;
            answers(&mut client, 100).await?;
            scene.expect_live(Member::Primary).await?;
            answers(&mut client, 150).await?;
            drain(&mut client).await?;
            expect_whole(&image(scene, Host::Primary), client.tally().answers());

            scene.rig.start_backup(&[])?;
            let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
            assert_eq!(status.code(), Some(FAILED), "it does not start");
            let said = scene.rig.stderr(Member::Backup)?;
            assert!(said.contains("is stale"), "{said}");
            Ok(())
        });
    }

    /// What the backup reads there is not what the primary has read: it says so, and never goes live.
    fn a_copy_that_somebody_changed_is_found(engine) {
        play(options(engine, 0), async |scene| {
            let mut client = begin(scene, 2).await?;
            answers(&mut client, 40).await?;
            // Records that were written long ago, and will be read back.
            let copy = File::options().write(true).open(image(scene, Host::Backup));
            let copy = copy.expect("the backup's copy");
            // Whole pages, of which the guest writes none any more: Linux has a flush fail where a write past the page cache meets a changed page in it.
            copy.write_all_at(&[0xA5; 16 * SECTOR], 8 * SECTOR as u64)
                .expect("written");
            answers(&mut client, 140).await?;
            let diverged = |event: &Event| matches!(event, Event::Divergence { .. });
            let told = scene.expect(Member::Backup, "that it diverged", diverged).await?;
            let Event::Divergence { expected, .. } = &told else {
                unreachable!("it was asked for")
            };
            assert!(expected.contains("disk 0"), "{told:?}");
            let status = scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
            assert_eq!(status.code(), Some(HALTED));
            scene.expect_live(Member::Primary).await?;
            answers(&mut client, 160).await?;
            drain(&mut client).await?;
            expect_whole(&image(scene, Host::Primary), client.tally().answers());
            Ok(())
        });
    }

    /// Two copies that do not begin with the same bytes.
    fn different_copies_form_no_pair(engine) {
        play(options(engine, 0), async |scene| {
            let other = image(scene, Host::Backup);
            let mut changed = bytes(&other);
            changed[0] = 1;
            std::fs::write(&other, changed).expect("written");
            scene.rig.start_arbiter().await?;
            scene.rig.start_backup(&[])?;
            scene.rig.start_primary(&[])?;
            for member in [Member::Primary, Member::Backup] {
                let status = scene.rig.wait_for_end(member, PATIENCE).await?;
                assert_eq!(status.code(), Some(2), "{}", member.name());
                let said = scene.rig.stderr(member)?;
                assert!(said.contains("copy="), "{} says: {said}", member.name());
            }
            let formed = |event: &Event| matches!(event, Event::PairFormed { .. });
            assert!(!scene.has(Member::Backup, formed)?);
            Ok(())
        });
    }
}
