//! Agreement of engines that count instructions: KVM that steps over each, and the software CPU.
//!
//! ```text
//!  Subject ── World(seed) on the software CPU ──► log
//!                                                  ├─ replayed on the software CPU ─┐  at every turn: position, instructions, registers,
//!                                                  └─ replayed on KVM, stepping ────┴─ digest of devices and of a stripe of memory
//! ```
//!
//! A turn is what the log or the guest makes one: an exit, an input, an interrupt; and further stops that a seed chooses, in between.
//! Both engines are given the same image, in which `rdtsc` is rewritten, so that memory can be compared as a whole.

use std::{cell::RefCell, rc::Rc};

use logging_channel::{Digest, Entry, Event, Position};
use vmm::{
    engine::{
        ClockKind, CpuMode, Engine, EngineError, Exit, FloatingPoint, Goal, Persist, Registers,
        Reply, Stop,
        kvm::{CountKind, KvmEngine},
        soft::SoftEngine,
    },
    inputs::Logged,
    machine::{
        GuestMemory, Machine,
        boot::{BootState, TscRewrite},
        layout::{RDTSC_PORT, RDTSCP_PORT},
    },
    session::replica::{Ending, Replica},
};

use crate::exactness::{Entries, Subject, pieces::Pieces, world::World};

/// The software CPU on an image whose `rdtsc` is rewritten: KVM's engine knows the ports that stand for it, and this does here.
struct Rewritten {
    cpu: SoftEngine,
    reading: bool,
}

/// RDX in the software CPU's state, whose registers are in the hardware's order.
const RDX: usize = 2;

impl Rewritten {
    fn new(memory: &GuestMemory) -> Self {
        Self {
            cpu: SoftEngine::new(memory).expect("the software CPU runs everywhere"),
            reading: false,
        }
    }
}

impl Engine for Rewritten {
    fn clock(&self) -> String {
        self.cpu.clock()
    }

    fn clock_kind(&self) -> ClockKind {
        self.cpu.clock_kind()
    }

    fn cpu_model(&self) -> String {
        self.cpu.cpu_model()
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        self.cpu.boot(state)
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        let stop = self.cpu.run(goal)?;
        let with_aux = match stop {
            Stop::Exit(Exit::PortRead {
                port: RDTSC_PORT, ..
            }) => false,
            Stop::Exit(Exit::PortRead {
                port: RDTSCP_PORT, ..
            }) => true,
            _ => return Ok(stop),
        };
        self.reading = true;
        Ok(Stop::Exit(Exit::TscRead { with_aux }))
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        let Reply::Tsc { value } = reply else {
            return self.cpu.reply(reply);
        };
        assert!(std::mem::take(&mut self.reading), "nobody read it");
        self.cpu.reply(Reply::Port(value as u32))?;
        let mut state = self.cpu.save()?;
        state.general[RDX] = value >> 32;
        self.cpu.restore(&state)
    }

    fn instructions(&self) -> u64 {
        self.cpu.instructions()
    }

    fn retired(&self) -> Option<u64> {
        self.cpu.retired()
    }

    fn accepts_interrupts(&self) -> bool {
        self.cpu.accepts_interrupts()
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        self.cpu.interrupt(vector)
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        self.cpu.registers()
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        self.cpu.mode()
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        self.cpu.floating_point()
    }
}

/// An engine that can be looked at while a machine has it.
struct Shared<E>(Rc<RefCell<E>>);

impl<E: Engine> Engine for Shared<E> {
    fn clock(&self) -> String {
        self.0.borrow().clock()
    }

    fn clock_kind(&self) -> ClockKind {
        self.0.borrow().clock_kind()
    }

    fn cpu_model(&self) -> String {
        self.0.borrow().cpu_model()
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        self.0.borrow_mut().boot(state)
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        self.0.borrow_mut().run(goal)
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        self.0.borrow_mut().reply(reply)
    }

    fn instructions(&self) -> u64 {
        self.0.borrow().instructions()
    }

    fn retired(&self) -> Option<u64> {
        self.0.borrow().retired()
    }

    fn accepts_interrupts(&self) -> bool {
        self.0.borrow().accepts_interrupts()
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        self.0.borrow_mut().interrupt(vector)
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        self.0.borrow_mut().registers()
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        self.0.borrow_mut().mode()
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        self.0.borrow_mut().floating_point()
    }
}

/// What a machine is after a turn.
#[derive(Debug, PartialEq)]
struct Mark {
    at: Position,
    retired: Option<u64>,
    accepts_interrupts: bool,
    registers: Registers,
    floating_point: FloatingPoint,
    /// Of registers, devices and a stripe of memory, at some of the turns.
    digest: Option<Digest>,
}

