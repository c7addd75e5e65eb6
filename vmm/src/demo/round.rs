//! The demo's story, once: a pair starts, a client asks, the primary is killed while it does, the client goes on.
//!
//! ```text
//!  Starting ─► Booting ─► Connecting ─► BeforeKill ── SIGKILL ──► AfterKill ─► Draining ─► RoundReport
//!      └──────────┴────────────┴────────────┴─ DemoError                └── faults ──┤           ▲
//!                                                                                    └► ShuttingDown, if there is a disk
//! ```
//!
//! What goes wrong before the kill is an error: there was no failover to judge. What goes wrong after it is the round's fault. A disk is looked
//! at when the guest has shut down and no machine uses it.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    DemoError, DurableReport, Evidence, Host, Member, Rig, RigOptions, RoundReport, Timeline,
    clients::Clients, disk_image, durable::LeftOnDisk, journal::Durable, with_causes,
};
use crate::host::{Event, clock::host_monotonic_ns};

/// How long one step may take that takes no time on an idle host.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often the processes are looked at while answers are awaited.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Replicas that are needed until the kill.
const BOTH: &[Member] = &[Member::Primary, Member::Backup];
/// After it.
const SURVIVOR: &[Member] = &[Member::Backup];

/// Where a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The processes start and form a pair.
    Starting,
    /// The guest boots.
    Booting,
    /// The client looks for the guest's service.
    Connecting,
    /// The primary answers.
    BeforeKill {
        /// Answers so far.
        answers: u64,
        /// Durable records so far, if there is a disk.
        durable: Option<u64>,
        /// When it will be.
        until: Instant,
    },
    /// The primary has been killed.
    AfterKill {
        /// Answers so far, those before the kill included.
        answers: u64,
        /// Durable records so far, if there is a disk.
        durable: Option<u64>,
        /// When nothing more will be asked.
        until: Instant,
    },
    /// Nothing more is asked; the last answers are waited for.
    Draining,
    /// The guest unmounts its disk and ends.
    ShuttingDown,
}

/// Who is told where the round is. Only the latest stage counts.
pub type StageSender = watch::Sender<Stage>;

/// A round that has come to its end or to a stop, and what its files said.
#[derive(Debug)]
pub struct Round {
    /// What was measured, or why there is nothing to measure.
    pub result: Result<RoundReport, DemoError>,
    /// The ends of consoles, events and messages if the round has failed; otherwise empty.
    pub evidence: Vec<Evidence>,
}

/// Plays a round with fresh processes. When this returns nothing of them is left.
pub async fn play(options: RigOptions, kill_after: Duration, stage: &StageSender) -> Round {
    stage.send_replace(Stage::Starting);
    let mut rig = match Rig::new(options) {
        Ok(rig) => rig,
        Err(error) => {
            return Round {
                result: Err(error),
                evidence: Vec::new(),
            };
        }
    };
    let result = story(&mut rig, kill_after, stage).await;
    let passed = result.as_ref().is_ok_and(RoundReport::passed);
    let evidence = if passed { Vec::new() } else { rig.evidence() };
    Round { result, evidence }
}

async fn story(
    rig: &mut Rig,
    kill_after: Duration,
    stage: &StageSender,
) -> Result<RoundReport, DemoError> {
    rig.start_pair().await?;
    let formed = |event: &Event| matches!(event, Event::PairFormed { .. });
    rig.wait_for_event(Member::Primary, "a pair", PATIENCE, formed)
        .await?;
    stage.send_replace(Stage::Booting);
    rig.wait_until_ready(Member::Primary).await?;
    stage.send_replace(Stage::Connecting);
    let mut clients = Clients::connect(rig).await?;
    before_kill(rig, &mut clients, kill_after, stage).await?;

    expect_pair(rig)?;
    clients.put_in_flight()?;
    let sent_before = clients.sent();
    // The clock first: nothing that the kill causes may seem to come before it.
    let killed_ns = host_monotonic_ns();
    rig.kill(Member::Primary)?;

    let mut faults = Vec::new();
    let journal = match after_kill(rig, &mut clients, kill_after, stage).await {
        Ok(journal) => journal,
        Err(error) => {
            faults.push(with_causes(&error));
            None
        }
    };
    faults.extend(check_primary(rig).await?);
    let timeline = Timeline::new(killed_ns, &rig.events(Member::Backup)?, clients.answers());
    let report = RoundReport::new(
        clients.counter().tally(),
        clients.answers(),
        &timeline,
        sent_before.requests,
        faults,
    );
    Ok(match journal {
        Some((answered, left)) => {
            let records = sent_before.records;
            report.with_durable(DurableReport::new(&answered, records, &timeline, &left))
        }
        None => report,
    })
}

