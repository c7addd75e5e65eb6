//! Faults put into a replay: a flipped bit of memory or of a register, at a random instruction. The replay that parts from its log says so, and
//! bisecting finds the very instruction and what was flipped.
//!
//! `LOCKSTEP_FAULT_SEED` chooses other faults. The software CPU stops anywhere, so all of it is exact here.

use std::{ffi::OsString, sync::Arc, time::Duration};

use lockstep_tests::{
    engines::EngineKind,
    exactness::random::Random,
    images, told,
    twins::{Guest, Recording, Talk},
};
use logging_channel::{Entry, Position, log_file::LogReader};
use vmm::{
    engine::{AnyEngine, Registers, kvm::CountKind},
    host::Event,
    inputs::Situation,
    machine::boot::BootProtocol,
    session::{
        playback,
        setup::MachineConfig,
        time_travel::{Arrival, Described, Origin, TimeMachine},
    },
};

/// Exit code of a replay that parted from its log.
const HALTED: i32 = 3;
const FAR: Position = Position {
    exits: u64::MAX,
    instructions: 0,
};

/// A recording, and a replay of it that stops where it is told to.
struct Subject {
    recording: Recording,
    described: Described,
    entries: Arc<[Entry]>,
    instructions: u64,
    memory_bytes: u64,
}

impl Subject {
    fn new(guest: &Guest, memory_bytes: u64) -> Self {
        let recording = Recording::make(guest, 1);
        let reader = LogReader::open(&recording.log()).expect("a log");
        let config = MachineConfig {
            engine: guest.engine,
            count: guest.count,
            kernel: guest.kernel.clone().into(),
            boot: guest.boot,
            initrd: guest.initrd.clone().map(Into::into),
            command_line: guest.command_line.clone(),
            memory_bytes,
            mac: None,
            disks: vec![],
        };
        let choices = reader.header().boot.clone();
        let mut subject = Self {
            recording,
            described: Described { config, choices },
            entries: playback::load(reader).entries,
            instructions: 0,
            memory_bytes,
        };
        let mut replay = subject.replay();
        let arrival = replay.run_to(FAR).expect("it replays");
        assert!(matches!(arrival, Arrival::Ended(_)), "{arrival:?}");
        subject.instructions = replay.machine().retired().expect("a count");
        subject
    }

    fn bare(name: &str, options: &str) -> Self {
        Self::new(&Guest::bare(EngineKind::Soft, name, options), 16 << 20)
    }

    fn replay(&self) -> TimeMachine<AnyEngine> {
        let machine = self.described.boot().expect("it boots");
        TimeMachine::new(machine, self.entries.clone(), None)
    }

    /// A random moment before the guest's end.
    fn moment(&self, random: &mut Random) -> TimeMachine<AnyEngine> {
        let mut replay = self.replay();
        let instructions = random.up_to(self.instructions * 9 / 10);
        while replay.machine().retired().expect("a count") < instructions {
            let arrival = replay.advance(FAR, instructions).expect("it replays");
            assert_eq!(arrival, None, "it goes on to its end");
        }
        replay
    }

    /// Puts the fault in; what is told of it.
    fn inject(&self, fault: &str) -> (Option<i32>, Vec<Event>) {
        let replay = self.recording.replay_arguments(&self.recording.log());
        let options = ["--console", "none", "--verify", "--inject", fault].map(OsString::from);
        let (output, events) =
            told::run(replay.into_iter().chain(options), self.recording.folder());
        (output.status.code(), events)
    }

    /// Whether there is no moment between the two.
    fn neighbours(&self, before: Position, after: Position) -> bool {
        if before.exits == after.exits {
            return before.instructions + 1 == after.instructions;
        }
        let between = Position {
            instructions: before.instructions + 1,
            ..before
        };
        let arrival = self.replay().run_to(between).expect("it replays");
        before.exits + 1 == after.exits && after.instructions == 0 && arrival == Arrival::Passed
    }
}

/// A flipped bit, and how a report names it.
struct Flip {
    fault: String,
    at: Position,
    /// How the one line of differences begins.
    line: String,
}

/// Anywhere in memory, every other one where guests begin: their code, their data.
fn flip_in_memory(subject: &Subject, random: &mut Random, number: usize) -> Flip {
    const BEGINNING: u64 = 0x10_0000;
    let at = subject.moment(random).position();
    let address = match number % 2 {
        0 => BEGINNING + random.up_to(0x1_0000) - 1,
        _ => random.up_to(subject.memory_bytes) - 1,
    };
    let bit = random.up_to(8) - 1;
    Flip {
        fault: format!("memory:{address:#x}.{bit}@{at}"),
        at,
        line: format!("memory at {address:#x}: "),
    }
}

