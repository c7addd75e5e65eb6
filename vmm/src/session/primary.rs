//! The primary: live inputs; entries go to the backup, outputs wait for its acknowledgement.
//!
//! ```text
//!  vCPU thread                    │ I/O thread (this file)
//!  Live ─► Replica ─► LogPipe ────┼──► protocol core ──► channel ──► backup
//!    ▲                   outputs ─┼──► OutputGate ◄─(release)─ core ◄─ acks
//!  Inbox ◄────────────────────────┼─── World ◄──┘
//! ```
//!
//! What is done to a shared disk is an output; after its release it may have to wait for the backup to have read what was there ([`ReadLedger`]).
//!
//! Every decision is the protocol core's ([`Primary`]); this file performs its actions, in order. When the backup is lost and the
//! term won, the outputs that wait are released and the machine goes on as [`super::solo`] does.

use std::{sync::Arc, time::Duration};

use logging_channel::{
    identity::BootChoices,
    log_file::Keeper,
    protocol::{Primary, PrimaryAction, PrimaryEvent, Report},
    transport::{self, Connection, TransportError},
};

use super::{
    Outcome, PairOptions, SessionError,
    black_box::BlackBox,
    claims::Claims,
    disk_fault::DiskPoint,
    gate::OutputGate,
    link::{Heard, Link},
    pipe::{LogPipe, PipeRecorder},
    read_ledger::ReadLedger,
    replica::{Ending, ReplicaError},
    reports::Reporter,
    setup::Prepared,
    solo,
    vcpu::VcpuThread,
    world::World,
};
use crate::{
    effect::{DiskRequest, Effect},
    host::{MonotonicClock, disk::Grant},
    inputs::{
        Live,
        live::{HostClock, random_bytes},
    },
};

/// From one try to reach the backup to the next.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A primary of a formed or forming pair.
struct Session<'a> {
    core: Primary,
    /// The pair's name.
    pair: u64,
    clock: MonotonicClock,
    link: Link,
    claims: Claims,
    reporter: Reporter,
    black_box: BlackBox,
    pipe: Arc<LogPipe>,
    gate: OutputGate,
    ledger: ReadLedger,
    world: &'a mut World,
    prepared: Option<(Prepared, BootChoices)>,
    late_limit: Option<Duration>,
    vcpu: Option<VcpuThread>,
    ending: Option<Ending>,
}

/// What a performed action means for the session.
enum Turn {
    GoOn,
    RunAlone { term: u64 },
    Over(Outcome),
}

/// Forms a pair with the backup at `address` and runs the guest to its end.
///
/// # Errors
/// See [`SessionError`].
pub async fn run(
    prepared: Prepared,
    boot: BootChoices,
    address: &str,
    world: &mut World,
    options: PairOptions,
) -> Result<Outcome, SessionError> {
    let clock = MonotonicClock::start();
    let reporter = options.reporter;
    reporter.note(&format!("connecting to the backup at {address}"));
    let connection = find_backup(address, options.connect_timeout).await?;
    let claims = Claims::new(options.arbiter, options.timing.claim_timeout)?;
    let term = claims.take_over().await?;
    let session = random_session()?;
    grant(world, &claims, term).await?;
    let link = Link::to_backup(connection, session).await?;
    let core = Primary::new(
        prepared.identity().clone(),
        boot.clone(),
        session,
        term,
        options.timing,
        options.limits,
        clock.now(),
    );
    let session = Session {
        core,
        pair: session,
        clock,
        link,
        claims,
        black_box: BlackBox::new(options.log, reporter.clone()),
        reporter,
        pipe: LogPipe::new(),
        gate: OutputGate::default(),
        ledger: ReadLedger::new(world.disks().apart()),
        world,
        prepared: Some((prepared, boot)),
        late_limit: options.late_limit,
        vcpu: None,
        ending: None,
    };
    session.serve().await
}

