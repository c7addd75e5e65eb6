//! Guests that compute without exits under KVM: kicked at any instant, they and whoever is told their state deltas are the same to the last byte.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use iced_x86::code_asm::*;
use lockstep_tests::{
    exactness::random::Random,
    in_process::{self, Entries, Kept},
    snippet::{self, USER, USER_CODE, USER_DATA},
};
use logging_channel::{Entry, Event};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use vmm::{
    engine::{AnyEngine, Delta, Engine, EngineKind, Exit, Goal, Kicker, Reply, Stop},
    inputs::{InputError, Live, Logged, live::HostClock},
    machine::{GuestMemory, Machine},
    session::{
        disks::Disks,
        feed::LogFeed,
        go_live::BackupInputs,
        pipe::LogPipe,
        replica::{Ending, Replica, ReplicaError},
    },
};

/// The guest writes its state here, and asks here whether it may end.
const STATE_PORT: u16 = 0x10;
const END_PORT: u16 = 0x11;
/// Where it scribbles.
const SCRATCH: u64 = 0x50_0000;
const SCRATCH_MASK: i32 = 0x1F_FFF8;
/// Kicks that a guest gets.
const KICKS: u64 = 10_000;
/// The longest time from one kick to the next, microseconds.
const LONGEST_PAUSE_US: u64 = 60;

/// Computes `loops` times and scribbles, with a breakpoint exception every 64 times if it can have one; then tells its state, and ends if it may.
fn scribble(a: &mut CodeAssembler, loops: u32, breakpoints: bool) {
    let (mut round, mut again, mut no_breakpoint) =
        (a.create_label(), a.create_label(), a.create_label());
    a.mov(rax, 0x9E37_79B9_7F4A_7C15_u64).unwrap();
    a.set_label(&mut round).unwrap();
    a.mov(ecx, loops).unwrap();
    a.set_label(&mut again).unwrap();
    for (left, by) in [(true, 13), (false, 7), (true, 17)] {
        a.mov(rdx, rax).unwrap();
        if left {
            a.shl(rdx, by).unwrap();
        } else {
            a.shr(rdx, by).unwrap();
        }
        a.xor(rax, rdx).unwrap();
    }
    a.mov(rdx, rax).unwrap();
    a.and(rdx, SCRATCH_MASK).unwrap();
    a.mov(qword_ptr(rdx + SCRATCH), rax).unwrap();
    if breakpoints {
        a.test(cl, 63).unwrap();
        a.jne(no_breakpoint).unwrap();
        a.int3().unwrap();
        a.set_label(&mut no_breakpoint).unwrap();
        a.nop().unwrap();
    }
    a.dec(ecx).unwrap();
    a.jne(again).unwrap();
    a.mov(edi, eax).unwrap();
    a.out(i32::from(STATE_PORT), eax).unwrap();
    a.in_(al, i32::from(END_PORT)).unwrap();
    a.test(al, al).unwrap();
    a.mov(eax, edi).unwrap();
    a.je(round).unwrap();
}

fn in_the_kernel() -> GuestMemory {
    const HANDLER: u64 = 0x18_0000;
    let memory = snippet::memory(
        |a| {
            scribble(a, 300, true);
            a.hlt().unwrap();
        },
        |a| a.nop().unwrap(),
    );
    // Vector 3 counts, and returns.
    let mut handler = CodeAssembler::new(64).expect("an assembler");
    handler.inc(r15).unwrap();
    handler.iretq().unwrap();
    let code = handler.assemble(HANDLER).expect("a handler");
    let gate = HANDLER & 0xFFFF | 0x10 << 16 | 0x8E00 << 32 | HANDLER >> 16 << 48;
    memory
        .write_slice(&code, GuestAddress(HANDLER))
        .expect("it fits");
    memory
        .write_obj(gate, GuestAddress(0x1000 + 3 * 16))
        .expect("it fits");
    memory
}

fn in_user_mode(flags: i32) -> GuestMemory {
    snippet::memory(
        |a| {
            a.push(i32::from(USER_DATA)).unwrap();
            a.push(0x40_8000).unwrap();
            a.push(flags).unwrap();
            a.push(i32::from(USER_CODE)).unwrap();
            a.push(USER as i32).unwrap();
            a.iretq().unwrap();
        },
        |a| {
            scribble(a, 20_000, false);
            // Not for user mode: the handler of #GP tells its vector and halts.
            a.hlt().unwrap();
        },
    )
}

fn engine(memory: &GuestMemory) -> AnyEngine {
    let mut engine = AnyEngine::new(EngineKind::Kvm, memory).expect("these tests need /dev/kvm");
    engine.boot(&snippet::state()).expect("a legal state");
    engine
}

fn bytes(memory: &GuestMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.last_addr().0 as usize + 1];
    memory
        .read_slice(&mut bytes, GuestAddress(0))
        .expect("all of it");
    bytes
}

