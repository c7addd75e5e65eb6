//! Agreement of engines that count alike: KVM that steps over each instruction and the software CPU; counters that are late, each in its way.
//!
//! ```text
//!  Subject ── World(seed) on one engine ──► log
//!                                            ├─ replayed on that engine ─┐  at every turn: position, instructions, registers,
//!                                            └─ replayed on the other ───┴─ digest of devices and of a stripe of memory
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
        course: Course,
        engine: impl FnOnce(&GuestMemory) -> E,
    ) -> Self {
        let mut shared = None;
        let machine: Machine<Shared<E>> = subject.machine_on(TscRewrite::Rewrite, |memory| {
            let engine = Rc::new(RefCell::new(engine(memory)));
            shared = Some(engine.clone());
            Shared(engine)
        });
        let inputs = Logged::new(Entries::new(log));
        let inputs = Pieces::new(inputs, Some(course.longest), course.seed);
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

/// How a guest is run and compared.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Of the world, and of the stops.
    pub seed: u64,
    /// The longest piece, in what the engines count.
    pub longest: u64,
    /// The comparison ends once more than so many are executed.
    pub most: u64,
}

/// What a guest does in the seed's world, without digests: the replays make their own.
fn record<E: Engine>(
    subject: &Subject,
    seed: u64,
    engine: impl FnOnce(&GuestMemory) -> E,
) -> Vec<Entry> {
    let machine = subject.machine_on(TscRewrite::Rewrite, engine);
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

/// Replays a log on two engines, in the same pieces, and compares them at every stop, and all of memory at the end.
///
/// # Errors
/// With the error's text, if the second engine fails or does not follow the log.
///
/// # Panics
/// If anything differs: with where, and both states.
fn compare<A: Engine, B: Engine>(
    course: Course,
    mut expected: Side<A>,
    mut actual: Side<B>,
) -> Result<Compared, String> {
    let mut before = None;
    loop {
        let end = expected.turn().expect("the log is this engine's own");
        let other = actual.turn()?;
        let marks = (expected.mark(), actual.mark());
        let marks = (marks.0.expect("registers"), marks.1.expect("registers"));
        assert!(
            end == other && marks.0 == marks.1,
            "after {before:#x?}\nexpected: {end:?} {:#x?}\nactual: {other:?} {:#x?}",
            marks.0,
            marks.1
        );
        let instructions = marks.0.retired.expect("it counts");
        if end.is_some() || instructions > course.most {
            let whole = (expected.full_digest(), actual.full_digest());
            assert_eq!(whole.0.expect("registers"), whole.1.expect("registers"));
            return Ok(Compared {
                turns: expected.turns,
                instructions,
            });
        }
        before = Some(marks.0);
    }
}

fn kvm(count: CountKind) -> impl FnOnce(&GuestMemory) -> KvmEngine {
    move |memory| KvmEngine::new(memory, count).expect("these tests need /dev/kvm")
}

/// Compares the software CPU and KVM that steps over each instruction.
///
/// # Panics
/// If anything differs.
#[must_use]
pub fn stepping_agrees(subject: &Subject, course: Course) -> Compared {
    let log = record(subject, course.seed, Rewritten::new);
    let soft = Side::new(subject, log.clone(), course, Rewritten::new);
    let kvm = Side::new(subject, log, course, kvm(CountKind::Step));
    compare(course, soft, kvm).unwrap_or_else(|error| panic!("{error}"))
}

/// Compares two KVMs with counters that are late, each by other random amounts; those of the second by up to so many instructions more than it says.
///
/// # Errors
/// With the error's text, if the second fails.
///
/// # Panics
/// If anything differs.
pub fn late_counters_agree(
    subject: &Subject,
    course: Course,
    beyond: u64,
) -> Result<Compared, String> {
    let seed = 2 * course.seed;
    let [first, second] =
        [(seed, 0), (seed + 1, beyond)].map(|(seed, beyond)| CountKind::Simulated { seed, beyond });
    let log = record(subject, course.seed, kvm(first));
    let one = Side::new(subject, log.clone(), course, kvm(first));
    let other = Side::new(subject, log, course, kvm(second));
    compare(course, one, other)
}
