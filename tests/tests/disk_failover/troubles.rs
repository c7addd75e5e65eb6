//! Disks in trouble: the user is told, the guest sees an I/O error, and nothing is lost that was answered.

use std::{fs::File, process::Command};

use lockstep_tests::{
    disk::{self, answers, begin, drain, expect_whole, image},
    images,
    journal::Journal,
    on_every_engine,
    rig::{self, CALM, PATIENCE, Scene},
    small_disk::SmallDisk,
};
use rustix::fs::{FlockOperation, fcntl_lock};
use vmm::{
    demo::{
        Client, DemoError, DiskAccess, Member, RigDisk,
        network::{Cable, Host},
    },
    engine::EngineKind,
    host::Event,
    session::disk_config::Reads,
};

const FILE: DiskAccess = DiskAccess::File { reads: Reads::Log };

fn play<F>(engine: EngineKind, disk: RigDisk, story: F)
where
    F: AsyncFnOnce(&mut Scene) -> Result<(), DemoError>,
{
    let options = disk::options_with(engine, disk, CALM, "");
    rig::play(options, |mut scene: Scene| async move {
        let result = story(&mut scene).await;
        (scene, result)
    });
}

/// Waits until the primary has told of a request that failed, with this reason in it.
async fn expect_failed(scene: &mut Scene, reason: &str) -> Result<(), DemoError> {
    let failed = |event: &Event| matches!(event, Event::Disk { what, .. } if what == "failed");
    let event = scene
        .expect(Member::Primary, "a request that failed", failed)
        .await?;
    let Event::Disk { text, .. } = event else {
        unreachable!("it was asked for")
    };
    assert!(text.contains(reason), "{text}");
    Ok(())
}

/// The next answer is this error.
async fn expect_error(client: &mut Client, error: &str) -> Result<(), DemoError> {
    client.fill_window()?;
    let told = tokio::time::timeout(PATIENCE, client.next_answer()).await;
    let told = told.expect("it answers").expect_err("an error");
    assert!(told.to_string().contains(error), "{told}");
    Ok(())
}

/// Both replicas saw the same: the backup goes live in the middle of the trouble, and its guest says what the primary's said.
async fn expect_the_same_after_a_failover(scene: &mut Scene, error: &str) -> Result<(), DemoError> {
    scene.rig.kill(Member::Primary)?;
    scene.expect_live(Member::Backup).await?;
    let mut client = scene.rig.connect(1, PATIENCE).await?;
    expect_error(&mut client, error).await?;
    let diverged = |event: &Event| matches!(event, Event::Divergence { .. });
    assert!(!scene.has(Member::Backup, diverged)?, "it diverged");
    Ok(())
}

on_every_engine! {
    fn a_full_disk_is_an_error_that_both_replicas_see(engine) {
        let folder = SmallDisk::mount(64);
        let disk = RigDisk {
            // The image has holes: most of it is not there.
            folder: Some(folder.path().to_owned()),
            ..RigDisk::zeros(disk::DISK_BYTES, FILE)
        };
        play(engine, disk, async |scene| {
            let mut client = begin(scene, 1).await?;
            answers(&mut client, 50).await?;
            let mut answered = 50;
            let told = loop {
                client.fill_window()?;
                match client.next_answer().await {
                    Ok(answer) => answered = answer.number,
                    Err(error) => break error.to_string(),
                }
            };
            assert!(told.contains("error: the disk failed"), "{told}");
            assert!(answered < 128, "64 KiB are full: {answered}");
            expect_failed(scene, "no space left").await?;
            let journal = Journal::read(&image(scene, Host::Primary));
            assert_eq!(journal.faults_while_asked(answered), [""; 0]);
            expect_the_same_after_a_failover(scene, "error: the disk failed").await
        });
    }

    fn an_image_that_became_short_is_an_error(engine) {
        play(engine, RigDisk::zeros(disk::DISK_BYTES, FILE), async |scene| {
            let mut client = begin(scene, 1).await?;
            answers(&mut client, 50).await?;
            drain(&mut client).await?;
            // Without the backup's acknowledgement nothing is written, which would make the image longer again.
            scene.rig.stop(Member::Backup)?;
            let image = File::options().write(true).open(image(scene, Host::Primary));
            image.and_then(|image| image.set_len(0)).expect("an image without bytes");
            client.fill_window()?;
            expect_failed(scene, "the image is shorter").await?;
            scene.rig.resume(Member::Backup)?;
            expect_error(&mut client, "error: the disk failed").await?;
            expect_the_same_after_a_failover(scene, "error: the disk failed").await
        });
    }
}

