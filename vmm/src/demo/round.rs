//! The demo's story, once: a pair starts, a client asks, the primary is killed while it does, the client goes on.
//!
//! ```text
//!  Starting ─► Booting ─► Connecting ─► BeforeKill ── SIGKILL ──► AfterKill ─► Draining ─► RoundReport
//!      └──────────┴────────────┴────────────┴─ DemoError                └── faults ──┘
//! ```
//!
//! What goes wrong before the kill is an error: there was no failover to judge. What goes wrong after it is the round's fault.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    Client, DemoError, Evidence, Member, Rig, RigOptions, RoundReport, Timeline, with_causes,
};
use crate::host::{Event, clock::host_monotonic_ns};

/// Requests in flight. More than one, so that at any moment some are, wherever the guest is in its work.
const WINDOW: u64 = 4;
/// How long one step may take that takes no time on an idle host.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often requests are sent to have some in flight at the kill; on an idle host the first time is enough.
const IN_FLIGHT_TRIES: u32 = 1000;
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
        /// When it will be.
        until: Instant,
    },
    /// The primary has been killed.
    AfterKill {
        /// Answers so far, those before the kill included.
        answers: u64,
        /// When nothing more will be asked.
        until: Instant,
    },
    /// Nothing more is asked; the last answers are waited for.
    Draining,
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
    let mut client = rig.connect(WINDOW, PATIENCE).await?;
    before_kill(rig, &mut client, kill_after, stage).await?;

    expect_pair(rig)?;
    put_in_flight(&mut client)?;
    let sent_before = client.tally().requests();
    // The clock first: nothing that the kill causes may seem to come before it.
    let killed_ns = host_monotonic_ns();
    rig.kill(Member::Primary)?;

    let mut faults = Vec::new();
    if let Err(error) = after_kill(rig, &mut client, kill_after, stage).await {
        faults.push(with_causes(&error));
    }
    faults.extend(check_primary(rig).await?);
    let timeline = Timeline::new(killed_ns, &rig.events(Member::Backup)?, client.answers());
    Ok(RoundReport::new(
        client.tally(),
        client.answers(),
        &timeline,
        sent_before,
        faults,
    ))
}

/// `kill_after` from the first answer on.
async fn before_kill(
    rig: &mut Rig,
    client: &mut Client,
    kill_after: Duration,
    stage: &StageSender,
) -> Result<(), DemoError> {
    client.fill_window()?;
    next_answer(rig, client, BOTH).await?;
    let until = Instant::now() + kill_after;
    while Instant::now() < until {
        let answers = client.tally().answers();
        stage.send_replace(Stage::BeforeKill { answers, until });
        client.fill_window()?;
        // An answer is waited for beyond `until`, should it take that long: the kill then comes with requests in flight all the same.
        next_answer(rig, client, BOTH).await?;
    }
    Ok(())
}

/// Sends until requests are on their way to which no answer has come. (Sending wakes the guest, which may be faster than we are.)
fn put_in_flight(client: &mut Client) -> Result<(), DemoError> {
    for _ in 0..IN_FLIGHT_TRIES {
        while client.take_arrived()?.is_some() {}
        client.fill_window()?;
        if client.take_arrived()?.is_none() {
            break;
        }
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

/// As long again, and until the last request is answered.
async fn after_kill(
    rig: &mut Rig,
    client: &mut Client,
    duration: Duration,
    stage: &StageSender,
) -> Result<(), DemoError> {
    let until = Instant::now() + duration;
    while Instant::now() < until {
        let answers = client.tally().answers();
        stage.send_replace(Stage::AfterKill { answers, until });
        client.fill_window()?;
        next_answer(rig, client, SURVIVOR).await?;
    }
    stage.send_replace(Stage::Draining);
    while client.tally().in_flight() > 0 {
        next_answer(rig, client, SURVIVOR).await?;
    }
    Ok(())
}

/// The next answer, unless one of `replicas` or whoever decides ends, or it takes too long.
async fn next_answer(
    rig: &mut Rig,
    client: &mut Client,
    replicas: &[Member],
) -> Result<(), DemoError> {
    let decider = rig.decider();
    let what = "an answer from the guest";
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        if let Ok(answer) = timeout(CHECK_INTERVAL, client.next_answer()).await {
            return answer.map(drop);
        }
        for member in replicas.iter().chain(&decider) {
            rig.member(*member)?.expect_running(what)?;
        }
    }
    Err(DemoError::TimedOut {
        what: what.into(),
        waited: PATIENCE,
    })
}

/// What is wrong with how the primary ended.
async fn check_primary(rig: &mut Rig) -> Result<Option<String>, DemoError> {
    let status = rig.wait_for_end(Member::Primary, PATIENCE).await?;
    let killed = status.signal() == Some(rustix::process::Signal::KILL.as_raw());
    Ok((!killed).then(|| format!("the primary was not killed but ended by itself ({status})")))
}
