//! The primary: live inputs; entries go to the backup, outputs wait for its acknowledgement.
//!
//! ```text
//!  vCPU thread                    │ I/O thread (this file)
//!  Live ─► Replica ─► LogPipe ────┼──► protocol core ──► channel ──► backup
//!    ▲                   outputs ─┼──► OutputGate ◄─(release)─ core ◄─ acks
//!  Inbox ◄────────────────────────┼─── World ◄──┘
//! ```
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
    gate::OutputGate,
    link::{Heard, Link},
    pipe::{LogPipe, PipeRecorder},
    replica::{Ending, ReplicaError},
    reports::Reporter,
    setup::Prepared,
    solo,
    vcpu::VcpuThread,
    world::World,
};
use crate::{
    host::MonotonicClock,
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
    clock: MonotonicClock,
    link: Link,
    claims: Claims,
    reporter: Reporter,
    black_box: BlackBox,
    pipe: Arc<LogPipe>,
    gate: OutputGate,
    world: &'a mut World,
    prepared: Option<(Prepared, BootChoices)>,
    late_limit: Option<Duration>,
    vcpu: Option<VcpuThread>,
    ending: Option<Ending>,
}

/// What a performed action means for the session.
enum Turn {
    GoOn,
    RunAlone,
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
        clock,
        link,
        claims,
        black_box: BlackBox::new(options.log, reporter.clone()),
        reporter,
        pipe: LogPipe::new(),
        gate: OutputGate::default(),
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
                Turn::RunAlone => return self.run_alone().await,
                Turn::Over(outcome) => {
                    self.link.finish().await;
                    return Ok(outcome);
                }
            }
            self.pipe.set_room(self.core.has_room());
            let event = self.next_event().await?;
            self.handle(event);
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
        for (seq, effect) in taken.outputs {
            self.gate.hold(seq, effect);
        }
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
                PrimaryAction::RunAlone { .. } => return Ok(Turn::RunAlone),
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
        let machine = prepared.boot(&boot)?;
        let recorder = Box::new(PipeRecorder::new(Arc::clone(&self.pipe)));
        let inputs = Live::new(HostClock::starting_at(0), self.world.inbox(), recorder, 1)
            .with_late_limit(machine.kicker(), self.late_limit);
        self.vcpu = Some(VcpuThread::spawn(machine, inputs));
        self.world.connect();
        Ok(())
    }

    fn release(&mut self, through: u64) -> Result<(), SessionError> {
        for effect in self.gate.release_through(through) {
            self.world.perform(&effect)?;
        }
        self.core
            .handle(PrimaryEvent::Released { through }, self.clock.now());
        Ok(())
    }

    /// The term is won: nobody needs to be waited for any more.
    async fn run_alone(mut self) -> Result<Outcome, SessionError> {
        while let Some(action) = self.core.poll() {
            if let PrimaryAction::Report(report) = action {
                self.reporter.report(&report);
            }
        }
        for effect in self.gate.release_through(u64::MAX) {
            self.world.perform(&effect)?;
        }
        self.pipe.set_room(true);
        self.pipe.set_pace(0);
        let ending = match (&mut self.vcpu, self.ending) {
            (Some(vcpu), _) => {
                solo::go_on(self.world, &self.pipe, &mut self.black_box, vcpu).await?
            }
            (None, Some(ending)) => ending,
            (None, None) => unreachable!("a primary that claims has started its guest"),
        };
        Ok(Outcome::Ended(ending))
    }
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
