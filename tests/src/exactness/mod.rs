//! Exactness of the software CPU: a guest that is stopped anywhere, saved and gone on with elsewhere does what it does undisturbed.
//!
//! ```text
//!  Subject ── World(seed) ───────────────► Recording: log, end, instructions
//!                                             │ replayed in one go
//!                                             ├──────► the state at every turn  ───┐
//!                                             │ replayed in Pieces(seed),          ├─ equal
//!                                             │ machine by machine                 │
//!                                             └──────► the state at every turn  ───┘
//! ```
//!
//! A turn is what the log or the guest makes one: an exit, an input, an interrupt, a digest. What always holds: both replays have the same turns;
//! the stops between them are the pieces'.

pub mod pieces;
pub mod random;
pub mod subject;
pub mod world;

use logging_channel::{
    Digest, Entry, Position,
    codec::{canonical_bytes, from_canonical_bytes},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use vmm::{
    effect::Effect,
    engine::soft::SoftEngine,
    inputs::{InputError, Logged, Situation, logged::LogSource},
    machine::{GuestMemory, Machine, allocate_memory},
    session::replica::{Ending, Replica},
};

use pieces::Pieces;
use random::Random;
pub use subject::Subject;
use world::World;

/// Once in so many moves, the next processor is a fresh one. Else it is the one before the last, which costs less and has to forget all
/// that it knows.
const FRESH_ONE_IN: u64 = 8;
/// Once in so many fresh ones, 16 MiB of memory are copied as well; more memory more rarely.
const COPY_ONE_IN: u64 = 4;
const COPY_UNIT_BYTES: u64 = 16 << 20;
/// Once in so many stops, the same machine goes on, with its caches as they are.
const STAY_ONE_IN: u64 = 4;
/// Once in so many turns, the machine is saved and restored there, too: after exits, between inputs, in HLT.
const SAVE_TURN_ONE_IN: u64 = 32;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Reason, position, and the digest of registers, devices and all of memory.
    pub ending: Ending,
    /// Instructions in all.
    pub retired: u64,
}

/// A run in a world, to its end.
#[derive(PartialEq, Eq)]
pub struct Recording {
    /// Inputs, outputs and digests.
    pub log: Vec<Entry>,
    /// How it ended.
    pub finish: Finish,
}

/// Runs a guest to its end.
///
/// # Panics
/// If it does not end as it should.
#[must_use]
pub fn record(subject: &Subject, seed: u64) -> Recording {
    let world = World::new(seed, subject.to_type);
    let mut replica = Replica::new(subject.machine(), world);
    let ending = replica.run();
    let printed = replica.inputs().printed();
    let ending = ending.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert!(printed.contains(subject.expected), "{printed}");
    Recording {
        log: replica.inputs().log().to_vec(),
        finish: Finish {
            ending,
            retired: retired(replica.machine()),
        },
    }
}

fn retired(machine: &Machine<SoftEngine>) -> u64 {
    machine
        .retired()
        .expect("the software CPU counts every instruction")
}

impl Recording {
    /// The same as another one.
    ///
    /// # Panics
    /// If it is not; with the first difference.
    pub fn assert_same(&self, other: &Self) {
        for (one, two) in self.log.iter().zip(&other.log) {
            assert_eq!(one, two);
        }
        assert_eq!(self.log.len(), other.log.len());
        assert_eq!(self.finish, other.finish);
    }
}

/// A log that is read from memory.
pub(crate) struct Entries(std::vec::IntoIter<Entry>);

impl Entries {
    pub(crate) fn new(log: Vec<Entry>) -> Self {
        Self(log.into_iter())
    }
}

impl LogSource for Entries {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        Ok(self.0.next())
    }

    fn replayed(&mut self, _seq: u64, _suppressed: Option<Effect>) {}
}

/// What a machine is after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    at: Position,
    retired: u64,
    /// Of everything but memory, which the log's digests cover.
    state: Digest,
}

fn mark(machine: &mut Machine<SoftEngine>) -> Mark {
    let state = machine.save().expect("it can be saved anywhere");
    Mark {
        at: machine.position(),
        retired: retired(machine),
        state: Digest::of(&canonical_bytes(&state)),
    }
}

/// A replay of a recording, turn by turn.
struct Replay {
    replica: Replica<SoftEngine, Pieces<Logged<Entries>>>,
    /// The processor before the last, on the same memory.
    spare: Option<SoftEngine>,
}

/// Where a replay is.
enum Stage {
    /// A piece has ended.
    Stopped,
    /// A turn of the log's, or of the guest's, is done.
    Turned,
    /// The guest has ended.
    Ended(Ending),
}

impl Replay {
    fn new(subject: &Subject, log: &[Entry], longest: Option<u64>, seed: u64) -> Self {
        let inputs = Logged::new(Entries::new(log.to_vec()));
        Self {
            replica: Replica::new(subject.machine(), Pieces::new(inputs, longest, seed)),
            spare: None,
        }
    }

