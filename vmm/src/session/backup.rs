//! The backup: inputs from the channel, outputs suppressed, until the primary is lost and the term is won.
//!
//! ```text
//!  I/O thread (this file)                          │ vCPU thread
//!  channel ─► protocol core ─► LogFeed ────────────┼─► Logged ─► Replica ─► outputs: compared, kept in LogFeed
//!                │ ◄─ replayed, drained ───────────┼──
//!                └─ GoLive: announce the MAC address, release the kept outputs
//!                           LogFeed::go_live ──────┼─► Live (see go_live)
//! ```
//!
//! Every decision is the protocol core's ([`Backup`]); this file performs its actions, in order. Once live, the machine goes on as
//! [`super::solo`] does.

use std::{sync::Arc, time::Duration};

use logging_channel::{
    identity::BootChoices,
    log_file::Keeper,
    protocol::{Backup, BackupAction, BackupEvent, Report},
    transport::Connection,
};

use super::{
    Outcome, PairOptions, SessionError,
    black_box::BlackBox,
    claims::Claims,
    fault::Fault,
    feed::LogFeed,
    go_live::BackupInputs,
    link::{Heard, Link},
    pipe::LogPipe,
    primary::{ended, grant, sleep},
    replica::{Ending, ReplicaError},
    reports::Reporter,
    setup::Prepared,
    solo,
    vcpu::VcpuThread,
    world::World,
};
use crate::host::{MonotonicClock, disk::Grant};

/// A backup of a formed or forming pair.
struct Session<'a> {
    core: Backup,
    clock: MonotonicClock,
    link: Link,
    claims: Claims,
    reporter: Reporter,
    black_box: BlackBox,
    fault: Option<Fault>,
    feed: Arc<LogFeed>,
    pipe: Arc<LogPipe>,
    world: &'a mut World,
    mac: Option<[u8; 6]>,
    prepared: Option<Prepared>,
    late_limit: Option<Duration>,
    vcpu: Option<VcpuThread>,
    ending: Option<Ending>,
    told_drained: bool,
    /// The pair's name, once it is formed.
    pair: u64,
}

enum Turn {
    GoOn,
    GoLive { term: u64 },
    Over(Outcome),
    NoPair { reason: String },
}

/// How serving one connection ended.
pub enum Served {
    /// With the session.
    Session(Outcome),
    /// Whoever connected formed no pair: a port scanner, a primary that died at once. The machine is as it was.
    NoPair {
        /// The machine.
        prepared: Box<Prepared>,
        /// Why.
        reason: String,
    },
}

/// Serves whoever has just connected: a primary to the guest's end.
///
/// # Errors
/// See [`SessionError`].
pub async fn run(
    prepared: Prepared,
    connection: Connection,
    world: &mut World,
    options: PairOptions,
) -> Result<Served, SessionError> {
    let clock = MonotonicClock::start();
    let core = Backup::new(
        prepared.identity().clone(),
        options.timing,
        options.limits,
        clock.now(),
    );
    let session = Session {
        core,
        clock,
        link: Link::to_primary(connection).await?,
        claims: Claims::new(options.arbiter, options.timing.claim_timeout)?,
        black_box: BlackBox::new(options.log, options.reporter.clone()),
        fault: options.fault,
        reporter: options.reporter,
        feed: LogFeed::new(),
        pipe: LogPipe::new(),
        world,
        mac: prepared.mac().map(|mac| mac.0),
        prepared: Some(prepared),
        late_limit: options.late_limit,
        vcpu: None,
        ending: None,
        told_drained: false,
        pair: 0,
    };
    session.serve().await
}