impl Session<'_> {
    async fn serve(mut self) -> Result<Outcome, SessionError> {
        loop {
            match self.perform_actions()? {
                Turn::GoOn => {}
                Turn::RunAlone { term } => return self.run_alone(term).await,
                Turn::Over(outcome) => {
                    if let Outcome::Ended(ending) = &outcome {
                        self.world.disks().end_together(self.pair, ending)?;
                    }
                    self.link.finish().await;
                    return Ok(outcome);
                }
            }
            self.pipe.set_room(self.core.has_room());
            let event = self.next_event().await?;
            self.handle(event);
            let free = self.ledger.executed(self.core.executed());
            self.submit(free);
        }
    }

    /// Waits for whatever happens first.
    async fn next_event(&mut self) -> Result<Option<PrimaryEvent>, SessionError> {
        let wakeup = self
            .core
            .next_wakeup()
            .map(|at| at.saturating_sub(self.clock.now()));
        let event = tokio::select! {
            biased;
            () = sleep(wakeup) => Some(PrimaryEvent::Tick),
            () = self.pipe.wait() => None,
            heard = self.link.next(true) => Some(match heard {
                Heard::Message(message) => PrimaryEvent::Message(message),
                Heard::Heartbeat(heartbeat) => PrimaryEvent::Heartbeat(heartbeat),
                Heard::Closed => PrimaryEvent::Disconnected,
            }),
            answer = self.claims.answer() => Some(PrimaryEvent::Claim(answer)),
            ending = ended(&mut self.vcpu) => {
                self.ending = Some(ending?);
                self.vcpu = None;
                self.append_recorded();
                Some(PrimaryEvent::GuestEnded)
            }
            received = self.world.receive() => {
                received?;
                Some(PrimaryEvent::Tick)
            }
        };
        Ok(event)
    }

    /// `None` stands for entries in the pipe.
    fn handle(&mut self, event: Option<PrimaryEvent>) {
        match event {
            None => self.append_recorded(),
            Some(event) => self.core.handle(event, self.clock.now()),
        }
    }

    fn append_recorded(&mut self) {
        let taken = self.pipe.take();
        self.black_box.keep(&taken.entries);
        let disks = self.world.disks();
        for (seq, effect) in taken.outputs {
            match effect {
                Effect::Disk(request) if disks.is_free(&request) => self.ledger.issued(&request),
                effect => {
                    if let Effect::Disk(_) = effect {
                        disks.pass(DiskPoint::BeforeAck);
                    }
                    self.gate.hold(seq, effect);
                }
            }
        }
        taken
            .entries
            .iter()
            .for_each(|entry| self.ledger.recorded(entry));
        let now = self.clock.now();
        self.core.handle(PrimaryEvent::Append(taken.entries), now);
        if taken.urgent {
            self.core.handle(PrimaryEvent::Flush, now);
        }
    }

    fn perform_actions(&mut self) -> Result<Turn, SessionError> {
        while let Some(action) = self.core.poll() {
            match action {
                PrimaryAction::Transmit(message) => self.link.send(&message),
                PrimaryAction::SendHeartbeat(heartbeat) => self.link.send_heartbeat(&heartbeat),
                PrimaryAction::Start => self.start()?,
                PrimaryAction::Release { through } => self.release(through)?,
                PrimaryAction::Claim { expected_term } => self.claims.claim(expected_term),
                PrimaryAction::RunAlone { term } => return Ok(Turn::RunAlone { term }),
                PrimaryAction::Pace { sleep_percent } => self.pipe.set_pace(sleep_percent),
                PrimaryAction::Report(report) => {
                    self.reporter.report(&report);
                    if matches!(report, Report::PeerLost { .. }) {
                        self.link.disconnect();
                    }
                }
                PrimaryAction::Refused { reason, .. } => {
                    return Ok(Turn::Over(Outcome::Refused { reason }));
                }
                PrimaryAction::Finish => {
                    return Ok(Turn::Over(Outcome::Ended(
                        self.ending
                            .expect("only a guest that ended finishes a pair"),
                    )));
                }
                PrimaryAction::Halt { reason } => {
                    self.pipe.close();
                    self.world.inbox().close();
                    return Ok(Turn::Over(Outcome::Halted { reason }));
                }
            }
        }
        Ok(Turn::GoOn)
    }

    fn start(&mut self) -> Result<(), SessionError> {
        let (prepared, boot) = self.prepared.take().expect("a pair is formed once");
        self.black_box.begin(&prepared, &boot, Keeper::Primary)?;
        self.world.disks().copies().begin(self.pair)?;
        let machine = prepared.boot(&boot)?;
        let disks = self.world.disks();
        let apart = disks.apart();
        let recorder = Box::new(PipeRecorder::new(Arc::clone(&self.pipe), disks));
        let inputs = Live::new(HostClock::starting_at(0), self.world.inbox(), recorder, 1)
            .with_late_limit(machine.kicker(), self.late_limit)
            .with_disks_apart(apart);
        self.vcpu = Some(VcpuThread::spawn(machine, inputs));
        self.world.connect();
        Ok(())
    }

    fn release(&mut self, through: u64) -> Result<(), SessionError> {
        self.perform_held(through)?;
        self.core
            .handle(PrimaryEvent::Released { through }, self.clock.now());
        Ok(())
    }

    /// Performs the outputs that wait, up to this entry's, in order.
    fn perform_held(&mut self, through: u64) -> Result<(), SessionError> {
        for effect in self.gate.release_through(through) {
            match effect {
                Effect::Disk(request) => {
                    let free = self.ledger.released(request);
                    self.submit(free);
                }
                effect => self.world.perform(&effect)?,
            }
        }
        Ok(())
    }

    fn submit(&self, requests: impl IntoIterator<Item = DiskRequest>) {
        let disks = self.world.disks();
        requests
            .into_iter()
            .for_each(|request| disks.submit(request));
    }

    /// The term is won: nobody needs to be waited for any more.
    async fn run_alone(mut self, term: u64) -> Result<Outcome, SessionError> {
        grant(self.world, &self.claims, term).await?;
        self.world
            .disks()
            .copies()
            .go_on_alone(self.claims.identity())?;
        while let Some(action) = self.core.poll() {
            if let PrimaryAction::Report(report) = action {
                self.reporter.report(&report);
            }
        }
        let free = self.ledger.let_go();
        self.submit(free);
        self.perform_held(u64::MAX)?;
        self.pipe.set_room(true);
        self.pipe.set_pace(0);
        let ending = match (&mut self.vcpu, self.ending) {
            (Some(vcpu), _) => {
                solo::go_on(self.world, &self.pipe, &mut self.black_box, vcpu).await?
            }
            (None, Some(ending)) => ending,
            (None, None) => unreachable!("a primary that claims has started its guest"),
        };
        self.world.disks().end_alone()?;
        Ok(Outcome::Ended(ending))
    }
}