/// The lock of a process that uses the image says so to the next one, and which process it is.
#[test]
fn an_image_that_somebody_uses_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("used.img");
    let image = File::create(&path).expect("an image");
    image.set_len(disk::DISK_BYTES).expect("an image of zeros");
    fcntl_lock(&image, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    let output = Command::new(images::lockstep())
        .args([
            "run",
            "--engine",
            "soft",
            "--console",
            "none",
            "--memory",
            "16M",
        ])
        .args(["--cmdline", "own=3", "--kernel"])
        .arg(images::bare("journal"))
        .arg("--disk")
        .arg(&path)
        .output()
        .expect("lockstep runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("used.img"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    assert_eq!(Journal::read(&path).records, [], "nothing was written");
}

/// Whether an event says this of a disk.
fn is(name: &'static str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Disk { what, .. } if what == name)
}

/// A server that is gone for longer than it may: the guest gets an I/O error, and so does the backup's; the server comes back in vain for this guest, whose
/// journal has given up, but not for its disk.
#[test]
fn a_server_that_is_gone_for_too_long_is_an_error() {
    let access = DiskAccess::Server { reads: Reads::Log };
    let disk = RigDisk {
        timeout_s: Some(1),
        ..RigDisk::zeros(disk::DISK_BYTES, access)
    };
    play(EngineKind::Soft, disk, async |scene| {
        let mut client = begin(scene, 1).await?;
        answers(&mut client, 50).await?;
        drain(&mut client).await?;
        scene.rig.kill(Member::DiskServer)?;
        scene.rig.wait_for_end(Member::DiskServer, PATIENCE).await?;
        expect_error(&mut client, "error: the disk failed").await?;
        for what in ["waiting", "given-up"] {
            scene.expect(Member::Primary, what, is(what)).await?;
        }
        scene.rig.start_arbiter().await?;
        scene
            .expect(Member::Primary, "that the server is back", is("back"))
            .await?;
        let journal = Journal::read(&image(scene, Host::Primary));
        assert_eq!(journal.faults_while_asked(50), [""; 0]);
        expect_the_same_after_a_failover(scene, "error: the disk failed").await
    });
}

/// A server that is gone for a while: requests wait, and go on when it is back; none is lost or done twice.
#[test]
fn a_server_that_comes_back_is_waited_for() {
    for reads in [Reads::Log, Reads::SelfRead] {
        let disk = RigDisk::zeros(disk::DISK_BYTES, DiskAccess::Server { reads });
        play(EngineKind::Soft, disk, async |scene| {
            let mut client = begin(scene, 3).await?;
            for round in 1..=3 {
                answers(&mut client, round * 30).await?;
                client.fill_window()?;
                scene.rig.kill(Member::DiskServer)?;
                scene.rig.wait_for_end(Member::DiskServer, PATIENCE).await?;
                scene
                    .expect(Member::Primary, "that it waits", is("waiting"))
                    .await?;
                scene.rig.start_arbiter().await?;
                answers(&mut client, round * 30 + 20).await?;
                scene
                    .expect(Member::Primary, "that it goes on", is("back"))
                    .await?;
            }
            drain(&mut client).await?;
            expect_whole(&image(scene, Host::Primary), client.tally().answers());
            // And the backup has the disk, too.
            scene.rig.kill(Member::Primary)?;
            scene.expect_live(Member::Backup).await?;
            let until = client.tally().answers() + 20;
            answers(&mut client, until).await?;
            drain(&mut client).await?;
            expect_whole(&image(scene, Host::Backup), client.tally().answers());
            Ok(())
        });
    }
}

/// The old primary cannot reach the server, and so not the arbiter: it waits, and the backup, which can, goes on.
#[test]
fn a_primary_that_is_cut_off_from_everybody_writes_nothing() {
    let access = DiskAccess::Server { reads: Reads::Log };
    let options = disk::options(EngineKind::Soft, access, rig::NERVOUS);
    rig::play(options, |mut scene: Scene| async move {
        let result = async {
            let mut client = begin(&mut scene, 2).await?;
            answers(&mut client, 40).await?;
            scene.rig.network().unplug(Cable::Channel)?;
            scene.rig.network().unplug(Cable::Lan(Host::Primary))?;
            scene.expect_live(Member::Backup).await?;
            answers(&mut client, 80).await?;
            scene.rig.network().plug(Cable::Lan(Host::Primary))?;
            let status = scene.rig.wait_for_end(Member::Primary, PATIENCE).await?;
            assert_eq!(status.code(), Some(3), "it may not go on");
            answers(&mut client, 120).await?;
            drain(&mut client).await?;
            expect_whole(&image(&scene, Host::Backup), client.tally().answers());
            Ok(())
        };
        let result = result.await;
        (scene, result)
    });
}
