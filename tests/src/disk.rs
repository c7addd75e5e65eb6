//! Pairs with a disk: their rigs, and rounds in which a replica is killed while the guest uses the disk.
//!
//! ```text
//!  client ── incr ──► journal on the primary ──► disk
//!                            │ killed, at a point of a request's way or at a time
//!                     journal on the backup ───► disk ── the client goes on ──► what it was told is on the image
//! ```

use std::{os::unix::process::ExitStatusExt, path::PathBuf, time::Duration};

use vmm::{
    demo::{
        ArbiterKind, Client, DemoError, DiskAccess, Guest, Images, Member, RigDisk, RigOptions,
        network::Host,
    },
    engine::EngineKind,
    session::disk_fault::DiskPoint,
};

use crate::{
    exactness::random::Random,
    images,
    journal::Journal,
    rig::{self, PATIENCE, Scene, ask},
};

/// Room for some thousands of records.
pub const DISK_BYTES: u64 = 2 << 20;
/// A client's TCP sends again what was lost with the primary; Linux itself would wait 200 ms.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(20);

/// A pair that runs the guest `journal`, given these options.
#[must_use]
pub fn options_with(
    engine: EngineKind,
    disk: RigDisk,
    failure_timeout: Duration,
    guest_options: &str,
) -> RigOptions {
    let kernel = images::bare("journal");
    RigOptions {
        images: Images::named(Guest::Bare, kernel, None, guest_options),
        disk: Some(disk),
        retransmit_after: Some(RETRANSMIT_AFTER),
        ..rig::options(engine, Guest::Bare, ArbiterKind::Tcp, failure_timeout)
    }
}

/// A pair that runs the guest `journal` on a disk of zeros.
#[must_use]
pub fn options(engine: EngineKind, access: DiskAccess, failure_timeout: Duration) -> RigOptions {
    let disk = RigDisk::zeros(DISK_BYTES, access);
    options_with(engine, disk, failure_timeout, "")
}

/// What decides when primaries are killed; another seed can be set.
#[must_use]
pub fn kills() -> Random {
    let seed = std::env::var("LOCKSTEP_KILL_SEED").ok();
    Random::new(seed.and_then(|seed| seed.parse().ok()).unwrap_or(1))
}

/// When a round's replica is killed, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The primary, at the `count`th passage of a point.
    At {
        /// The point.
        point: DiskPoint,
        /// Counted from 1.
        count: u64,
    },
    /// A replica, so long after the client's first answer.
    After {
        /// Which.
        victim: Member,
        /// How long.
        time: Duration,
    },
}

/// A round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// What runs the guest.
    pub engine: EngineKind,
    /// How the replicas come to the disk.
    pub access: DiskAccess,
    /// When a replica is killed, and which.
    pub kill: Kill,
    /// The client's requests in flight.
    pub window: u64,
}

/// Records that are asked for when one replica is dead.
const AFTERWARDS: u64 = 25;

impl Round {
    /// Plays it.
    ///
    /// # Panics
    /// If an answer is lost, repeated or out of order, or the disk does not have what was answered.
    pub fn play(self) {
        // Captured, and shown if the test fails.
        eprintln!("{self:?}");
        let mut disk = RigDisk::zeros(DISK_BYTES, self.access);
        if let Kill::At { point, count } = self.kill {
            disk.primary_fault = Some(format!("{}:{count}:kill", point.name()));
        }
        let options = options_with(self.engine, disk, rig::CALM, "");
        rig::play(options, |mut scene: Scene| async move {
            let result = self.story(&mut scene).await;
            (scene, result)
        });
    }

    async fn story(self, scene: &mut Scene) -> Result<(), DemoError> {
        let mut client = begin(scene, self.window).await?;
        match self.kill {
            // A record passes each point at least once.
            Kill::At { count, .. } => answers(&mut client, count + 1).await?,
            Kill::After { victim, time } => {
                let until = tokio::time::Instant::now() + time;
                while tokio::time::Instant::now() < until {
                    let next = client.tally().answers() + 1;
                    answers(&mut client, next).await?;
                }
                client.fill_window()?;
                scene.rig.kill(victim)?;
            }
        }
        let (victim, survivor) = match self.kill {
            Kill::After {
                victim: Member::Backup,
                ..
            } => (Member::Backup, Member::Primary),
            _ => (Member::Primary, Member::Backup),
        };
        let status = scene.rig.wait_for_end(victim, PATIENCE).await?;
        let killed = Some(rustix::process::Signal::KILL.as_raw());
        assert_eq!(status.signal(), killed, "{}: {status}", victim.name());
        scene.expect_live(survivor).await?;
        let until = client.tally().answers() + AFTERWARDS;
        answers(&mut client, until).await?;
        drain(&mut client).await?;
        expect_whole(&image(scene, Host::Backup), client.tally().answers());
        Ok(())
    }
}

/// Starts the pair, with the disk's fault, and waits until its guest serves.
///
/// # Errors
/// If it does not come up.
pub async fn begin(scene: &mut Scene, window: u64) -> Result<Client, DemoError> {
    drop(scene.begin().await?);
    scene.rig.connect(window, PATIENCE).await
}

/// Keeps the window full until there are so many answers, in order.
///
/// # Errors
/// If the connection breaks, or an answer is an error or does not come.
///
/// # Panics
/// If an answer is not the next number.
pub async fn answers(client: &mut Client, until: u64) -> Result<(), DemoError> {
    let missing = until.saturating_sub(client.tally().answers());
    ask(client, missing).await
}

/// Takes the answers to what is in flight.
///
/// # Errors
/// As [`answers`].
///
/// # Panics
/// As [`answers`].
pub async fn drain(client: &mut Client) -> Result<(), DemoError> {
    while client.tally().in_flight() > 0 {
        let expected = client.tally().answers() + 1;
        let answer = tokio::time::timeout(PATIENCE, client.next_answer()).await;
        let answer = answer.map_err(|_| DemoError::TimedOut {
            what: format!("answer {expected}"),
            waited: PATIENCE,
        })??;
        assert_eq!(answer.number, expected, "lost, repeated or out of order");
    }
    Ok(())
}

/// The image that `host` sees.
///
/// # Panics
/// If the pair has no disk.
#[must_use]
pub fn image(scene: &Scene, host: Host) -> PathBuf {
    scene.rig.image(host).expect("the pair has a disk")
}

/// Every answered record is on the image, in order, and nothing else.
///
/// # Panics
/// If not.
pub fn expect_whole(image: &std::path::Path, answered: u64) {
    let faults = Journal::read(image).faults(answered);
    assert!(faults.is_empty(), "{faults:?}");
}