/// `kill_after` from the first answers on.
async fn before_kill(
    rig: &mut Rig,
    clients: &mut Clients,
    kill_after: Duration,
    stage: &StageSender,
) -> Result<(), DemoError> {
    clients.fill_windows()?;
    while !clients.all_answered() {
        clients.fill_windows()?;
        next_answer(rig, clients, BOTH).await?;
    }
    let until = Instant::now() + kill_after;
    while Instant::now() < until {
        stage.send_replace(Stage::BeforeKill {
            answers: clients.counter().tally().answers(),
            durable: clients.durable_records(),
            until,
        });
        clients.fill_windows()?;
        // An answer is waited for beyond `until`, should it take that long: the kill then comes with requests in flight all the same.
        next_answer(rig, clients, BOTH).await?;
    }
    Ok(())
}

/// A pair that has parted by itself has no failover to show.
fn expect_pair(rig: &Rig) -> Result<(), DemoError> {
    for member in [Member::Primary, Member::Backup] {
        for stamped in rig.events(member)? {
            if let Event::PeerLost { why } = stamped.event {
                return Err(DemoError::Parted {
                    name: member.name(),
                    why,
                });
            }
        }
    }
    Ok(())
}

/// As long again, and until the last request is answered; and if there is a disk, until the guest has left it.
async fn after_kill(
    rig: &mut Rig,
    clients: &mut Clients,
    duration: Duration,
    stage: &StageSender,
) -> Result<Option<(Vec<Durable>, LeftOnDisk)>, DemoError> {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        stage.send_replace(Stage::AfterKill {
            answers: clients.counter().tally().answers(),
            durable: clients.durable_records(),
            until,
        });
        clients.fill_windows()?;
        next_answer(rig, clients, SURVIVOR).await?;
    }
    stage.send_replace(Stage::Draining);
    while clients.in_flight() {
        next_answer(rig, clients, SURVIVOR).await?;
    }
    shut_down(rig, clients, stage).await
}

/// The next answer, unless one of `replicas` or whoever decides ends, or it takes too long.
async fn next_answer(
    rig: &mut Rig,
    clients: &mut Clients,
    replicas: &[Member],
) -> Result<(), DemoError> {
    let decider = rig.decider();
    let what = "an answer from the guest";
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        if let Ok(answer) = timeout(CHECK_INTERVAL, clients.next_answer()).await {
            return answer;
        }
        for member in replicas.iter().chain(&decider) {
            rig.member(*member)?.expect_running(what)?;
        }
    }
    Err(no_answer(what))
}

fn no_answer(what: &str) -> DemoError {
    DemoError::TimedOut {
        what: what.into(),
        waited: PATIENCE,
    }
}

/// Has a guest with a journal unmount its disk and end, and looks at what is then on the disk.
async fn shut_down(
    rig: &mut Rig,
    clients: &mut Clients,
    stage: &StageSender,
) -> Result<Option<(Vec<Durable>, LeftOnDisk)>, DemoError> {
    let (Some(mut journal), Some(image)) = (clients.take_journal(), rig.image(Host::Backup)) else {
        return Ok(None);
    };
    stage.send_replace(Stage::ShuttingDown);
    let asked = timeout(PATIENCE, journal.shut_down()).await;
    let said = asked.map_err(|_| no_answer("the guest's journal to shut down"))??;
    // The guest waits for that.
    let answered = journal.hang_up();
    expect_shutdown(rig).await?;
    let file_system_fault = match disk_image::check(&image) {
        Ok(()) => None,
        Err(DemoError::Image { said, .. }) => Some(said),
        Err(error) => return Err(error),
    };
    let left = LeftOnDisk {
        said,
        journal: disk_image::journal(&image)?,
        file_system_fault,
    };
    Ok(Some((answered, left)))
}

/// Waits until the guest has ended by itself, and the backup with it.
async fn expect_shutdown(rig: &mut Rig) -> Result<(), DemoError> {
    let what = "the guest's end";
    let ended = |event: &Event| matches!(event, Event::Ended { reason, .. } if reason == "Reset");
    rig.wait_for_event(Member::Backup, what, PATIENCE, ended)
        .await?;
    let status = rig.wait_for_end(Member::Backup, PATIENCE).await?;
    if status.success() {
        return Ok(());
    }
    Err(DemoError::Ended {
        name: Member::Backup.name(),
        status,
        what: format!("{what} to be that of the session, too"),
        last_words: None,
    })
}

/// What is wrong with how the primary ended.
async fn check_primary(rig: &mut Rig) -> Result<Option<String>, DemoError> {
    let status = rig.wait_for_end(Member::Primary, PATIENCE).await?;
    let killed = status.signal() == Some(rustix::process::Signal::KILL.as_raw());
    Ok((!killed).then(|| format!("the primary was not killed but ended by itself ({status})")))
}