/// Ends the kicking, however the test ends.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kicks whatever runs, at random times.
fn kick_around(kicker: &Kicker, done: &AtomicBool, hits: &AtomicU64) {
    let mut random = Random::new(1);
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(random.up_to(LONGEST_PAUSE_US)));
        if let Some(run) = kicker.running() {
            hits.fetch_add(u64::from(kicker.kick(run)), Ordering::Relaxed);
        }
    }
}

/// A delta's pages and state go to a follower.
fn tell(delta: &Delta, from: &GuestMemory, to: &GuestMemory, follower: &mut AnyEngine) {
    let mut page = [0; 4096];
    for range in &delta.dirty {
        for address in range.clone().step_by(page.len()).map(GuestAddress) {
            from.read_slice(&mut page, address).expect("it is memory");
            to.write_slice(&page, address).expect("it is memory");
        }
    }
    follower.go_on_from(&delta.state).expect("a state");
}

fn end_of(exit: Exit, may_end: bool) -> Reply {
    match exit {
        Exit::PortRead { port: END_PORT, .. } => Reply::Port(u32::from(may_end)),
        Exit::PortRead { .. } | Exit::MmioRead { .. } | Exit::TscRead { .. } => {
            panic!("{exit:?}")
        }
        _ => Reply::None,
    }
}

/// Runs a guest that is kicked ten thousand times, next to one that is told each delta; then one that is left alone. None of them may have an exit more, or
/// less, or other memory.
fn three_alike(memory: impl Fn() -> GuestMemory) {
    let memories = [memory(), memory(), memory()];
    let [mut kicked, mut told, mut alone] = memories.each_ref().map(engine);
    let kicker = kicked.kicker().expect("a clock of exits");
    kicked.track_dirty().expect("a dirty log");
    let (done, hits) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut exits, mut deltas) = (Vec::new(), 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| kick_around(&kicker, &done, &hits));
        let _ended = Ended(&done);
        loop {
            match kicked.run(Goal::Exit).expect("it runs") {
                Stop::Exit(exit) => {
                    assert_eq!(told.run(Goal::Exit).expect("it runs"), Stop::Exit(exit));
                    let reply = end_of(exit, deltas >= KICKS);
                    exits.push((exit, reply));
                    kicked.reply(reply).expect("an answer");
                    told.reply(reply).expect("an answer");
                    if exit == Exit::Halt {
                        break;
                    }
                }
                Stop::Kicked => {
                    let delta = kicked.take_delta().expect("a delta");
                    kicked.go_on_from(&delta.state).expect("its own state");
                    tell(&delta, &memories[0], &memories[1], &mut told);
                    deltas += 1;
                }
                Stop::Reached | Stop::Breakpoint => panic!("there is no goal"),
            }
            let registers = kicked.registers().expect("registers");
            assert_eq!(told.registers().expect("registers"), registers);
        }
    });
    let hits = hits.load(Ordering::Relaxed);
    eprintln!("{hits} kicks, {deltas} deltas, {} exits", exits.len());
    assert!(deltas <= hits, "a kick at an exit is none");
    for (exit, reply) in exits {
        assert_eq!(alone.run(Goal::Exit).expect("it runs"), Stop::Exit(exit));
        alone.reply(reply).expect("an answer");
    }
    let [kicked_bytes, told_bytes, alone_bytes] = memories.each_ref().map(bytes);
    assert!(kicked_bytes == told_bytes, "the deltas lack pages");
    assert!(kicked_bytes == alone_bytes, "kicks have changed something");
    let registers = alone.registers().expect("registers");
    assert_eq!(kicked.registers().expect("registers"), registers);
}

#[test]
fn ten_thousand_kicks_change_nothing_in_the_kernel() {
    three_alike(in_the_kernel);
}

/// With the right to access ports, and interrupts on or off.
#[test]
fn ten_thousand_kicks_change_nothing_in_user_mode() {
    three_alike(|| in_user_mode(0x3202));
}

#[test]
fn ten_thousand_kicks_change_nothing_in_user_mode_with_interrupts_off() {
    three_alike(|| in_user_mode(0x3002));
}

const SPINNER: (&str, &str) = ("spinner", "count=12 hz=100");
const SCRIBBLER: (&str, &str) = ("scribbler", "count=3 hz=50 mib=12");
const LATE: Duration = Duration::from_millis(3);

fn machine((guest, options): (&str, &str)) -> Machine<AnyEngine> {
    in_process::machine(EngineKind::Kvm, guest, options, 32 << 20)
}

fn record(guest: (&str, &str)) -> (Ending, Vec<Entry>) {
    let (kept, machine) = (Kept::default(), machine(guest));
    let recorder = Box::new(kept.clone());
    let inputs = Live::new(HostClock::starting_at(0), Arc::default(), recorder, 1)
        .with_late_limit(machine.kicker(), Some(LATE));
    let ending = Replica::new(machine, inputs).run();
    (ending.expect("the guest ends"), kept.take())
}