/// Turns from one digest of memory to the next.
const DIGEST_TURNS: u64 = 16;

/// A replay, turn by turn.
struct Side<E: Engine> {
    engine: Rc<RefCell<E>>,
    replica: Replica<Shared<E>, Pieces<Logged<Entries>>>,
    turns: u64,
}

impl<E: Engine> Side<E> {
    fn new(
        subject: &Subject,
        log: Vec<Entry>,
        longest: u64,
        seed: u64,
        engine: impl FnOnce(&GuestMemory) -> E,
    ) -> Self {
        let mut shared = None;
        let machine: Machine<Shared<E>> = subject.machine_on(TscRewrite::Rewrite, |memory| {
            let engine = Rc::new(RefCell::new(engine(memory)));
            shared = Some(engine.clone());
            Shared(engine)
        });
        let inputs = Pieces::new(Logged::new(Entries::new(log)), Some(longest), seed);
        Self {
            engine: shared.expect("the machine has an engine"),
            replica: Replica::new(machine, inputs),
            turns: 0,
        }
    }

    /// Once around; the error's text if the replay does not follow its log.
    fn turn(&mut self) -> Result<Option<Ending>, String> {
        self.turns += 1;
        self.replica.turn().map_err(|error| error.to_string())
    }

    fn full_digest(&mut self) -> Result<Digest, EngineError> {
        self.replica.machine_mut().full_digest()
    }

    fn mark(&mut self) -> Result<Mark, EngineError> {
        let digest = if self.turns.is_multiple_of(DIGEST_TURNS) {
            Some(self.replica.machine_mut().periodic_digest()?)
        } else {
            None
        };
        let at = self.replica.machine().position();
        let mut engine = self.engine.borrow_mut();
        Ok(Mark {
            at,
            retired: engine.retired(),
            accepts_interrupts: engine.accepts_interrupts(),
            registers: engine.registers()?,
            floating_point: engine.floating_point()?,
            digest,
        })
    }
}

/// How much was compared.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// Positions.
    pub turns: u64,
    /// Instructions executed.
    pub instructions: u64,
}

/// What a guest does in the seed's world on the software CPU, without digests: the replays make their own.
fn record(subject: &Subject, seed: u64) -> Vec<Entry> {
    let machine = subject.machine_on(TscRewrite::Rewrite, Rewritten::new);
    let mut replica = Replica::new(machine, World::new(seed, subject.to_type()));
    let ending = replica.run();
    let printed = replica.inputs().printed();
    ending.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert!(printed.contains(subject.expected()), "{printed}");
    let log = replica.inputs().log().iter();
    let kept = log.filter(|entry| !matches!(entry.event, Event::Digest { .. }));
    kept.zip(1..)
        .map(|(entry, seq)| Entry {
            seq,
            ..entry.clone()
        })
        .collect()
}

/// Replays a run on both engines, in pieces of up to `longest` instructions, and compares them at every stop, and all of memory at the end or
/// once more than `most` instructions are executed.
///
/// # Panics
/// If anything differs: with where, and both states.
#[must_use]
pub fn agree(subject: &Subject, seed: u64, longest: u64, most: u64) -> Compared {
    let log = record(subject, seed);
    let mut soft = Side::new(subject, log.clone(), longest, seed, Rewritten::new);
    let mut kvm = Side::new(subject, log, longest, seed, |memory| {
        KvmEngine::new(memory, CountKind::Step).expect("these tests need /dev/kvm")
    });
    let mut before = None;
    loop {
        let ends = (soft.turn(), kvm.turn());
        let marks = (soft.mark(), kvm.mark());
        let marks = (marks.0.expect("registers"), marks.1.expect("registers"));
        assert!(
            ends.0 == ends.1 && marks.0 == marks.1,
            "after {before:#x?}\nthe software CPU: {:?} {:#x?}\nKVM: {:?} {:#x?}",
            ends.0,
            marks.0,
            ends.1,
            marks.1
        );
        let ended = ends.0.expect("the log is the software CPU's own").is_some();
        let instructions = marks.0.retired.expect("it counts");
        if ended || instructions > most {
            let whole = (soft.full_digest(), kvm.full_digest());
            assert_eq!(whole.0.expect("registers"), whole.1.expect("registers"));
            return Compared {
                turns: soft.turns,
                instructions,
            };
        }
        before = Some(marks.0);
    }
}
