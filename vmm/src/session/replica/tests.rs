//! The loop on a clock of instructions, with a toy for an engine: what live inputs record must replay, wherever they let interrupts land.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use logging_channel::{Entry, Event};

use super::*;
use crate::{
    devices::DevicesConfig,
    effect::Effect,
    engine::{ClockKind, CpuMode, FloatingPoint, Goal, Registers, Reply},
    inputs::{
        Divergence, Live, Logged, live::HostClock, logged::LogSource, recent::RECENT_ENTRIES,
        recorder::Recorder,
    },
    machine::{
        GuestMemory, MIN_MEMORY_BYTES, allocate_memory,
        boot::{self, BootState},
    },
};

/// What the toy does first: sets up the interrupt controllers (vectors from 0x20 on, line 0 alone open) and a timer of 10 kHz.
const SET_UP: [(u16, u32); 13] = [
    (0x20, 0x11),
    (0x21, 0x20),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xA0, 0x11),
    (0xA1, 0x28),
    (0xA1, 0x02),
    (0xA1, 0x01),
    (0x21, 0xFE),
    (0xA1, 0xFF),
    (0x43, 0x34),
    (0x40, 119),
    (0x40, 0),
];
/// Instructions of an interrupt's handler, before it ends the interrupt.
const HANDLER_INSTRUCTIONS: u64 = 40;
/// Interrupts after which it ends: so many that there are digests, at whatever speed.
const LAST_INTERRUPT: u32 = 300;

/// A guest and its processor in one. Every instruction mixes its state; some exit, by what the state is. Where exits and interrupts come changes
/// everything after.
struct Toy {
    state: u64,
    since_exit: u64,
    retired: u64,
    set_up: usize,
    unanswered: Option<Exit>,
    interrupts: u32,
    /// Instructions left of an interrupt's handler.
    handling: Option<u64>,
    /// Exits by itself, besides those for interrupts.
    exits: bool,
}

impl Toy {
    fn new(exits: bool) -> Self {
        Self {
            state: 1,
            since_exit: 0,
            retired: 0,
            set_up: 0,
            unanswered: None,
            interrupts: 0,
            handling: None,
            exits,
        }
    }

    /// Executes an instruction.
    fn step(&mut self) -> Option<Exit> {
        let write = |port, value| Exit::PortWrite {
            port,
            width: 1,
            value,
        };
        if let Some((port, value)) = SET_UP.get(self.set_up) {
            self.set_up += 1;
            return Some(write(*port, *value));
        }
        if self.interrupts == LAST_INTERRUPT {
            // The keyboard controller's reset.
            return Some(write(0x64, 0xFE));
        }
        self.state = (self.state ^ self.since_exit)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
        self.since_exit += 1;
        self.retired += 1;
        if let Some(left) = &mut self.handling {
            *left -= 1;
            if *left == 0 {
                self.handling = None;
                return Some(write(0x20, 0x20));
            }
            return None;
        }
        match self.state % 8192 {
            0 if self.exits => Some(write(0x3F8, self.state as u32 >> 24)),
            1 if self.exits => Some(Exit::PortRead {
                port: 0x608,
                width: 4,
            }),
            // Seldom: a timer's interrupt comes every few hundred thousand instructions, and most are to land elsewhere.
            2 if self.exits && self.state >> 32 & 63 == 0 => Some(Exit::Halt),
            _ => None,
        }
    }
}

impl Engine for Toy {
    fn clock(&self) -> String {
        "toy".to_owned()
    }

    fn clock_kind(&self) -> ClockKind {
        ClockKind::Instructions
    }

    fn cpu_model(&self) -> String {
        "toy".to_owned()
    }

    fn boot(&mut self, _state: &BootState) -> Result<(), EngineError> {
        Ok(())
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        assert!(self.unanswered.is_none());
        loop {
            let reached = match goal {
                Goal::Exit => false,
                Goal::Instructions(count) => self.since_exit >= count,
                Goal::Interruptible { limit } => {
                    self.accepts_interrupts() || self.since_exit >= limit
                }
            };
            if reached {
                return Ok(Stop::Reached);
            }
            if let Some(exit) = self.step() {
                self.since_exit = 0;
                self.unanswered = Some(exit);
                return Ok(Stop::Exit(exit));
            }
        }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        assert!(self.unanswered.take().is_some());
        if let Reply::Port(value) = reply {
            self.state ^= u64::from(value);
        }
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.since_exit
    }

    fn retired(&self) -> Option<u64> {
        Some(self.retired)
    }

    /// Not in a handler, not while it is set up, and otherwise by what its state is.
    fn accepts_interrupts(&self) -> bool {
        self.handling.is_none()
            && self.set_up == SET_UP.len()
            && (!self.state.is_multiple_of(3)
                || matches!(self.unanswered, Some(Exit::Halt))
                || self.since_exit == 0)
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        assert!(self.accepts_interrupts());
        self.state ^= u64::from(vector);
        self.interrupts += 1;
        self.handling = Some(HANDLER_INSTRUCTIONS);
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        Ok(Registers {
            rip: self.state,
            rflags: self.since_exit,
            ..Registers::default()
        })
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        Ok(CpuMode {
            privilege: 0,
            bits: 64,
        })
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        Ok(FloatingPoint {
            st: [[0; 16]; 8],
            xmm: [[0; 16]; 16],
            words: [0; 3],
            mxcsr: 0,
        })
    }
}