impl Session<'_> {
    async fn serve(mut self) -> Result<Served, SessionError> {
        loop {
            match self.perform_actions()? {
                Turn::GoOn => {}
                Turn::GoLive { term } => return self.go_live(term).await.map(Served::Session),
                Turn::Over(outcome) => {
                    if let Outcome::Ended(ending) = &outcome {
                        self.world.disks().end_together(self.pair, ending)?;
                    }
                    self.link.finish().await;
                    return Ok(Served::Session(outcome));
                }
                Turn::NoPair { reason } => {
                    let prepared = self.prepared.take().expect("no pair was formed");
                    self.link.finish().await;
                    return Ok(Served::NoPair {
                        prepared: Box::new(prepared),
                        reason,
                    });
                }
            }
            let event = self.next_event().await?;
            self.core.handle(event, self.clock.now());
            self.tell_progress();
        }
    }

    /// Waits for whatever happens first.
    async fn next_event(&mut self) -> Result<BackupEvent, SessionError> {
        let wakeup = self
            .core
            .next_wakeup()
            .map(|at| at.saturating_sub(self.clock.now()));
        let has_room = self.core.has_room();
        Ok(tokio::select! {
            biased;
            () = sleep(wakeup) => BackupEvent::Tick,
            heard = self.link.next(has_room) => match heard {
                Heard::Message(message) => BackupEvent::Message(message),
                Heard::Heartbeat(heartbeat) => BackupEvent::Heartbeat(heartbeat),
                Heard::Closed => BackupEvent::Disconnected,
            },
            answer = self.claims.answer() => BackupEvent::Claim(answer),
            () = self.feed.wait_progress() => BackupEvent::Tick,
            ending = ended(&mut self.vcpu) => {
                self.vcpu = None;
                self.replay_ended(ending)?
            }
            // Until the primary is suspected, what the tap and the console bring is thrown away.
            received = self.world.receive() => {
                received?;
                BackupEvent::Tick
            }
        })
    }

    /// The replica stopped by itself: the guest ended, or it diverged.
    fn replay_ended(
        &mut self,
        ending: Result<Ending, ReplicaError>,
    ) -> Result<BackupEvent, SessionError> {
        match ending {
            Ok(ending) => {
                self.ending = Some(ending);
                Ok(BackupEvent::Tick)
            }
            Err(ReplicaError::Diverged(report)) => {
                self.reporter.diverged(&report);
                Ok(BackupEvent::Diverged {
                    description: report.divergence.to_string(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn tell_progress(&mut self) {
        let now = self.clock.now();
        let (through, drained) = self.feed.progress();
        self.core.handle(BackupEvent::Executed { through }, now);
        // A guest that ended has used up its log: the End entry is the last.
        let drained = drained || (self.ending.is_some() && self.feed.is_draining());
        if drained && !self.told_drained {
            self.told_drained = true;
            self.core.handle(BackupEvent::Drained, now);
        }
    }

    fn perform_actions(&mut self) -> Result<Turn, SessionError> {
        while let Some(action) = self.core.poll() {
            match action {
                BackupAction::Transmit(message) => self.link.send(&message),
                BackupAction::SendHeartbeat(heartbeat) => self.link.send_heartbeat(&heartbeat),
                BackupAction::Start { boot, session, .. } => {
                    self.link.pair(session);
                    self.pair = session;
                    self.start(&boot)?;
                }
                BackupAction::Deliver(entries) => {
                    self.black_box.keep(&entries);
                    self.feed.deliver(entries);
                }
                BackupAction::Released { through } => self.feed.released(through),
                BackupAction::Drain => {
                    self.feed.drain();
                    self.tell_progress();
                }
                BackupAction::Claim { expected_term } => self.claims.claim(expected_term),
                BackupAction::GoLive { term } => return Ok(Turn::GoLive { term }),
                // Before a pair is formed there is nothing to halt.
                BackupAction::Report(Report::Halted { .. }) if self.prepared.is_some() => {}
                BackupAction::Report(report) => {
                    self.reporter.report(&report);
                    if matches!(report, Report::PeerLost { .. }) {
                        self.link.disconnect();
                        // What arrives from now on may be for this replica: a frame that waits is not lost.
                        self.world.connect();
                    }
                }
                BackupAction::Refused { reason, .. } => {
                    return Ok(Turn::Over(Outcome::Refused { reason }));
                }
                BackupAction::Finish => {
                    return Ok(Turn::Over(Outcome::Ended(
                        self.ending.expect("the log ends with the guest's end"),
                    )));
                }
                BackupAction::Halt { reason } if self.prepared.is_some() => {
                    return Ok(Turn::NoPair { reason });
                }
                BackupAction::Halt { reason } => {
                    self.feed.close();
                    self.world.inbox().close();
                    return Ok(Turn::Over(Outcome::Halted { reason }));
                }
            }
        }
        Ok(Turn::GoOn)
    }

    fn start(&mut self, boot: &BootChoices) -> Result<(), SessionError> {
        let prepared = self.prepared.take().expect("a pair is formed once");
        self.black_box.begin(&prepared, boot, Keeper::Backup)?;
        let (disks, identity) = (self.world.disks(), self.claims.identity());
        disks
            .grant_copies(Grant::Alone { identity })
            .map_err(SessionError::Disk)?;
        disks.copies().begin(self.pair)?;
        let machine = prepared.boot(boot)?;
        let inputs = BackupInputs::new(
            Arc::clone(&self.feed),
            self.world.disks(),
            Arc::clone(&self.pipe),
        )
        .with_late_limit(machine.kicker(), self.late_limit);
        self.vcpu = Some(match self.fault {
            None => VcpuThread::spawn(machine, inputs),
            Some(fault) => VcpuThread::spawn_with_fault(machine, inputs, fault),
        });
        Ok(())
    }

    /// The term is won. In this order: the disks learn who is live, the network learns where the machine is, what the primary may not have released leaves,
    /// the guest goes on.
    async fn go_live(mut self, term: u64) -> Result<Outcome, SessionError> {
        grant(self.world, &self.claims, term).await?;
        self.world
            .disks()
            .copies()
            .go_on_alone(self.claims.identity())?;
        if let Some(mac) = self.mac {
            self.world.announce(mac)?;
        }
        for effect in self.feed.take_kept() {
            self.world.perform(&effect)?;
        }
        self.feed.go_live();
        while let Some(action) = self.core.poll() {
            if let BackupAction::Report(report) = action {
                self.reporter.report(&report);
            }
        }
        let ending = match (&mut self.vcpu, self.ending) {
            (Some(vcpu), _) => {
                solo::go_on(self.world, &self.pipe, &mut self.black_box, vcpu).await?
            }
            (None, Some(ending)) => ending,
            (None, None) => unreachable!("a backup that goes live has a machine"),
        };
        self.world.disks().end_alone()?;
        Ok(Outcome::Ended(ending))
    }
}
