//! Two replicas, an arbiter and the network between them, one event at a time.
//!
//! A run is a function of its seed: time is a number, chance is [`Random`], and whatever happens
//! next is the first of one ordered queue.

use std::collections::BTreeMap;
use std::time::Duration;

use logging_channel::codec::{Decoder, encode_message};
use logging_channel::identity::{BootChoices, Identity};
use logging_channel::protocol::{
    Backup, ClaimAnswer, Heartbeat, Limits, Message, Primary, Role, Timing,
};
use logging_channel::{Digest, Entry};

use crate::arbiter::Arbiter;
use crate::backup::BackupProcess;
use crate::checker::{Checked, Checker};
use crate::faults::{self, Plan};
use crate::network::{Network, Segment};
use crate::primary::{Mode, PrimaryProcess};
use crate::process::{Condition, Input, Process};
use crate::random::Random;

/// Time in the simulation.
pub type Micros = u64;

/// A run ends here, long after the last fault has passed.
const END: Micros = 2_400_000;
/// What was recorded before this must have had its effect by the end.
const SETTLED: Micros = END - 400_000;
/// The pair's term.
pub const TERM: u64 = 7;
const SESSION: u64 = 99;
/// Many times what any run takes.
const MAX_EVENTS: u64 = 1_000_000;

/// A mistake in a session, for the checker to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The primary lets outputs go without waiting for the ack.
    ReleasesBeforeAck,
    /// The primary's clock stands while it is stopped: it wakes and does not know that it was silent.
    ClockStopsWithProcess,
    /// The primary runs on alone when it cannot reach the arbiter.
    RunsAloneUnreachable,
    /// The backup does not ask the arbiter.
    LiveWithoutClaim,
    /// The backup goes live without replaying what it has acknowledged.
    LiveWithoutDrain,
    /// The backup goes live and forgets the outputs it has kept.
    ForgetsKeptOutputs,
    /// The backup releases what it replays instead of keeping it.
    SpeaksWhileReplaying,
}

#[derive(Clone, Copy)]
pub enum Happening {
    Arrival { from: Role },
    Datagram { from: Role, heartbeat: Heartbeat },
    Timer(Role),
    Vcpu(Role),
    Replay,
    Released { through: u64 },
    ClaimArrives { from: Role, expected_term: u64 },
    AnswerArrives { to: Role, answer: ClaimAnswer },
    FaultBegins(usize),
    FaultEnds(usize),
    Settled,
}

pub struct World {
    pub now: Micros,
    pub random: Random,
    pub bug: Option<Bug>,
    pub primary: PrimaryProcess,
    pub backup: BackupProcess,
    pub network: Network,
    pub checker: Checker,
    pub limits: Limits,
    pub vcpu_interval: Micros,
    pub guest_ends_at: Option<Micros>,
    pub slow_replay: bool,
    /// Sessions close the connection when they give the peer up; they may also be slow to.
    pub closes_on_suspicion: bool,
    arbiter: Arbiter,
    pub arbiter_down: bool,
    pub arbiter_far: [bool; 2],
    pub faults: Vec<Plan>,
    /// The pair was formed when the first fault began.
    pub formed_before_faults: bool,
    settled_seq: [u64; 2],
    through_codec: bool,
    verbose: bool,
    queue: BTreeMap<(Micros, u64), Happening>,
    ticket: u64,
}

/// What a run came to, for the statistics.
pub struct Outcome {
    pub outputs: u64,
    pub repeated: u64,
    /// How those still there ended up.
    pub primary: Option<Mode>,
    pub backup: Option<Mode>,
    pub finished: bool,
    pub events: u64,
}

fn identity() -> Identity {
    Identity {
        format_version: 1,
        clock: "instructions".to_owned(),
        cpu_model: "toy".to_owned(),
        memory_bytes: 8,
        command_line: String::new(),
        kernel: Digest::of(b"toy"),
        boot: "auto".to_owned(),
        initrd: None,
        devices: vec![],
    }
}