fn machine(exits: bool) -> Machine<Toy> {
    let memory: GuestMemory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
    let devices = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: MIN_MEMORY_BYTES,
        disks: vec![],
    };
    let state = boot::begin_at(&memory, 0).expect("tables fit");
    Machine::new(Toy::new(exits), memory, &devices, &state).expect("a toy boots")
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Entry>>>);

impl Recorder for Kept {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        self.0.lock().expect("no panic").push(entry);
        Ok(())
    }
}

impl Kept {
    fn entries(self) -> VecDeque<Entry> {
        std::mem::take(&mut *self.0.lock().expect("no panic")).into()
    }
}

struct Entries(VecDeque<Entry>);

impl LogSource for Entries {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        Ok(self.0.pop_front())
    }

    fn replayed(&mut self, _seq: u64, _suppressed: Option<Effect>) {}
}

fn record(exits: bool, seed: Option<u64>) -> (Ending, VecDeque<Entry>) {
    let kept = Kept::default();
    let recorder = Box::new(kept.clone());
    let inputs = Live::new(HostClock::starting_at(0), Arc::default(), recorder, 1);
    let mut replica = Replica::new(machine(exits), inputs.with_jitter(seed));
    (replica.run().expect("the toy ends"), kept.entries())
}

fn replay(exits: bool, entries: VecDeque<Entry>) -> Result<Ending, ReplicaError> {
    Replica::new(machine(exits), Logged::new(Entries(entries))).run()
}

#[test]
fn what_was_recorded_between_instructions_replays_there() {
    for seed in [None, Some(1), Some(2), Some(3)] {
        let (ending, entries) = record(true, seed);
        let inside = entries.iter().filter(|entry| {
            matches!(entry.event, Event::Interrupt { .. }) && entry.at.instructions > 0
        });
        assert!(inside.count() > 0, "interrupts landed between exits");
        let read = |entry: &Entry| matches!(entry.event, Event::Time { .. });
        assert!(
            !entries.iter().any(read),
            "a read of the PM timer needs no entry"
        );
        let stepped = |entry: &Entry| matches!(entry.event, Event::Step { .. });
        assert!(!entries.iter().any(stepped), "positions are enough");
        assert_eq!(
            replay(true, entries).expect("it replays"),
            ending,
            "{seed:?}"
        );
    }
}

#[test]
fn a_guest_that_never_exits_gets_its_interrupts_and_tells_how_far_it_is() {
    let (ending, entries) = record(false, None);
    let count =
        |wanted: fn(&Event) -> bool| entries.iter().filter(|entry| wanted(&entry.event)).count();
    let interrupts = count(|event| matches!(event, Event::Interrupt { .. }));
    assert_eq!(interrupts, LAST_INTERRUPT as usize);
    assert!(count(|event| matches!(event, Event::Digest { .. })) > 0);
    assert_eq!(replay(false, entries).expect("it replays"), ending);
}

#[test]
fn an_interrupt_one_instruction_off_is_found() {
    let (_, entries) = record(true, Some(1));
    let places: Vec<usize> = (0..entries.len())
        .filter(|place| {
            let entry = &entries[*place];
            matches!(entry.event, Event::Interrupt { .. }) && entry.at.instructions > 0
        })
        .collect();
    for place in [places[0], places[places.len() / 2]] {
        let mut changed = entries.clone();
        changed[place].at.instructions += 1;
        let result = replay(true, changed);
        let diverged = matches!(result, Err(ReplicaError::Diverged(_)));
        assert!(diverged, "{result:?}");
    }
}

#[test]
fn a_machine_that_computes_on_for_ever_is_found() {
    // The toy that was recorded exits, the one that replays it does not.
    let (_, entries) = record(true, None);
    let mut entries = entries;
    entries.retain(|entry| matches!(entry.event, Event::Output { .. }));
    let result = replay(false, entries);
    let Err(ReplicaError::Diverged(report)) = result else {
        panic!("{result:?}");
    };
    let divergence = report.divergence;
    assert!(
        divergence.actual.contains("without an exit"),
        "{divergence}"
    );
}

#[test]
fn digests_on_the_way_are_compared() {
    let (_, mut entries) = record(true, Some(1));
    let digests: Vec<&mut Entry> = entries
        .iter_mut()
        .filter(|entry| matches!(entry.event, Event::Digest { .. }))
        .collect();
    let middle = digests.len() / 2;
    let changed = digests.into_iter().nth(middle).expect("there are digests");
    let at = changed.at;
    changed.event = Event::Digest {
        digest: Digest::of(b"another state"),
    };
    match replay(true, entries) {
        Err(ReplicaError::Diverged(report)) => {
            let Divergence {
                at: place,
                last_entries,
                ..
            } = report.divergence;
            assert_eq!(place, at);
            assert_eq!(last_entries.len(), RECENT_ENTRIES);
        }
        result => panic!("{result:?}"),
    }
}
