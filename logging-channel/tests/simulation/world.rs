//! Two replicas, an arbiter and the network between them, one event at a time.
//!
//! A run is a function of its seed: time is a number, chance is [`Random`], and whatever happens
//! next is the first of one ordered queue.

use std::collections::BTreeMap;
use std::time::Duration;

use logging_channel::Digest;
use logging_channel::codec::{Decoder, encode_message};
use logging_channel::identity::{BootChoices, Identity};
use logging_channel::protocol::{
    Backup, ClaimAnswer, Heartbeat, Limits, Message, Primary, Role, Timing,
};

use crate::arbiter::Arbiter;
use crate::backup::BackupProcess;
use crate::bug::Bug;
use crate::checker::{Checked, Checker};
use crate::disk::Disk;
use crate::faults::{self, Plan};
use crate::guest::Guest;
use crate::network::{Network, Segment};
use crate::primary::{Mode, PrimaryProcess};
use crate::process::{Condition, Input, Process};
use crate::random::Random;
use crate::storage::{Client, Step};

/// Time in the simulation.
pub type Micros = u64;

/// A run ends here, long after the last fault has passed.
const END: Micros = 2_400_000;
/// What was recorded before this must have had its effect by the end.
const SETTLED: Micros = END - 800_000;
/// The pair's term.
pub const TERM: u64 = 7;
const SESSION: u64 = 99;
/// Many times what any run takes.
const MAX_EVENTS: u64 = 1_000_000;

#[derive(Clone)]
pub enum Happening {
    Arrival { from: Role },
    Datagram { from: Role, heartbeat: Heartbeat },
    Timer(Role),
    Vcpu(Role),
    Replay,
    Released { through: u64 },
    ClaimArrives { from: Role, expected_term: u64 },
    AnswerArrives { to: Role, answer: ClaimAnswer },
    Disk(Step),
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
    /// A request is sent to the disk so long after it was submitted, at most.
    pub submit_delay: Micros,
    /// Sessions close the connection when they give the peer up; they may also be slow to.
    pub closes_on_suspicion: bool,
    pub arbiter: Arbiter,
    pub arbiter_down: bool,
    pub arbiter_far: [bool; 2],
    pub disk: Disk,
    /// By replica.
    pub clients: [Client; 2],
    /// The backup reads the disk for itself.
    pub reads_apart: bool,
    pub counts: Counts,
    pub faults: Vec<Plan>,
    /// The pair was formed when the first fault began.
    pub formed_before_faults: bool,
    pub settled_seq: [u64; 2],
    through_codec: bool,
    verbose: bool,
    queue: BTreeMap<(Micros, u64), Happening>,
    ticket: u64,
}

/// What happened to requests to the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Writes and flushes that took effect.
    pub landed: u64,
    /// Requests of who had lost the term.
    pub refused: u64,
    /// Requests that a backup issued again when it went live.
    pub reissued: u64,
    /// Reads that a backup did for itself.
    pub read_apart: u64,
    /// Writes that waited until the backup had executed a read.
    pub held: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.landed += other.landed;
        self.refused += other.refused;
        self.reissued += other.reissued;
        self.read_apart += other.read_apart;
        self.held += other.held;
    }
}

/// What a run came to, for the statistics.
pub struct Outcome {
    pub outputs: u64,
    pub repeated: u64,
    pub disk: Counts,
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
        let reads_apart = bug == Some(Bug::WritesBeforeExecuted) || random.percent(50);
        let guest = || Guest::new(reads_apart, bug == Some(Bug::IgnoresConflicts));
        let mut world = Self {
            now: 0,
            bug,
            primary: PrimaryProcess::new(at_primary, primary, guest()),
            backup: BackupProcess::new(at_backup, backup, guest()),
            network: Network::new(&mut random),
            checker: Checker::default(),
            limits,
            vcpu_interval: random.between(1_000, 16_000),
            guest_ends_at: guest_ends.then(|| random.between(50_000, 1_200_000)),
            slow_replay: false,
            submit_delay: random.between(500, 10_000),
            closes_on_suspicion: random.percent(70),
            arbiter: Arbiter::new(TERM),
            arbiter_down: false,
            arbiter_far: [false; 2],
            disk: Disk::new(bug != Some(Bug::Unfenced), &mut random),
            clients: [
                Client::new(Role::Primary, Some(TERM)),
                Client::new(Role::Backup, None),
            ],
            reads_apart,
            counts: Counts::default(),
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
            self.checker.after_step(&self.disk.blocks)?;
            self.check_bounds()?;
        }
        self.check_end()?;
        Ok(Outcome {
            outputs: self.checker.outputs,
            repeated: self.checker.repeated,
            disk: self.counts,
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
            Happening::Timer(role) => self.timer(role),
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
            Happening::Disk(step) => self.storage_step(step),
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

    fn timer(&mut self, role: Role) -> Checked {
        let now = self.now;
        let process = self.process(role);
        // Another was set for an earlier time since.
        if process.timer != Some(now) {
            return Ok(());
        }
        process.timer = None;
        if process.is_running() {
            self.tick(role)?;
        }
        self.pump(role)
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