fn timing(random: &mut Random) -> Timing {
    Timing {
        heartbeat_interval: Duration::from_millis(20),
        failure_timeout: Duration::from_millis(random.between(150, 250)),
        handshake_timeout: Duration::from_millis(500),
        claim_retry_interval: Duration::from_millis(50),
        claim_timeout: Duration::from_millis(100),
        flush_interval: Duration::from_millis(1),
        lag_report_interval: Duration::from_millis(500),
    }
}

fn limits(random: &mut Random) -> Limits {
    Limits {
        backlog_bytes: random.between(1 << 10, 64 << 10),
        undelivered_bytes: random.between(1 << 10, 64 << 10),
        kept_outputs: usize::try_from(random.between(4, 64)).expect("small"),
        batch_bytes: random.between(200, 2000),
    }
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, verbose: bool) -> Self {
        let mut random = Random::new(seed);
        let limits = limits(&mut random);
        let (at_primary, at_backup) = (Process::new(&mut random), Process::new(&mut random));
        let boot = BootChoices {
            unix_time_s: 0,
            rng_seed: [0; 32],
        };
        let primary = Primary::new(
            identity(),
            boot,
            SESSION,
            TERM,
            timing(&mut random),
            limits,
            at_primary.clock(0),
        );
        let backup = Backup::new(identity(), timing(&mut random), limits, at_backup.clock(0));
        let faults = faults::plan(&mut random);
        let guest_ends = random.percent(12);
        let mut world = Self {
            now: 0,
            bug,
            primary: PrimaryProcess::new(at_primary, primary),
            backup: BackupProcess::new(at_backup, backup),
            network: Network::new(&mut random),
            checker: Checker::default(),
            limits,
            vcpu_interval: random.between(1_000, 16_000),
            guest_ends_at: guest_ends.then(|| random.between(50_000, 1_200_000)),
            slow_replay: false,
            closes_on_suspicion: random.percent(70),
            arbiter: Arbiter::new(TERM),
            arbiter_down: false,
            arbiter_far: [false; 2],
            faults,
            formed_before_faults: false,
            settled_seq: [0; 2],
            through_codec: random.percent(6),
            verbose,
            queue: BTreeMap::new(),
            ticket: 0,
            random,
        };
        world.schedule_beginning();
        world
    }

    fn schedule_beginning(&mut self) {
        for index in 0..self.faults.len() {
            let (at, until) = (self.faults[index].at, self.faults[index].until);
            self.schedule(at, Happening::FaultBegins(index));
            self.schedule(until, Happening::FaultEnds(index));
        }
        self.schedule(0, Happening::Vcpu(Role::Primary));
        self.schedule(0, Happening::Replay);
        self.schedule(SETTLED, Happening::Settled);
    }

    pub fn schedule(&mut self, at: Micros, happening: Happening) {
        self.ticket += 1;
        self.queue
            .insert((at.max(self.now), self.ticket), happening);
    }

    /// Only a verbose run pays for its trace.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>9} µs  {}", self.now, what());
        }
    }

    pub fn run(mut self) -> Result<Outcome, String> {
        let mut events = 0;
        self.pump(Role::Primary)?;
        while let Some(((at, _), happening)) = self.queue.pop_first()
            && at <= END
        {
            events += 1;
            if events > MAX_EVENTS {
                return Err(format!("livelock at {at} µs"));
            }
            self.now = at;
            self.happen(happening)?;
            self.checker.after_step()?;
            self.check_bounds()?;
        }
        self.check_end()?;
        Ok(Outcome {
            outputs: self.checker.outputs,
            repeated: self.checker.repeated,
            primary: (!self.primary.process.is_dead()).then_some(self.primary.mode),
            backup: (!self.backup.process.is_dead()).then_some(self.backup.mode),
            finished: self.primary.mode == Mode::Finished,
            events,
        })
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Arrival { from } => {
                let Some(segment) = self.network.arrive(from) else {
                    return Ok(());
                };
                let process = self.process(from.peer());
                process.connection.push_back(segment);
                self.pump(from.peer())
            }
            Happening::Datagram { from, heartbeat } => {
                if self.network.blocks_datagrams(from) {
                    return Ok(());
                }
                self.process(from.peer()).take_datagram(heartbeat);
                self.pump(from.peer())
            }
            Happening::Timer(role) => {
                self.process(role).timer = None;
                if self.process(role).is_running() {
                    self.tick(role)?;
                }
                self.pump(role)
            }
            Happening::Vcpu(Role::Primary) => self.run_primary_vcpu(),
            Happening::Vcpu(Role::Backup) => self.run_backup_vcpu(),
            Happening::Replay => self.run_replay(),
            Happening::Released { through } => self.primary_released(through),
            Happening::ClaimArrives {
                from,
                expected_term,
            } => self.arbitrate(from, expected_term),
            Happening::AnswerArrives { to, answer } => {
                self.process(to).answers.push_back(answer);
                self.pump(to)
            }
            Happening::FaultBegins(index) => self.begin_fault(index),
            Happening::FaultEnds(index) => self.end_fault(index),
            Happening::Settled => {
                self.settled_seq = [self.primary.guest.last_seq, self.backup.guest.last_seq];
                Ok(())
            }
        }
    }

    pub fn process(&mut self, role: Role) -> &mut Process {
        match role {
            Role::Primary => &mut self.primary.process,
            Role::Backup => &mut self.backup.process,
        }
    }

    pub fn clock(&mut self, role: Role) -> Duration {
        let now = self.now;
        self.process(role).clock(now)
    }

    pub fn tick(&mut self, role: Role) -> Checked {
        match role {
            Role::Primary => self.tick_primary(),
            Role::Backup => self.tick_backup(),
        }
    }

    /// A process takes all inputs that it can, and sets its timer.
    pub fn pump(&mut self, role: Role) -> Checked {
        loop {
            let reads = role == Role::Primary || self.backup.core.has_room();
            let process = match role {
                Role::Primary => &mut self.primary.process,
                Role::Backup => &mut self.backup.process,
            };
            if !process.is_running() {
                return Ok(());
            }
            let Some(input) = process.next_input(reads, &mut self.random) else {
                break;
            };
            self.take(role, input)?;
        }
        // What `new` asked for, at the first time.
        match role {
            Role::Primary => self.perform_primary()?,
            Role::Backup => self.perform_backup()?,
        }
        self.set_timer(role);
        Ok(())
    }

    fn take(&mut self, role: Role, input: Input) -> Checked {
        match role {
            Role::Primary => self.take_primary(input),
            Role::Backup => self.take_backup(input),
        }
    }

    fn set_timer(&mut self, role: Role) {
        let wakeup = match role {
            Role::Primary => self.primary.core.next_wakeup(),
            Role::Backup => self.backup.core.next_wakeup(),
        };
        let now = self.now;
        let process = self.process(role);
        let Some(at) = wakeup.map(|clock| process.when(clock).max(now)) else {
            return;
        };
        if process.timer.is_none_or(|set| set > at) {
            process.timer = Some(at);
            self.schedule(at, Happening::Timer(role));
        }
    }

    pub fn transmit(&mut self, from: Role, message: Message) {
        self.trace(|| format!("{from} sends {}", brief(&message)));
        let message = if self.through_codec {
            recode(&message)
        } else {
            message
        };
        self.send(from, Segment::Message(Box::new(message)));
    }

    pub fn close(&mut self, from: Role) {
        self.send(from, Segment::Close);
    }

    fn send(&mut self, from: Role, segment: Segment) {
        let arrival = self.network.send(from, segment, self.now, &mut self.random);
        if let Some(at) = arrival {
            self.schedule(at, Happening::Arrival { from });
        }
    }

    pub fn send_heartbeat(&mut self, from: Role, heartbeat: Heartbeat) {
        let (now, random) = (self.now, &mut self.random);
        for at in self.network.send_datagram(from, &heartbeat, now, random) {
            self.schedule(at, Happening::Datagram { from, heartbeat });
        }
    }

    pub fn exit(&mut self, role: Role) {
        self.close(role);
        self.process(role).condition = Condition::Dead;
    }

    pub fn claim(&mut self, from: Role, expected_term: u64) {
        self.trace(|| format!("{from} claims term {}", expected_term + 1));
        let at = self.now + self.random.between(100, 4_000);
        let claim = Happening::ClaimArrives {
            from,
            expected_term,
        };
        self.schedule(at, claim);
    }

    fn arbitrate(&mut self, from: Role, expected_term: u64) -> Checked {
        let far = self.arbiter_far[usize::from(from == Role::Backup)];
        let reached = !self.arbiter_down && (!far || self.random.percent(30));
        let mut answer = ClaimAnswer::Unreachable;
        if reached {
            answer = self.arbiter.claim(expected_term, from);
            if let ClaimAnswer::Won { term } = answer {
                self.checker.granted(term, from)?;
            }
            // Decided, but the answer is lost on its way.
            if far {
                answer = ClaimAnswer::Unreachable;
            }
        }
        if answer == ClaimAnswer::Unreachable && self.random.percent(30) {
            return Ok(());
        }
        self.trace(|| format!("arbiter answers {from}: {answer:?}"));
        let at = self.now + self.random.between(100, 4_000);
        self.schedule(at, Happening::AnswerArrives { to: from, answer });
        Ok(())
    }

    /// Every queue of the sessions is bounded by the cores' limits.
    fn check_bounds(&self) -> Checked {
        const ONE_APPEND: usize = 8;
        let held = self.primary.held.len();
        if held > self.limits.kept_outputs + ONE_APPEND {
            return Err(format!("primary holds {held} outputs"));
        }
        let kept = self.backup.kept.len();
        if kept > 2 * self.limits.kept_outputs {
            return Err(format!("backup keeps {kept} outputs"));
        }
        Ok(())
    }

    pub fn check_waiting(&self) -> Checked {
        let waiting: u64 = self.backup.replay.iter().map(Entry::size_bytes).sum();
        if waiting > self.limits.undelivered_bytes + self.limits.batch_bytes {
            return Err(format!("{waiting} bytes of entries wait for replay"));
        }
        Ok(())
    }

    fn check_end(&self) -> Checked {
        if self.backup.diverged {
            return Err("(c) the backup diverged".to_owned());
        }
        let harmless = self.faults.is_empty();
        if !harmless && (self.faults.len() > 1 || !self.formed_before_faults) {
            return Ok(());
        }
        if self.primary.mode == Mode::Finished {
            return self.checker.nothing_lost(Role::Primary, u64::MAX);
        }
        self.check_one_survives(harmless)
    }

    fn check_one_survives(&self, harmless: bool) -> Checked {
        let (primary, backup) = (self.primary.mode, self.backup.mode);
        if harmless && (primary, backup) != (Mode::Paired, Mode::Paired) {
            return Err(format!(
                "nothing failed, but primary is {primary:?}, backup {backup:?}"
            ));
        }
        let at_primary =
            self.primary.process.is_running() && matches!(primary, Mode::Paired | Mode::Live);
        let at_backup = self.backup.process.is_running() && backup == Mode::Live;
        let (role, guest, before) = match (at_primary, at_backup) {
            (true, false) => (Role::Primary, &self.primary.guest, self.settled_seq[0]),
            (false, true) => (Role::Backup, &self.backup.guest, self.settled_seq[1]),
            both => {
                return Err(format!(
                    "one fault, but (primary, backup) live: {both:?}, {primary:?}, {backup:?}"
                ));
            }
        };
        if !guest.ended && guest.last_seq <= before {
            return Err(format!("{role} survives, but its guest stands at {before}"));
        }
        self.checker.nothing_lost(role, before)
    }
}

fn recode(message: &Message) -> Message {
    let bytes = encode_message(message).expect("within the limits");
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let decoded = decoder.pull().expect("undamaged").expect("complete");
    assert_eq!(&decoded, message);
    decoded
}

fn brief(message: &Message) -> String {
    match message {
        Message::Entries {
            entries,
            released_through,
        } => match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => format!(
                "Entries {}..={}, released through {released_through}",
                first.seq, last.seq
            ),
            _ => format!("released through {released_through}"),
        },
        Message::Hello { .. } => "Hello".to_owned(),
        other => format!("{other:?}"),
    }
}
