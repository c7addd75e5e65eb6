//! Linux's file systems on a pair's disk: what the guest has made, filled and synced, and what its journal's clients were told is durable, is there
//! and whole after a failover, for the guest and for `e2fsck`.

use std::{os::unix::process::ExitStatusExt, path::PathBuf, time::Duration};

use lockstep_tests::{
    disk::{self, image},
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
    session::{disk_config::Reads, disk_fault::DiskPoint},
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

/// When the primary is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// The guest has said this line.
    AfterLine(&'static str),
    /// So many records are durable.
    AfterRecords(u64),
    /// At so many passages of a point of a request's way.
    At(DiskPoint, u64),
}

impl Kill {
    /// As a fault of the primary, if it is one.
    fn fault(self) -> Option<String> {
        match self {
            Self::At(point, count) => Some(format!("{}:{count}:kill", point.name())),
            Self::AfterLine(_) | Self::AfterRecords(_) => None,
        }
    }
}

/// A file system is made, filled from an archive, synced, mounted again and compared; meanwhile the primary is killed.
fn exercise(engine: EngineKind, reads: Reads, files: u32, kill: Kill) {
    let words = format!(" lockstep.run=fsexercise lockstep.fsexercise={files}");
    let mut disk = RigDisk::zeros(DISK_BYTES, served(reads));
    disk.primary_fault = kill.fault();
    rig::play(options(engine, &words, disk), |mut scene| async move {
        let result = exercise_story(&mut scene, files, kill).await;
        (scene, result)
    });
}

async fn exercise_story(scene: &mut Scene, files: u32, kill: Kill) -> Result<(), DemoError> {
    scene.rig.start_pair().await?;
    if let Kill::AfterLine(line) = kill {
        wait_for_line(scene, Member::Primary, line).await?;
        scene.rig.kill(Member::Primary)?;
    }
    let status = scene
        .rig
        .wait_for_end(Member::Primary, EXERCISE_LIMIT)
        .await?;
    let killed = Some(rustix::process::Signal::KILL.as_raw());
    assert_eq!(status.signal(), killed, "the primary was killed: {status}");
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
    let kill = Kill::AfterLine("lockstep: init");
    exercise(EngineKind::Soft, Reads::Log, 200, kill);
}

#[test]
fn a_file_system_survives_a_failover_while_it_is_filled() {
    let line = "lockstep: fsexercise: unpacked 100 files";
    exercise(
        EngineKind::Soft,
        Reads::SelfRead,
        200,
        Kill::AfterLine(line),
    );
}

#[test]
fn a_file_system_survives_a_failover_while_it_is_compared() {
    let kill = Kill::AfterLine("lockstep: fsexercise: synced");
    exercise(EngineKind::Soft, Reads::Log, 200, kill);
}

/// The first flush is what the making ends with, the second is the mount's, the third is that of the sync.
#[test]
fn a_file_system_survives_failovers_in_the_middle_of_flushes() {
    for (reads, flush) in [(Reads::Log, 1), (Reads::SelfRead, 2), (Reads::SelfRead, 3)] {
        let kill = Kill::At(DiskPoint::DuringFlush, flush);
        exercise(EngineKind::Soft, reads, 100, kill);
    }
}

/// A sync has more writes than the making.
#[test]
fn a_file_system_survives_a_failover_in_the_middle_of_a_syncs_writes() {
    let kill = Kill::At(DiskPoint::BeforeWrite, 40);
    exercise(EngineKind::Soft, Reads::Log, 200, kill);
}

#[test]
fn a_file_system_survives_a_failover_on_kvm() {
    let kill = Kill::AfterLine("lockstep: fsexercise: built");
    exercise(EngineKind::Kvm, Reads::Log, 20, kill);
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

/// A client appends; the primary is killed; `AFTERWARDS` more follow, the guest shuts down, and all that was answered is
/// in the journal, for the guest and on the image, whose file system is clean.
fn journal(engine: EngineKind, file_system: FileSystem, access: DiskAccess, kill: Kill) {
    // Captured, and shown if the test fails.
    eprintln!("{engine} {file_system:?} {access:?} {kill:?}");
    let (mut disk, _folder) = formatted(file_system, access);
    disk.primary_fault = kill.fault();
    rig::play(options(engine, "", disk), |mut scene| async move {
        let result = journal_story(&mut scene, kill).await;
        (scene, result)
    });
}

/// Records that are asked for when the primary is dead.
const AFTERWARDS: u64 = 20;

async fn journal_story(scene: &mut Scene, kill: Kill) -> Result<(), DemoError> {
    drop(scene.begin().await?);
    let address = (GUEST_ADDRESS, JOURNAL_PORT).into();
    let mut client = JournalClient::connect(address, "client", 3, PATIENCE).await?;
    let before = match kill {
        Kill::AfterRecords(count) => count,
        // A record passes each point at least once, but for those that it is made durable with.
        Kill::At(_, count) => count * 3 + 1,
        Kill::AfterLine(_) => unreachable!("a journal says nothing"),
    };
    append(&mut client, before).await?;
    if kill.fault().is_none() {
        scene.rig.kill(Member::Primary)?;
    }
    let status = scene.rig.wait_for_end(Member::Primary, PATIENCE).await?;
    let killed = Some(rustix::process::Signal::KILL.as_raw());
    assert_eq!(status.signal(), killed, "the primary was killed: {status}");
    append(&mut client, AFTERWARDS).await?;
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

/// Waits for so many more durable records, with the window full.
async fn append(client: &mut JournalClient, count: u64) -> Result<(), DemoError> {
    client.fill_window()?;
    for _ in 0..count {
        next(client).await?;
        client.fill_window()?;
    }
    Ok(())
}

async fn next(client: &mut JournalClient) -> Result<Durable, DemoError> {
    let answer = timeout(PATIENCE, client.next_durable()).await;
    answer.map_err(|_| DemoError::TimedOut {
        what: "a durable record".into(),
        waited: PATIENCE,
    })?
}

/// Passages of a point in which the guest comes up and mounts the disk, and more: the client must have come as far as appending.
const PASSAGES_BEFORE: u64 = 12;
/// A kill comes within so many more.
const PASSAGES: u64 = 24;
/// Within so many records.
const RECORDS: u64 = 120;

/// Rounds with a kill at every point of a request's way in turn, and after any number of records.
fn journal_rounds(file_system: FileSystem, access: DiskAccess, rounds: u64) {
    let mut random = disk::kills();
    for round in 0..rounds {
        let kill = match DiskPoint::ALL.get((round % 6) as usize) {
            Some(point) => Kill::At(*point, PASSAGES_BEFORE + random.up_to(PASSAGES)),
            None => Kill::AfterRecords(random.up_to(RECORDS)),
        };
        journal(EngineKind::Soft, file_system, access, kill);
    }
}

#[test]
fn durable_records_of_ext4_survive_eighty_failovers() {
    for reads in [Reads::Log, Reads::SelfRead] {
        journal_rounds(FileSystem::Ext4, served(reads), 40);
    }
}

#[test]
fn durable_records_of_ext2_survive_thirty_failovers() {
    for reads in [Reads::Log, Reads::SelfRead] {
        journal_rounds(FileSystem::Ext2, DiskAccess::File { reads }, 15);
    }
}

#[test]
fn durable_records_of_each_replicas_own_disk_survive_failovers() {
    for records in [1, 25, 60] {
        let kill = Kill::AfterRecords(records);
        journal(
            EngineKind::Soft,
            FileSystem::Ext4,
            DiskAccess::Private,
            kill,
        );
    }
}

#[test]
fn durable_records_survive_failovers_on_kvm() {
    let kills = [Kill::AfterRecords(10), Kill::At(DiskPoint::BeforeWrite, 25)];
    for kill in kills {
        journal(EngineKind::Kvm, FileSystem::Ext4, served(Reads::Log), kill);
    }
}
