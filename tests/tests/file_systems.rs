//! Linux's file systems on a pair's disk: what the guest has made, filled and synced, and what its journal's clients were told is durable, is there
//! and whole after a failover, for the guest and for `e2fsck`.

use std::{path::PathBuf, time::Duration};

use lockstep_tests::{
    disk::image,
    engines::EngineKind,
    rig::{self, CALM, PATIENCE, Scene},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use vmm::{
    demo::{
        ArbiterKind, DemoError, DiskAccess, DiskContents, Guest, JournalClient, JournalVerdict,
        Member, RigDisk, RigOptions,
        disk_image::{self, FileSystem},
        journal::{Durable, JOURNAL_PORT, read_back},
        network::{GUEST_ADDRESS, Host},
    },
    session::disk_config::Reads,
};

const DISK_BYTES: u64 = 32 << 20;
/// From one look at a console to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long a guest may take for an exercise on a slow and busy host.
const EXERCISE_LIMIT: Duration = Duration::from_secs(900);

/// The recommended deployment: a server that fences.
fn served(reads: Reads) -> DiskAccess {
    DiskAccess::Server { reads }
}

fn options(engine: EngineKind, words: &str, disk: RigDisk) -> RigOptions {
    let mut options = rig::options(engine, Guest::Linux, ArbiterKind::Tcp, CALM);
    options.images.command_line.push_str(words);
    options.disk = Some(disk);
    options
}

/// Waits for `line` on `member`'s console.
async fn wait_for_line(scene: &mut Scene, member: Member, line: &str) -> Result<(), DemoError> {
    let what = format!("the line {line:?}");
    let begun = Instant::now();
    while begun.elapsed() < EXERCISE_LIMIT {
        // The console after the state: what has ended has said all.
        let running = scene.rig.member(member)?.expect_running(&what);
        if scene.rig.console(member)?.contains(line) {
            return Ok(());
        }
        running?;
        sleep(LOOK_INTERVAL).await;
    }
    Err(DemoError::TimedOut {
        what,
        waited: EXERCISE_LIMIT,
    })
}

/// A file system is made, filled from an archive, synced, mounted again and compared; the primary is killed when it has said `line`.
fn exercise(engine: EngineKind, reads: Reads, files: u32, line: &'static str) {
    let words = format!(" lockstep.run=fsexercise lockstep.fsexercise={files}");
    let disk = RigDisk::zeros(DISK_BYTES, served(reads));
    rig::play(options(engine, &words, disk), |mut scene| async move {
        let result = exercise_story(&mut scene, files, line).await;
        (scene, result)
    });
}

async fn exercise_story(scene: &mut Scene, files: u32, line: &str) -> Result<(), DemoError> {
    scene.rig.start_pair().await?;
    wait_for_line(scene, Member::Primary, line).await?;
    scene.rig.kill(Member::Primary)?;
    scene.expect_live(Member::Backup).await?;
    wait_for_line(scene, Member::Backup, "lockstep: bye").await?;
    scene
        .rig
        .wait_for_end(Member::Backup, EXERCISE_LIMIT)
        .await?;
    let console = scene.rig.console(Member::Backup)?;
    let equal = format!("lockstep: fsexercise: compared {files} files: equal");
    assert!(console.contains(&equal), "{console}");
    disk_image::check(&image(scene, Host::Backup))
}

#[test]
fn a_file_system_survives_a_failover_while_it_is_built() {
    exercise(EngineKind::Soft, Reads::Log, 200, "lockstep: init");
}

#[test]
fn a_file_system_survives_a_failover_while_it_is_filled() {
    let line = "lockstep: fsexercise: unpacked 100 files";
    exercise(EngineKind::Soft, Reads::SelfRead, 200, line);
}

#[test]
fn a_file_system_survives_a_failover_while_it_is_compared() {
    exercise(
        EngineKind::Soft,
        Reads::Log,
        200,
        "lockstep: fsexercise: synced",
    );
}

#[test]
fn a_file_system_survives_a_failover_on_kvm() {
    exercise(
        EngineKind::Kvm,
        Reads::Log,
        20,
        "lockstep: fsexercise: built",
    );
}

/// A disk with an empty file system, in a folder that goes with it.
fn formatted(file_system: FileSystem, access: DiskAccess) -> (RigDisk, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let original: PathBuf = folder.path().join("original");
    disk_image::make(&original, file_system, DISK_BYTES).expect("e2fsprogs works");
    let disk = RigDisk {
        contents: DiskContents::CopyOf(original),
        ..RigDisk::zeros(DISK_BYTES, access)
    };
    (disk, folder)
}

/// A client appends; the primary is killed when `before` records are durable; `after` more follow, the guest shuts down, and all that was answered is
/// in the journal, for the guest and on the image, whose file system is clean.
fn journal(engine: EngineKind, file_system: FileSystem, access: DiskAccess, before: u64) {
    let (disk, _folder) = formatted(file_system, access);
    rig::play(options(engine, "", disk), |mut scene| async move {
        let result = journal_story(&mut scene, before, 20).await;
        (scene, result)
    });
}

async fn journal_story(scene: &mut Scene, before: u64, after: u64) -> Result<(), DemoError> {
    drop(scene.begin().await?);
    let address = (GUEST_ADDRESS, JOURNAL_PORT).into();
    let mut client = JournalClient::connect(address, "client", 3, PATIENCE).await?;
    for _ in 0..before {
        client.fill_window()?;
        next(&mut client).await?;
    }
    client.fill_window()?;
    scene.rig.kill(Member::Primary)?;
    for _ in 0..after {
        next(&mut client).await?;
        client.fill_window()?;
    }
    scene.expect_live(Member::Backup).await?;
    while client.in_flight() > 0 {
        next(&mut client).await?;
    }
    let records = client.read_all().await?;
    expect_kept(&client, &records);
    assert_eq!(client.shut_down().await?, records.len() as u64);
    let durable = client.durable().to_vec();
    drop(client);
    scene.rig.wait_for_end(Member::Backup, PATIENCE).await?;
    let image = image(scene, Host::Backup);
    disk_image::check(&image)?;
    let (on_image, fault) = read_back(&disk_image::journal(&image)?);
    assert_eq!((&on_image, fault), (&records, None));
    assert!(JournalVerdict::new(&durable, &on_image).passed());
    Ok(())
}

fn expect_kept(client: &JournalClient, records: &[vmm::demo::journal::Record]) {
    let verdict = JournalVerdict::new(client.durable(), records);
    assert!(verdict.passed(), "{verdict:?}");
    assert_eq!(
        verdict.in_journal,
        client.sent(),
        "one client, one record each"
    );
}

async fn next(client: &mut JournalClient) -> Result<Durable, DemoError> {
    let answer = timeout(PATIENCE, client.next_durable()).await;
    answer.map_err(|_| DemoError::TimedOut {
        what: "a durable record".into(),
        waited: PATIENCE,
    })?
}

#[test]
fn durable_records_of_ext4_survive_a_failover() {
    for (before, reads) in [(1, Reads::Log), (10, Reads::SelfRead), (60, Reads::Log)] {
        journal(EngineKind::Soft, FileSystem::Ext4, served(reads), before);
    }
}

#[test]
fn durable_records_of_ext2_survive_a_failover() {
    let access = DiskAccess::File { reads: Reads::Log };
    journal(EngineKind::Soft, FileSystem::Ext2, access, 25);
}

#[test]
fn durable_records_of_each_replicas_own_disk_survive_a_failover() {
    journal(EngineKind::Soft, FileSystem::Ext4, DiskAccess::Private, 25);
}

#[test]
fn durable_records_survive_a_failover_on_kvm() {
    journal(EngineKind::Kvm, FileSystem::Ext4, served(Reads::Log), 10);
}