    fn turn(&mut self) -> Stage {
        match self.replica.turn() {
            Ok(Some(ending)) => Stage::Ended(ending),
            Ok(None) => {
                let at = self.replica.machine().position();
                if self.replica.inputs().stopped_at(at) {
                    Stage::Stopped
                } else {
                    Stage::Turned
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn finish(&self, ending: Ending) -> Finish {
        Finish {
            ending,
            retired: retired(self.replica.machine()),
        }
    }

    /// Goes on with another engine, which is told what was saved and nothing else; sometimes on a copy of the memory.
    fn move_on(&mut self, random: &mut Random) {
        let machine = self.replica.machine_mut();
        let saved = canonical_bytes(&machine.save().expect("it can be saved anywhere"));
        let state = from_canonical_bytes(&saved).expect("what was just saved");
        let spare = self.spare.take();
        let (engine, memory) = match spare.filter(|_| !random.once_in(FRESH_ONE_IN)) {
            Some(engine) => (engine, machine.memory().clone()),
            None => fresh(machine.memory(), random),
        };
        let restored =
            Machine::restore(engine, memory, state).expect("a state of this very version");
        let copied = !same(restored.memory(), machine.memory());
        let before = std::mem::replace(machine, restored);
        self.spare = (!copied).then(|| before.into_engine());
    }
}

/// A fresh engine on this memory, or on a copy of it.
fn fresh(memory: &GuestMemory, random: &mut Random) -> (SoftEngine, GuestMemory) {
    let bytes = memory.last_addr().0 + 1;
    let copy_one_in = COPY_ONE_IN * (bytes / COPY_UNIT_BYTES).max(1);
    let memory = if random.once_in(copy_one_in) {
        copy(memory)
    } else {
        memory.clone()
    };
    let engine = SoftEngine::new(&memory).expect("the software CPU runs everywhere");
    (engine, memory)
}

fn same(one: &GuestMemory, two: &GuestMemory) -> bool {
    let host = |memory: &GuestMemory| memory.get_host_address(GuestAddress(0)).ok();
    host(one) == host(two)
}

/// A copy of guest memory.
///
/// # Panics
/// If the host has no room.
#[must_use]
pub fn copy(memory: &GuestMemory) -> GuestMemory {
    let bytes = memory.last_addr().0 + 1;
    let copy = allocate_memory(bytes).expect("memory");
    let mut page = [0; 4096];
    for address in (0..bytes).step_by(page.len()).map(GuestAddress) {
        memory
            .read_slice(&mut page, address)
            .expect("it lies within");
        // Fresh memory is zero.
        if page != [0; 4096] {
            copy.write_slice(&page, address).expect("it lies within");
        }
    }
    copy
}

/// The state after every turn of an undisturbed replay.
///
/// # Panics
/// If it diverges or ends otherwise than the recording.
#[must_use]
pub fn straight(subject: &Subject, recording: &Recording) -> Vec<Mark> {
    let mut replay = Replay::new(subject, &recording.log, None, 0);
    let mut marks = Vec::new();
    loop {
        match replay.turn() {
            Stage::Stopped => unreachable!("nothing is cut"),
            Stage::Turned => marks.push(mark(replay.replica.machine_mut())),
            Stage::Ended(ending) => {
                assert_eq!(replay.finish(ending), recording.finish);
                return marks;
            }
        }
    }
}

/// Replays in pieces of up to `longest` instructions, each on a processor of its own, and compares the state after every turn. Returns
/// the number of stops.
///
/// # Panics
/// If anything differs.
#[must_use]
pub fn in_pieces(
    subject: &Subject,
    recording: &Recording,
    marks: &[Mark],
    longest: u64,
    seed: u64,
) -> u64 {
    let mut replay = Replay::new(subject, &recording.log, Some(longest), seed);
    let mut random = Random::new(!seed);
    let mut expected = marks.iter().enumerate();
    let mut stops = 0;
    loop {
        match replay.turn() {
            Stage::Stopped => {
                stops += 1;
                if !random.once_in(STAY_ONE_IN) {
                    replay.move_on(&mut random);
                }
            }
            Stage::Turned => {
                let actual = mark(replay.replica.machine_mut());
                let Some((turn, expected)) = expected.next() else {
                    panic!(
                        "a turn at {} that the undisturbed machine does not have",
                        actual.at
                    );
                };
                if actual != *expected {
                    differs(subject, recording, turn, &mut replay);
                }
                if random.once_in(SAVE_TURN_ONE_IN) {
                    replay.move_on(&mut random);
                }
            }
            Stage::Ended(ending) => {
                assert_eq!(replay.finish(ending), recording.finish);
                assert_eq!(expected.next(), None);
                return stops;
            }
        }
    }
}

/// Replays undisturbed up to that turn and shows what is different.
fn differs(subject: &Subject, recording: &Recording, turn: usize, pieces: &mut Replay) -> ! {
    let mut straight = Replay::new(subject, &recording.log, None, 0);
    for _ in 0..=turn {
        straight.turn();
    }
    let text = |replay: &mut Replay| {
        let machine = replay.replica.machine_mut();
        format!("{} {:#x?}", machine.position(), machine.save())
    };
    let (expected, actual) = (text(&mut straight), text(pieces));
    let different: Vec<String> = expected
        .lines()
        .zip(actual.lines())
        .filter(|(expected, actual)| expected != actual)
        .map(|(expected, actual)| format!("{expected} → {actual}"))
        .collect();
    panic!(
        "in pieces, the machine is different after turn {turn}:\n{}",
        different.join("\n")
    );
}
