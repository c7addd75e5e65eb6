//! Time on an engine that counts its instructions: a script of exits instead of a processor.

use logging_channel::codec::canonical_bytes;

use super::*;
use crate::engine::{FloatingPoint, Registers};

/// Picoseconds an instruction: each is a microsecond.
const RATE: u32 = 1_000_000;
/// The PIT's counter 0, mode 2, 1,193 clocks: a period of 999.8 µs, so that it is due at the thousandth instruction of its period.
const PERIOD: [(u16, u32); 3] = [(0x43, 0x34), (0x40, 0xA9), (0x40, 0x04)];
/// Both interrupt controllers; only lines 0 and 8 are open. OCW3: port 0x20 reads the request register.
const INTERRUPTS: [(u16, u32); 11] = [
    (0x20, 0x11),
    (0x21, 0x20),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xA0, 0x11),
    (0xA1, 0x28),
    (0xA1, 0x02),
    (0xA1, 0x01),
    (0x21, 0xFA),
    (0xA1, 0xFE),
    (0x20, 0x0A),
];
/// The real-time clock: periodic interrupts, 1,024 Hz.
const PERIODIC: [(u16, u32); 2] = [(0x70, 0x0B), (0x71, 0x42)];

/// An engine whose guest exits where it is told to, and has interrupts off.
struct Script {
    /// Instructions to the next exit, and the exit.
    exits: std::vec::IntoIter<(u64, Exit)>,
    next: Option<(u64, Exit)>,
    since_exit: u64,
    retired: u64,
    replies: Vec<Reply>,
}

impl Engine for Script {
    fn clock(&self) -> String {
        "script".to_owned()
    }

    fn clock_kind(&self) -> ClockKind {
        ClockKind::Instructions
    }

    fn cpu_model(&self) -> String {
        "script".to_owned()
    }

    fn boot(&mut self, _state: &BootState) -> Result<(), EngineError> {
        Ok(())
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        let (at, exit) = *self
            .next
            .get_or_insert_with(|| self.exits.next().expect("the script goes on"));
        let end = match goal {
            Goal::Exit => u64::MAX,
            Goal::Instructions(end) | Goal::Interruptible { limit: end } => end,
        };
        let stop = if end < at {
            end.max(self.since_exit)
        } else {
            at
        };
        self.retired += stop - self.since_exit;
        self.since_exit = stop;
        if stop < at {
            return Ok(Stop::Reached);
        }
        (self.next, self.since_exit) = (None, 0);
        Ok(Stop::Exit(exit))
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        self.replies.push(reply);
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.since_exit
    }

    fn retired(&self) -> Option<u64> {
        Some(self.retired)
    }

    fn accepts_interrupts(&self) -> bool {
        false
    }

    fn interrupt(&mut self, _vector: u8) -> Result<(), EngineError> {
        unreachable!("interrupts are off")
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        Ok(Registers::default())
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        Ok(CpuMode {
            privilege: 0,
            bits: 64,
        })
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        unreachable!("nobody asks")
    }
}

fn write((port, value): (u16, u32)) -> (u64, Exit) {
    let width = 1;
    (0, Exit::PortWrite { port, width, value })
}

fn read(instructions: u64, port: u16) -> (u64, Exit) {
    (instructions, Exit::PortRead { port, width: 1 })
}

fn machine(exits: Vec<(u64, Exit)>) -> Machine<Script> {
    let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
    let devices = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: MIN_MEMORY_BYTES,
        disks: vec![],
    };
    let state = boot::begin_at(&memory, 0).expect("tables fit");
    let engine = Script {
        exits: exits.into_iter(),
        next: None,
        since_exit: 0,
        retired: 0,
        replies: Vec::new(),
    };
    let mut machine = Machine::new(engine, memory, &devices, &state).expect("a machine");
    machine.apply(&Event::Clock {
        guest_ns: 0,
        ps_per_instruction: RATE,
    });
    machine
}