fn replay(guest: (&str, &str), log: &[Entry]) -> Result<Ending, ReplicaError> {
    Replica::new(machine(guest), Logged::new(Entries::new(log))).run()
}

/// Where the deltas of a log are: the indices of each one's entries.
fn deltas(log: &[Entry]) -> Vec<std::ops::RangeInclusive<usize>> {
    let (mut found, mut first) = (Vec::new(), None);
    for (index, entry) in log.iter().enumerate() {
        match entry.event {
            Event::Pages { .. } => {
                first.get_or_insert(index);
            }
            Event::State { .. } => found.push(first.take().unwrap_or(index)..=index),
            _ => assert!(first.is_none(), "a delta is in one piece"),
        }
    }
    found
}

/// A backup that has this log, and no more, and goes live: its end, and all of its log.
fn go_live(guest: (&str, &str), received: &[Entry]) -> (Ending, Vec<Entry>) {
    let (feed, pipe, machine) = (LogFeed::new(), LogPipe::new(), machine(guest));
    feed.deliver(received.to_vec());
    feed.drain();
    feed.go_live();
    let inputs = BackupInputs::new(feed, Disks::none(), Arc::clone(&pipe))
        .with_late_limit(machine.kicker(), Some(LATE));
    let live = std::thread::spawn(move || Replica::new(machine, inputs).run());
    let mut log = received.to_vec();
    while !live.is_finished() {
        log.extend(pipe.take().entries);
        std::thread::yield_now();
    }
    log.extend(pipe.take().entries);
    let ending = live.join().expect("no panic").expect("the guest ends");
    (ending, log)
}

/// Between `Pages` and `State`, before and after: what is not whole is void, and the guest goes on from where its stretch began. The log of it all
/// replays, with the piece of a delta in its middle.
#[test]
fn a_backup_goes_live_in_the_middle_of_a_delta() {
    let (_, log) = record(SPINNER);
    let deltas = deltas(&log);
    assert!(deltas.len() > 5, "{} deltas", deltas.len());
    for delta in [&deltas[0], &deltas[deltas.len() / 2]] {
        for end in *delta.start()..=*delta.end() + 1 {
            let (ending, whole) = go_live(SPINNER, &log[..end]);
            assert!(
                whole
                    .iter()
                    .map(|entry| entry.seq)
                    .eq(1..=whole.len() as u64)
            );
            let again = replay(SPINNER, &whole).expect("it replays");
            assert_eq!(again, ending, "cut before entry {}", end + 1);
        }
    }
}

#[test]
fn a_log_that_ends_in_a_delta_ends_where_the_stretch_began() {
    let (_, log) = record(SPINNER);
    let delta = &deltas(&log)[1];
    let begun = log[*delta.start()].at;
    match replay(SPINNER, &log[..*delta.end()]) {
        Err(ReplicaError::Inputs(InputError::Exhausted { at })) => assert_eq!(at, begun),
        other => panic!("{other:?}"),
    }
}

/// Far more than a pipe or a message holds.
#[test]
fn deltas_of_many_mebibytes_come_in_entries_that_fit() {
    let (ending, log) = record(SCRIBBLER);
    let bytes = |delta: &std::ops::RangeInclusive<usize>| {
        log[delta.clone()]
            .iter()
            .map(Entry::size_bytes)
            .sum::<u64>()
    };
    let largest = deltas(&log).iter().map(bytes).max().expect("deltas");
    assert!(largest > 10 << 20, "the largest delta has {largest} bytes");
    assert_eq!(replay(SCRIBBLER, &log).expect("it replays"), ending);
}

/// A page that is not told, and a state of another moment, are found out by the next digests.
#[test]
fn a_delta_that_lies_is_found_out() {
    let (_, log) = record(SCRIBBLER);
    let delta = deltas(&log)[1].clone();
    let mut without_a_part: Vec<Entry> = log.clone();
    without_a_part.remove(*delta.start());
    let error = replay(SCRIBBLER, &without_a_part).expect_err("a part is missing");
    assert!(matches!(error, ReplicaError::Diverged(_)), "{error}");
    let mut stale = log.clone();
    let earlier = log[*deltas(&log)[0].end()].event.clone();
    let Event::State { bytes, .. } = earlier else {
        panic!("a delta ends with its state")
    };
    let Event::State { bytes: later, .. } = &mut stale[*delta.end()].event else {
        panic!("a delta ends with its state")
    };
    *later = bytes;
    let error = replay(SCRIBBLER, &stale).expect_err("another state");
    assert!(matches!(error, ReplicaError::Diverged(_)), "{error}");
}
