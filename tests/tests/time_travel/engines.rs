//! Engines that keep no earlier states, and one that stops at exits alone.

use std::sync::Arc;

use lockstep_tests::{
    exactness::Subject,
    twins::{Guest, Recording},
};
use logging_channel::{Entry, Event, Position, log_file::LogReader};
use vmm::{
    engine::{
        Checkpoint, ClockKind, CpuMode, Engine, EngineError, EngineKind, FloatingPoint, Goal,
        Registers, Reply, Stop, checkpoint::Point, kvm::CountKind, soft::SoftEngine,
    },
    machine::{
        Machine,
        boot::{BootState, TscRewrite},
    },
    session::{
        playback,
        setup::{MachineConfig, SetupError},
        time_travel::{Arrival, Described, Origin, TimeMachine, TravelError},
    },
};

use super::{FAR, LIMITS, Logged, digest, go, passed};

/// The software CPU without its memory of earlier states.
struct Forgetful(SoftEngine);

impl Engine for Forgetful {
    fn clock(&self) -> String {
        self.0.clock()
    }
    fn clock_kind(&self) -> ClockKind {
        self.0.clock_kind()
    }
    fn cpu_model(&self) -> String {
        self.0.cpu_model()
    }
    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        self.0.boot(state)
    }
    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        self.0.run(goal)
    }
    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        self.0.reply(reply)
    }
    fn instructions(&self) -> u64 {
        self.0.instructions()
    }
    fn retired(&self) -> Option<u64> {
        self.0.retired()
    }
    fn accepts_interrupts(&self) -> bool {
        self.0.accepts_interrupts()
    }
    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        self.0.interrupt(vector)
    }
    fn registers(&mut self) -> Result<Registers, EngineError> {
        self.0.registers()
    }
    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        self.0.mode()
    }
    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        self.0.floating_point()
    }
}

impl Checkpoint for Forgetful {
    type Saved = ();

    fn checkpoint(&mut self) -> Result<Point<()>, EngineError> {
        Ok(Point::Never)
    }

    fn go_back(&mut self, (): &()) -> Result<(), EngineError> {
        unreachable!("it gave no state")
    }
}

impl Origin<Forgetful> for Subject {
    fn boot(&self) -> Result<Machine<Forgetful>, SetupError> {
        Ok(self.machine_on(TscRewrite::Leave, |memory| {
            Forgetful(SoftEngine::new(memory).expect("everywhere"))
        }))
    }
}

/// The same log in which the engine is to single-step from this exit on, as if an interrupt waited there: stepping changes nothing for the guest.
fn stepping_from(entries: &[Entry], exits: u64) -> Arc<[Entry]> {
    let at = Position {
        exits,
        instructions: 0,
    };
    let event = Event::Step { limit: 8 };
    let mut entries = entries.to_vec();
    let place = entries.partition_point(|entry| entry.at <= at);
    entries.insert(place, Entry { seq: 0, at, event });
    for (entry, seq) in entries.iter_mut().zip(1..) {
        entry.seq = seq;
    }
    entries.into()
}

/// On a clock of exits, the log names places between two exits, too: where an interrupt was waited for step by step. A guest that sets itself up
/// takes none, and exits all the time.
#[test]
fn a_stretch_that_is_stepped_can_be_stopped_in() {
    let guest = Guest::bare(EngineKind::Kvm, "sleeper", "count=5 hz=200");
    let recording = Recording::make(&guest, 1);
    let reader = LogReader::open(&recording.log()).expect("a log");
    let origin = Described {
        config: MachineConfig {
            engine: EngineKind::Kvm,
            count: CountKind::Exits,
            kernel: guest.kernel.clone().into(),
            boot: guest.boot,
            initrd: None,
            command_line: guest.command_line.clone(),
            memory_bytes: 16 << 20,
            mac: None,
            disks: vec![],
        },
        choices: reader.header().boot.clone(),
    };
    let entries = playback::load(reader).entries;
    let mut longest = 0;
    for exits in 1..8 {
        let machine = origin.boot().expect("a machine");
        let mut machine = TimeMachine::new(machine, stepping_from(&entries, exits), Some(LIMITS))
            .with_origin(Box::new(origin.clone()));
        let place = |instructions| Position {
            exits,
            instructions,
        };
        let mut steps = 0;
        while machine.run_to(place(steps + 1)).expect("it replays") == Arrival::Reached {
            steps += 1;
        }
        longest = longest.max(steps);
        for instructions in (0..=steps).rev() {
            go(&mut machine, place(instructions));
        }
        let Arrival::Ended(ending) = machine.run_to(FAR).expect("it replays") else {
            panic!("{:?}", machine.stopped());
        };
        assert_eq!(ending.digest.to_string(), recording.end.digest);
    }
    assert!(longest > 1, "{longest} instructions between two exits");
}

#[test]
fn an_engine_that_cannot_go_back_boots_anew() {
    let sleeper = || Subject::bare("sleeper", "count=5 hz=200", "sleeper end");
    let logged = Logged::new(sleeper());
    let marks = passed(&logged);
    let machine = || sleeper().boot().expect("a machine");
    let (early, late) = (marks[marks.len() / 4], marks[marks.len() / 2]);

    let mut stuck = TimeMachine::new(machine(), logged.log.clone(), Some(LIMITS));
    go(&mut stuck, late.0);
    let refused = stuck.run_to(early.0);
    assert!(
        matches!(refused, Err(TravelError::NoWayBack { at, to }) if at == late.0 && to == early.0)
    );

    let mut machine = TimeMachine::new(machine(), logged.log.clone(), Some(LIMITS))
        .with_origin(Box::new(sleeper()));
    for (to, expected) in [late, early, late, marks[0]] {
        go(&mut machine, to);
        assert_eq!(digest(&mut machine), expected);
    }
    assert_eq!(machine.kept(), (0, 0));
}