/// Runs through `count` exits, each run in pieces of so many instructions.
fn run(machine: &mut Machine<Script>, count: usize, piece: u64) {
    let mut left = count;
    while left > 0 {
        let goal = Goal::Instructions(machine.engine.since_exit.saturating_add(piece));
        if let Stop::Exit(exit) = machine.run(goal).expect("it runs") {
            assert!(!machine.needs_time(exit), "it knows its time: {exit:?}");
            machine.handle(exit, None).expect("it is served");
            left -= 1;
        }
    }
}

fn set_up() -> Vec<(u64, Exit)> {
    INTERRUPTS.into_iter().chain(PERIOD).map(write).collect()
}

/// Bit 0 of the request register, as the guest reads it.
fn requested(reply: Option<&Reply>) -> bool {
    let Some(Reply::Port(value)) = reply else {
        panic!("{reply:?}");
    };
    value & 1 == 1
}

#[test]
fn a_timer_is_due_at_its_very_instruction_and_the_interrupt_controller_shows_it() {
    for (instructions, due) in [(1_000, false), (1_001, true), (1_002, true)] {
        let mut exits = set_up();
        exits.push(read(instructions, 0x20));
        let count = exits.len();
        let mut machine = machine(exits);
        run(&mut machine, count, u64::MAX);
        // The count is loaded a clock after it was written.
        let seen = requested(machine.engine.replies.last());
        assert_eq!(seen, due, "after {instructions} instructions");
    }
}

#[test]
fn where_a_run_is_cut_makes_no_difference() {
    let script = || {
        let mut exits = set_up();
        exits.extend(PERIODIC.map(write));
        exits.extend([
            read(700, 0x20),
            read(2_600, 0x40),
            read(10, 0x61),
            read(4_000, 0x71),
        ]);
        exits.push((90, Exit::TscRead { with_aux: false }));
        exits
    };
    let course = |piece| {
        let exits = script();
        let count = exits.len();
        let mut machine = machine(exits);
        run(&mut machine, count, piece);
        let devices = canonical_bytes(&machine.devices);
        (machine.engine.replies, devices, machine.clock)
    };
    let whole = course(u64::MAX);
    assert_eq!(
        whole.0.last(),
        Some(&Reply::Tsc {
            value: (700 + 2_600 + 10 + 4_000 + 90) * 1_000
        })
    );
    for piece in [1, 3, 97, 999, 1_000, 1_001] {
        assert!(course(piece) == whole, "pieces of {piece}");
    }
}

#[test]
fn a_correction_past_a_deadline_fires_the_timer_there() {
    let mut exits = set_up();
    exits.push(read(5, 0x20));
    let count = exits.len();
    let mut machine = machine(exits);
    run(&mut machine, count - 1, u64::MAX);
    assert!(!machine.devices.interrupt_pending());
    machine.apply(&Event::Clock {
        guest_ns: 1_500_000,
        ps_per_instruction: 7,
    });
    assert!(machine.devices.interrupt_pending());
    run(&mut machine, 1, u64::MAX);
    assert!(requested(machine.engine.replies.last()));
    assert_eq!(machine.time_ns(), 1_500_000);
}

#[test]
fn a_tick_moves_the_clock_and_keeps_its_rate() {
    let mut exits = set_up();
    exits.push((2, Exit::TscRead { with_aux: false }));
    let count = exits.len();
    let mut machine = machine(exits);
    run(&mut machine, count - 1, u64::MAX);
    machine.apply(&Event::Tick {
        guest_ns: 5_000_000,
    });
    assert!(machine.devices.interrupt_pending());
    run(&mut machine, 1, u64::MAX);
    let tsc = Reply::Tsc { value: 5_002_000 };
    assert_eq!(machine.engine.replies.last(), Some(&tsc));
}

#[test]
fn a_timer_is_held_back_while_another_interrupt_waits_besides_its_own() {
    let mut exits = set_up();
    // The real-time clock asks 1,024 times a second, and is never served.
    exits.extend(PERIODIC.map(write));
    exits.push(read(1_010, 0x20));
    let count = exits.len();
    let mut machine = machine(exits);
    run(&mut machine, count, u64::MAX);
    assert!(machine.devices.interrupt_pending() && machine.devices.other_interrupt_pending());
    assert_eq!(machine.timer_at, None);
    assert!(machine.devices.deadline_ns().is_some());
}