/// In any register, every other one in the stack pointer: somebody will need that one.
fn flip_in_register(subject: &Subject, random: &mut Random, number: usize) -> Flip {
    let at = subject.moment(random).position();
    let any = random.number() as usize % Registers::GENERAL_NAMES.len();
    let name = match number % 2 {
        0 => "RSP",
        _ => Registers::GENERAL_NAMES[any],
    };
    let bit = random.up_to(64) - 1;
    Flip {
        fault: format!("{name}.{bit}@{at}"),
        at,
        line: format!("{name}: "),
    }
}

/// Whether the replay parted from its log; wherever the fault left a trace, its place must be told.
fn is_noticed(subject: &Subject, flip: &Flip) -> bool {
    let Flip { fault, at, line } = flip;
    let (code, told) = subject.inject(fault);
    let parted = told.iter().find_map(|event| match event {
        Event::Divergence { position, .. } => Some(*position),
        _ => None,
    });
    let opinion = told.iter().find_map(|event| match event {
        Event::SecondOpinion {
            text,
            alike_at: Some(alike_at),
            different_at: Some(different_at),
        } => Some((text, *alike_at, *different_at)),
        _ => None,
    });
    let Some((text, alike_at, different_at)) = opinion else {
        // Overwritten before anything depended on it: the machine ends as if nothing had been.
        assert_eq!((code, parted), (Some(0), None), "{fault}: {told:?}");
        return false;
    };
    assert_eq!(code, Some(HALTED), "{fault}: {told:?}");
    assert!(
        parted.is_some_and(|parted| parted >= *at),
        "{fault}: told at {parted:?}"
    );
    assert_eq!(different_at, *at, "{fault}: {text}");
    assert!(
        alike_at < *at && subject.neighbours(alike_at, *at),
        "{fault}: {text}"
    );
    let mut lines = text.lines().skip(1);
    let difference = lines.next().unwrap_or_default().trim_start();
    assert!(difference.starts_with(line), "{fault}: {text}");
    assert_eq!(lines.next(), None, "{fault}: {text}");
    parted.is_some()
}

fn seed() -> u64 {
    let text = std::env::var("LOCKSTEP_FAULT_SEED").unwrap_or_else(|_| "1".to_owned());
    text.parse().expect("LOCKSTEP_FAULT_SEED is a number")
}

/// So many faults in memory, and as many in registers, of which at least `in_registers` must be noticed: what nothing needs any more is overwritten.
fn faults_are_found(subject: &Subject, count: usize, in_registers: usize) {
    let mut random = Random::new(seed());
    let mut noticed = |flip: fn(&Subject, &mut Random, usize) -> Flip| {
        let flips = (0..count).map(|number| flip(subject, &mut random, number));
        flips.filter(|flip| is_noticed(subject, flip)).count()
    };
    let (memory, registers) = (noticed(flip_in_memory), noticed(flip_in_register));
    eprintln!("of {count} each, noticed: {memory} in memory, {registers} in registers");
    assert!(memory * 2 >= count, "{memory} of {count} in memory");
    assert!(
        registers >= in_registers,
        "{registers} of {count} in registers"
    );
}

/// Mostly in user mode, whose stack pointer nobody asks for.
#[test]
fn in_a_guest_with_faults_and_system_calls() {
    faults_are_found(&Subject::bare("user", "count=5 loops=2000 hz=200"), 12, 0);
}

#[test]
fn in_a_guest_that_computes() {
    faults_are_found(&Subject::bare("spinner", "count=5 hz=200"), 12, 6);
}

#[test]
fn in_a_guest_that_sleeps() {
    faults_are_found(&Subject::bare("sleeper", "count=10 hz=200"), 12, 3);
}

#[test]
fn in_linux() {
    let command_line = images::variable("LOCKSTEP_LINUX_CMDLINE");
    let guest = Guest {
        engine: EngineKind::Soft,
        count: CountKind::default(),
        kernel: images::variable("LOCKSTEP_LINUX_KERNEL").into(),
        boot: BootProtocol::Auto,
        initrd: Some(images::variable("LOCKSTEP_LINUX_INITRD").into()),
        command_line: format!("{command_line} lockstep.run=poweroff"),
        memory: "64M",
        disk_bytes: 0,
        talk: Talk::Nothing,
        limit: Duration::from_secs(600),
    };
    faults_are_found(&Subject::new(&guest, 64 << 20), 8, 1);
}

/// A position that the guest passes over is no place for a fault, nor is one with nothing before it.
#[test]
fn a_fault_where_nothing_can_be_compared_is_refused() {
    let subject = Subject::bare("sleeper", "count=2 hz=200");
    for fault in ["rax.0@1+999999999", "rax.0@0+0"] {
        let (code, told) = subject.inject(fault);
        assert_eq!(code, Some(1), "{told:?}");
        let opinion = |event: &Event| matches!(event, Event::SecondOpinion { .. });
        assert!(!told.iter().any(opinion), "{told:?}");
    }
}
