//! A primary that is stopped in front of the disk, and goes on when its backup has long been live.
//!
//! On a plain file nobody holds it back: its write is done, and what the backup's guest has told its clients since is contradicted. That is why there is
//! `lockstep disk-server`, where the same story ends well.

use lockstep_tests::{
    disk::{self, answers, begin, drain, expect_whole, image},
    journal::Journal,
    on_every_engine,
    rig::{self, NERVOUS, PATIENCE, Scene},
};
use vmm::{
    demo::{DemoError, DiskAccess, Member, RigDisk, network::Host},
    engine::EngineKind,
    host::Event,
    session::disk_config::Reads,
};

/// Exit code of a replica that may not go on.
const HALTED: i32 = 3;
/// Records before the primary stops.
const BEFORE: u64 = 20;
/// And after.
const AFTER: u64 = 40;
/// A client that has one request at a time has the guest change the disk three times for each record: the record, the header, the flush. The
/// primary stops in front of this record's header.
const STOP: u64 = 3 * BEFORE + 2;

/// Plays it up to where the primary has woken up and ended, with the backup live; then `verdict` gets the scene, the client and the answers so far.
fn play<F>(engine: EngineKind, access: DiskAccess, verdict: F)
where
    F: AsyncFnOnce(&mut Scene, &mut vmm::demo::Client) -> Result<(), DemoError>,
{
    let mut disk = RigDisk::zeros(disk::DISK_BYTES, access);
    disk.primary_fault = Some(format!("before-write:{STOP}:stop"));
    let options = disk::options_with(engine, disk, NERVOUS, "");
    rig::play(options, |mut scene: Scene| async move {
        let result = async {
            let mut client = begin(&mut scene, 1).await?;
            // The answer to the record after these comes from the backup.
            answers(&mut client, BEFORE + AFTER).await?;
            scene.expect_live(Member::Backup).await?;
            let live = |event: &Event| matches!(event, Event::Live { .. });
            assert!(!scene.has(Member::Primary, live)?, "it was stopped");
            drain(&mut client).await?;
            expect_whole(&image(&scene, Host::Backup), client.tally().answers());
            scene.rig.resume(Member::Primary)?;
            let status = scene.rig.wait_for_end(Member::Primary, PATIENCE).await?;
            assert_eq!(status.code(), Some(HALTED), "the loser halts");
            verdict(&mut scene, &mut client).await
        };
        let result = result.await;
        (scene, result)
    });
}

on_every_engine! {
    /// The naive scheme. If this ever fails because nothing is lost, plain files fence by some accident, and the test shows nothing.
    fn on_a_plain_file_durable_records_are_contradicted(engine) {
        let access = DiskAccess::File { reads: Reads::Log };
        play(engine, access, async |scene, client| {
            let answered = client.tally().answers();
            let journal = Journal::read(&image(scene, Host::Backup));
            let header = journal.header.expect("a header, and an old one");
            assert_eq!(header.count, BEFORE + 1, "the stopped primary's header");
            assert!(!journal.faults(answered).is_empty(), "{answered} records were answered");
            // The guest sees it as soon as it looks.
            client.fill_window()?;
            let told = tokio::time::timeout(PATIENCE, client.next_answer()).await;
            let told = told.expect("it answers").expect_err("its disk is wrong");
            assert!(told.to_string().contains("the header is wrong"), "{told}");
            Ok(())
        });
    }

    /// The disk server has cut the stopped primary off before it let the backup write.
    fn on_a_disk_server_nothing_is_lost(engine) {
        for reads in [Reads::Log, Reads::SelfRead] {
            play(engine, DiskAccess::Server { reads }, async |scene, client| {
                let told = |event: &Event| {
                    matches!(event, Event::Disk { what, .. } if what == "cut-off")
                        || matches!(event, Event::ClaimLost { term: 2 })
                };
                assert!(scene.has(Member::Primary, told)?, "it says why it halts");
                let answered = client.tally().answers();
                expect_whole(&image(scene, Host::Backup), answered);
                answers(client, answered + AFTER).await?;
                drain(client).await?;
                expect_whole(&image(scene, Host::Backup), client.tally().answers());
                Ok(())
            });
        }
    }
}