/// The disks learn that this replica is live in `term`.
pub(super) async fn grant(world: &World, claims: &Claims, term: u64) -> Result<(), SessionError> {
    let (disks, identity) = (world.disks(), claims.identity());
    let granted =
        tokio::task::spawn_blocking(move || disks.grant(Grant::Live { term, identity })).await;
    granted
        .expect("a disk's grant does not panic")
        .map_err(SessionError::Disk)
}

/// Looks for a backup that may not be up yet.
async fn find_backup(address: &str, timeout: Duration) -> Result<Connection, SessionError> {
    let give_up_at = tokio::time::Instant::now() + timeout;
    loop {
        let left = give_up_at.saturating_duration_since(tokio::time::Instant::now());
        match transport::connect(address, left.max(RETRY_INTERVAL)).await {
            Err(TransportError::Connect { .. }) if left > RETRY_INTERVAL => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            connection => return Ok(connection?),
        }
    }
}

/// A name for the pair that no other has.
fn random_session() -> Result<u64, SessionError> {
    let bytes = random_bytes(8).map_err(ReplicaError::from)?;
    Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

/// Sleeps until the protocol core wants to be woken.
pub(super) async fn sleep(wakeup: Option<Duration>) {
    match wakeup {
        Some(wakeup) => tokio::time::sleep(wakeup).await,
        None => std::future::pending().await,
    }
}

/// Waits for the vCPU thread to stop, if it runs.
pub(super) async fn ended(vcpu: &mut Option<VcpuThread>) -> Result<Ending, ReplicaError> {
    match vcpu {
        Some(vcpu) => vcpu.ended().await,
        None => std::future::pending().await,
    }
}
