//! Random bytes as code: the CPU never panics and never hangs, and stopping, saving and restoring it anywhere changes nothing.
//!
//! Each case is a small machine, page tables, descriptors and handlers included, whose code is random: raw bytes, or valid instructions chosen at random
//! so that it gets further. One run goes straight to a number of instructions; another stops at random counts, moves the state and the memory
//! into a fresh CPU each time, and goes on. Both must end alike, memory included. `LOCKSTEP_FUZZ_CASES` says how many cases there are.

mod machine;

use machine::{Machine, Random};
use x86_engine::{Cpu, Exit, Goal, Ram, Reply, State, Stop};

/// How far each case runs, instructions.
const LENGTH: u64 = 3_000;

fn cases(default: u64) -> u64 {
    std::env::var("LOCKSTEP_FUZZ_CASES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(default)
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct End {
    state: State,
    memory: Vec<u8>,
    exits: Vec<Exit>,
}

/// An answer that depends on nothing but how many there were before.
fn answer(exit: Exit, number: usize) -> Reply {
    let value = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match exit {
        Exit::PortRead { .. } => Reply::Port(value as u32),
        Exit::MmioRead { .. } => Reply::Mmio(value.to_le_bytes()),
        Exit::TscRead { .. } => Reply::Tsc { value },
        _ => Reply::None,
    }
}

/// Runs `machine` for [`LENGTH`] instructions or to its end; `stops` says how far to go at a time, or nothing to go on without a stop.
fn run(machine: &Machine, mut stops: impl FnMut() -> Option<u64>) -> End {
    let mut cpu = Cpu::new(Ram::owned(machine.memory.len() as u64));
    cpu.ram_mut().write(0, &machine.memory);
    cpu.restore(&machine.state).expect("this version's state");
    let mut exits = Vec::new();
    while cpu.retired() < LENGTH {
        let left = LENGTH - cpu.retired();
        let goal = cpu.instructions() + stops().unwrap_or(left).clamp(1, left);
        let before = (cpu.retired(), exits.len());
        match cpu.run(Goal::Instructions(goal)) {
            Stop::Exit(exit @ (Exit::Halt | Exit::Shutdown)) => {
                exits.push(exit);
                break;
            }
            Stop::Exit(exit) => {
                exits.push(exit);
                cpu.reply(answer(exit, exits.len()));
            }
            Stop::Reached => assert_eq!(cpu.instructions(), goal, "stops are exact"),
        }
        assert_ne!((cpu.retired(), exits.len()), before, "the clock moves");
        if exits.len() as u64 > LENGTH {
            break;
        }
        if stops().is_some() {
            cpu = moved(&cpu);
        }
    }
    let memory = memory_of(&cpu);
    End {
        state: cpu.save(),
        memory,
        exits,
    }
}

fn memory_of(cpu: &Cpu) -> Vec<u8> {
    let mut memory = vec![0; cpu.ram().bytes() as usize];
    cpu.ram().read(0, &mut memory);
    memory
}

/// A fresh CPU that goes on where `cpu` stands.
fn moved(cpu: &Cpu) -> Cpu {
    let mut fresh = Cpu::new(Ram::owned(cpu.ram().bytes()));
    fresh.ram_mut().write(0, &memory_of(cpu));
    fresh.restore(&cpu.save()).expect("this version's state");
    fresh
}

fn check(kind: machine::Kind, seed: u64) {
    let machine = Machine::random(kind, seed);
    let straight = run(&machine, || None);
    let mut random = Random::new(seed ^ 0x5EED);
    let stopped = run(&machine, || Some(1 + random.below(200)));
    assert!(
        straight.state == stopped.state,
        "{kind:?}, seed {seed}: straight {:#x?}\nstopped {:#x?}",
        straight.state,
        stopped.state
    );
    assert_eq!(straight.exits, stopped.exits, "{kind:?}, seed {seed}");
    let differing = straight
        .memory
        .iter()
        .zip(&stopped.memory)
        .position(|(a, b)| a != b);
    assert_eq!(
        differing, None,
        "{kind:?}, seed {seed}: memory differs here"
    );
}

#[test]
fn random_bytes_neither_panic_nor_hang_nor_notice_stops() {
    for seed in 0..cases(300) {
        check(machine::Kind::Bytes, seed);
    }
}

#[test]
fn random_instructions_neither_panic_nor_hang_nor_notice_stops() {
    for seed in 0..cases(300) {
        check(machine::Kind::Instructions, seed);
    }
}
