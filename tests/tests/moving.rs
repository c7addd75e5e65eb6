//! A machine that is saved and goes on in another virtual machine, on a copy of its memory, does what it would have done: the log that the undisturbed
//! one left replays to the same end, digest by digest.

use std::sync::Arc;

use iced_x86::code_asm::{al, qword_ptr, rbx};
use lockstep_tests::{
    exactness::{copy, random::Random},
    in_process::{self, Entries, Kept},
    on_every_engine,
    snippet::{self, USER, USER_CODE, USER_DATA},
};
use logging_channel::{
    Entry,
    codec::{canonical_bytes, from_canonical_bytes},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use vmm::{
    engine::{AnyEngine, Engine, EngineError, EngineKind, Exit, Persist, Reply},
    inputs::{Live, Logged, live::HostClock},
    machine::{GuestMemory, Machine},
    session::replica::{Ending, Replica},
};

/// The machine moves after one turn in so many.
const MOVE_ONE_IN: u64 = 12;

fn machine(kind: EngineKind, guest: &str, options: &str) -> Machine<AnyEngine> {
    in_process::machine(kind, guest, options, 16 << 20)
}

fn record(machine: Machine<AnyEngine>) -> (Ending, Vec<Entry>) {
    let kept = Kept::default();
    let recorder = Box::new(kept.clone());
    let inputs = Live::new(HostClock::starting_at(0), Arc::default(), recorder, 1);
    let ending = Replica::new(machine, inputs.with_jitter(Some(1))).run();
    (ending.expect("the guest ends"), kept.take())
}

/// The same machine in another virtual machine, which is told what was saved and nothing else; `None` where it cannot be saved.
fn moved(kind: EngineKind, machine: &mut Machine<AnyEngine>) -> Option<Machine<AnyEngine>> {
    let state = match machine.save() {
        Ok(state) => canonical_bytes(&state),
        Err(EngineError::Unsavable(_)) => return None,
        Err(error) => panic!("{error}"),
    };
    let memory = copy(machine.memory());
    let engine = AnyEngine::new(kind, &memory).expect("another engine");
    let state = from_canonical_bytes(&state).expect("what was just saved");
    Some(Machine::restore(engine, memory, state).expect("a state of this very version"))
}

fn moves(kind: EngineKind, guest: &str, options: &str) {
    let (ending, log) = record(machine(kind, guest, options));
    for seed in 1..4 {
        let inputs = Logged::new(Entries::new(&log));
        let mut replica = Replica::new(machine(kind, guest, options), inputs);
        let mut random = Random::new(seed);
        let mut moves = 0;
        let end = loop {
            match replica.turn() {
                Ok(Some(ending)) => break ending,
                Ok(None) => {}
                Err(error) => panic!("seed {seed}, after {moves} moves: {error}"),
            }
            if random.once_in(MOVE_ONE_IN)
                && let Some(machine) = moved(kind, replica.machine_mut())
            {
                *replica.machine_mut() = machine;
                moves += 1;
            }
        };
        assert_eq!(end, ending, "seed {seed}, {moves} moves");
        assert!(moves > 5, "{moves} moves");
    }
}

on_every_engine! {
    fn counter(engine) {
        moves(engine, "counter", "count=20 hz=100");
    }

    fn clock(engine) {
        moves(engine, "clock", "count=100");
    }

    fn entropy(engine) {
        moves(engine, "entropy", "count=10");
    }

    fn faults(engine) {
        moves(engine, "faults", "");
    }

    /// At CPL 3, with system calls and page faults.
    fn user(engine) {
        moves(engine, "user", "count=10 loops=20000 hz=200");
    }
}

/// Memory as it was: page by page, behind the engine's back.
fn put_back(memory: &GuestMemory, before: &GuestMemory) {
    let mut page = [0; 4096];
    for address in (0..=before.last_addr().0).step_by(page.len()) {
        let address = GuestAddress(address);
        before.read_slice(&mut page, address).expect("it fits");
        memory.write_slice(&page, address).expect("it fits");
    }
}

/// The same engine goes back to where it was, from wherever it is: with page tables and code that are others by now, in the middle of exits too.
#[test]
fn an_engine_goes_back_and_does_the_same_again_on_kvm() {
    let (kind, guest, options) = (EngineKind::Kvm, "user", "count=10 loops=20000 hz=200");
    let (ending, log) = record(machine(kind, guest, options));
    let replay = |machine, log: &[Entry]| Replica::new(machine, Logged::new(Entries::new(log)));
    let mut random = Random::new(1);
    for _ in 0..8 {
        let mut replica = replay(machine(kind, guest, options), &log);
        let before = copy(replica.machine().memory());
        let state = replica.machine_mut().save().expect("nothing is under way");
        for _ in 0..random.up_to(300) {
            if replica.turn().expect("it replays").is_some() {
                break;
            }
        }
        let memory = replica.machine().memory().clone();
        let spent = std::mem::replace(replica.machine_mut(), machine(kind, guest, options));
        put_back(&memory, &before);
        let again = Machine::restore(spent.into_engine(), memory, state).expect("its own state");
        assert_eq!(replay(again, &log).run().expect("it replays"), ending);
    }
}

/// Page tables that the VMM changes behind the engine's back count once a state is restored, in user mode too, where hardware walks them.
#[test]
fn page_tables_that_the_vmm_changed_count_after_a_restore_on_kvm() {
    const PORT: u16 = 0x10;
    const PAGE_DIRECTORY: u64 = 0x6000;
    const LOOKED_AT: u64 = 0x60_0000;
    const ELSEWHERE: u64 = 0x20_0000;
    let memory = snippet::memory(
        |a| {
            // To user mode, with the right to access ports.
            a.push(i32::from(USER_DATA)).unwrap();
            a.push(0x50_0000).unwrap();
            a.push(0x3002).unwrap();
            a.push(i32::from(USER_CODE)).unwrap();
            a.push(USER as i32).unwrap();
            a.iretq().unwrap();
        },
        |a| {
            for _ in 0..2 {
                a.mov(rbx, qword_ptr(LOOKED_AT)).unwrap();
                a.out(i32::from(PORT), al).unwrap();
            }
        },
    );
    let mut engine = AnyEngine::new(EngineKind::Kvm, &memory).expect("these tests need /dev/kvm");
    engine.boot(&snippet::state()).expect("a legal state");
    let put = |value: u64, address| memory.write_obj(value, GuestAddress(address));
    put(1, LOOKED_AT).expect("it fits");
    put(2, ELSEWHERE).expect("it fits");
    let look = |engine: &mut AnyEngine| {
        let (exit, _) = snippet::next_guest_exit(engine);
        assert!(
            matches!(exit, Exit::PortWrite { port: PORT, .. }),
            "{exit:?}"
        );
        engine.reply(Reply::None).expect("an answer");
        engine.registers().expect("registers").general[1]
    };
    assert_eq!(look(&mut engine), 1);
    put(ELSEWHERE | 0x87, PAGE_DIRECTORY + (LOOKED_AT >> 21) * 8).expect("it fits");
    let state = engine.save().expect("nothing is under way");
    engine.restore(&state).expect("its own state");
    assert_eq!(look(&mut engine), 2);
}

/// A state is one engine's.
#[test]
fn states_of_other_engines_are_refused() {
    let mut soft = machine(EngineKind::Soft, "counter", "");
    let state = soft.save().expect("a state");
    let memory = copy(soft.memory());
    let engine = AnyEngine::new(EngineKind::Kvm, &memory).expect("these tests need /dev/kvm");
    let error = Machine::restore(engine, memory, state).err();
    let text = error.expect("it is refused").to_string();
    assert!(text.contains("the software CPU's"), "{text}");
}
