//! A replay that goes anywhere: whatever the way to a moment, the machine is the same there.

mod breakpoints;
mod engines;

use std::{cell::RefCell, sync::Arc};

use lockstep_tests::exactness::{Subject, record};
use logging_channel::{Digest, Entry, Event, Position};
use proptest::{prelude::*, test_runner::TestRunner};
use vmm::{
    engine::{Checkpoint, soft::SoftEngine},
    inputs::Situation,
    session::time_travel::{Arrival, Limits, TimeMachine},
};

/// Typed bytes; timer interrupts and HLT; interrupts in the middle of computing; faults.
fn subjects() -> [Subject; 4] {
    [
        Subject::bare("typist", "", "petskcol").hears("hello\nlockstep\nquit\n"),
        Subject::bare("sleeper", "count=10 hz=200", "sleeper end"),
        Subject::bare("user", "count=5 loops=2000 hz=200", "user end"),
        Subject::bare("exceptions", "", "exceptions: ok"),
    ]
}

/// About so many of a guest's moments are looked at.
const MOMENTS: u64 = 60;

struct Logged {
    subject: Subject,
    log: Arc<[Entry]>,
    instructions: u64,
}

impl Logged {
    fn new(subject: Subject) -> Self {
        let recording = record(&subject, 3);
        Self {
            subject,
            log: recording.log.into(),
            instructions: recording.finish.retired,
        }
    }

    fn travel(&self, limits: Option<Limits>) -> TimeMachine<SoftEngine> {
        TimeMachine::new(self.subject.machine(), self.log.clone(), limits)
    }
}

/// Small steps for small guests.
const LIMITS: Limits = Limits {
    every_instructions: 500,
    count: 8,
    bytes: 64 << 20,
};

fn digest<E: Checkpoint>(machine: &mut TimeMachine<E>) -> Digest {
    machine.machine_mut().full_digest().expect("registers")
}

const FAR: Position = Position {
    exits: u64::MAX,
    instructions: 0,
};

/// The machine's digests at arrivals all over the log, in order.
fn passed(logged: &Logged) -> Vec<(Position, Digest)> {
    let mut machine = logged.travel(None);
    let mut marks = vec![(machine.position(), digest(&mut machine))];
    let longest = logged.instructions / MOMENTS * 2;
    for turn in 0_u64.. {
        let length = 1 + turn * 7919 % longest;
        match machine.advance(FAR, length).expect("it replays") {
            None => marks.push((machine.position(), digest(&mut machine))),
            Some(arrival) => {
                let Arrival::Ended(ending) = arrival else {
                    panic!("{arrival:?}");
                };
                marks.push((ending.at, ending.digest));
                return marks;
            }
        }
    }
    unreachable!("a guest ends");
}

fn go<E: Checkpoint>(machine: &mut TimeMachine<E>, to: Position) {
    let arrival = machine.run_to(to).expect("it replays");
    assert_eq!(arrival, Arrival::Reached, "{to}");
    assert_eq!(machine.position(), to);
}

#[test]
fn a_walk_to_and_fro_meets_the_same_machine_as_the_straight_way() {
    for subject in subjects() {
        let logged = Logged::new(subject);
        let marks = passed(&logged);
        assert!(marks.len() as u64 > MOMENTS / 2, "{} moments", marks.len());
        let machine = RefCell::new(logged.travel(Some(LIMITS)));
        let walk = prop::collection::vec(any::<prop::sample::Index>(), 1..40);
        let config = ProptestConfig {
            cases: 4,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let walked = TestRunner::new(config).run(&walk, |walk| {
            let mut machine = machine.borrow_mut();
            for index in walk {
                let (to, expected) = marks[index.index(marks.len())];
                go(&mut machine, to);
                prop_assert_eq!(digest(&mut machine), expected, "at {}", to);
            }
            Ok(())
        });
        walked.unwrap_or_else(|error| panic!("{error}"));
        let (snapshots, bytes) = machine.borrow().kept();
        assert!((2..=LIMITS.count + 1).contains(&snapshots), "{snapshots}");
        assert!(bytes <= LIMITS.bytes, "{bytes} bytes");
    }
}

#[test]
fn steps_back_land_where_steps_came_from() {
    for subject in subjects() {
        let logged = Logged::new(subject);
        let marks = passed(&logged);
        let mut machine = logged.travel(Some(LIMITS));
        for place in [0, marks.len() / 3, marks.len() / 2, marks.len() - 2] {
            go(&mut machine, marks[place].0);
            assert_eq!(machine.settle().expect("it replays"), None);
            let mut departures = vec![(machine.position(), digest(&mut machine))];
            for _ in 0..24 {
                if machine.step().expect("it replays").is_some() {
                    break;
                }
                departures.push((machine.position(), digest(&mut machine)));
            }
            for window in departures.windows(2) {
                assert!(window[0].0 < window[1].0, "{window:?}");
            }
            if machine.stopped().is_none() {
                departures.pop();
            }
            while let Some(expected) = departures.pop() {
                assert!(machine.step_back().expect("it goes back"));
                assert_eq!((machine.position(), digest(&mut machine)), expected);
            }
        }
    }
}

/// A step over HLT leads into the handler of what woke the vCPU, and back.
#[test]
fn steps_lead_over_hlt_and_back() {
    let logged = Logged::new(Subject::bare("sleeper", "count=3 hz=200", "sleeper end"));
    let woken = |pair: &&[Entry]| {
        matches!(pair[0].event, Event::Tick { .. })
            && matches!(pair[1].event, Event::Interrupt { .. })
            && pair[0].at == pair[1].at
            && pair[0].at.instructions == 0
    };
    let wakings: Vec<Position> = logged
        .log
        .windows(2)
        .filter(woken)
        .map(|pair| pair[0].at)
        .collect();
    assert!(!wakings.is_empty());
    let mut machine = logged.travel(Some(LIMITS));
    let mut over_hlt = 0;
    for at in wakings {
        go(&mut machine, at);
        if !machine.machine().halted() {
            continue;
        }
        over_hlt += 1;
        assert!(machine.step_back().expect("it goes back"));
        let before = (machine.position(), digest(&mut machine));
        assert!(!machine.machine().halted() && before.0 < at);
        assert_eq!(machine.step().expect("it replays"), None);
        assert_eq!(machine.position(), at);
        assert!(!machine.machine().halted(), "it is woken");
        assert!(machine.step_back().expect("it goes back"));
        assert_eq!((machine.position(), digest(&mut machine)), before);
    }
    assert!(over_hlt > 0);
}

#[test]
fn the_beginning_and_the_end_are_where_they_are() {
    let logged = Logged::new(Subject::bare("sleeper", "count=3 hz=200", "sleeper end"));
    let end = logged.log.last().expect("a log").at;
    let mut machine = logged.travel(Some(LIMITS));
    assert!(!machine.step_back().expect("nothing to replay"));
    assert_eq!(machine.position(), Position::default());
    let Arrival::Ended(ending) = machine.run_to(FAR).expect("it replays") else {
        panic!("{:?}", machine.stopped());
    };
    assert_eq!(ending.at, end);
    let whole = machine.take_printed();
    assert!(String::from_utf8_lossy(&whole).contains("sleeper end"));
    // It stands at the end: there is nothing after, and there is something before.
    let Some(Arrival::Ended(again)) = machine.step().expect("nothing to replay") else {
        panic!("{:?}", machine.stopped());
    };
    assert_eq!(again, ending);
    assert!(machine.step_back().expect("it goes back"));
    assert!(machine.position() < end);
    go(&mut machine, end);
    assert_eq!(digest(&mut machine), ending.digest);
    assert_eq!(machine.take_printed(), b"", "it was printed before");
}

#[test]
fn positions_that_do_not_exist_are_passed() {
    let logged = Logged::new(Subject::bare("sleeper", "count=3 hz=200", "sleeper end"));
    let mut machine = logged.travel(Some(LIMITS));
    let nowhere = Position {
        exits: 3,
        instructions: 1 << 40,
    };
    for _ in 0..2 {
        assert_eq!(
            machine.run_to(nowhere).expect("it replays"),
            Arrival::Passed
        );
        assert_eq!(machine.position(), "4".parse().expect("a position"));
        go(&mut machine, "20".parse().expect("a position"));
    }
}

#[test]
fn a_log_that_ends_early_or_says_something_else_stops_it_there() {
    let mut logged = Logged::new(Subject::bare("sleeper", "count=10 hz=200", "sleeper end"));
    let whole = logged.log.clone();
    logged.log = whole[..whole.len() / 2].into();
    let last = logged.log.last().expect("entries").at;
    let mut machine = logged.travel(Some(LIMITS));
    assert_eq!(machine.run_to(FAR).expect("it replays"), Arrival::LogEnds);
    assert!(machine.position() >= last);
    let early = whole[10].at;
    go(&mut machine, early);
    let expected = digest(&mut machine);

    let place = whole
        .iter()
        .rposition(|entry| matches!(entry.event, Event::Output { .. }))
        .expect("an output");
    let mut changed = whole.to_vec();
    changed[place].event = Event::Digest {
        digest: Digest::of(b"another state"),
    };
    logged.log = changed.into();
    let mut machine = logged.travel(Some(LIMITS));
    for _ in 0..2 {
        let Arrival::Diverged(divergence) = machine.run_to(FAR).expect("it replays") else {
            panic!("{:?}", machine.stopped());
        };
        assert_eq!(divergence.at, whole[place].at);
        assert!(machine.step_back().expect("it goes back"));
        assert!(machine.position() < divergence.at);
        go(&mut machine, early);
        assert_eq!(digest(&mut machine), expected);
    }
}

#[test]
fn what_is_printed_is_told_once_and_in_order() {
    let logged = Logged::new(Subject::bare("sleeper", "count=10 hz=200", "sleeper end"));
    let mut straight = logged.travel(None);
    straight.run_to(FAR).expect("it replays");
    let expected = straight.take_printed();
    let mut machine = logged.travel(Some(LIMITS));
    let mut printed = Vec::new();
    for exits in [40, 10, 60, 60, 55, 200, 0, u64::MAX] {
        let to = Position {
            exits,
            instructions: 0,
        };
        machine.run_to(to).expect("it replays");
        printed.extend(machine.take_printed());
    }
    assert_eq!(printed, expected);
}

/// However little is kept: it is less to go back to, and nothing else.
#[test]
fn snapshots_are_bounded_in_number_and_bytes() {
    let logged = Logged::new(Subject::bare(
        "user",
        "count=5 loops=2000 hz=200",
        "user end",
    ));
    let marks = passed(&logged);
    let roomy = Limits {
        count: 1000,
        ..LIMITS
    };
    let kept = |limits| {
        let mut machine = logged.travel(Some(limits));
        for place in [marks.len() - 1, 3, marks.len() / 2, 0, marks.len() / 2] {
            let (to, expected) = marks[place];
            go(&mut machine, to);
            assert_eq!(digest(&mut machine), expected, "at {to}");
        }
        machine.kept()
    };
    let (many, bytes) = kept(roomy);
    assert!(many > 8, "{many}");
    // As much as all of them together, once more for each, would be far more.
    assert!(bytes < 16 << 20, "{bytes} bytes");
    let (few, _) = kept(Limits { count: 3, ..roomy });
    assert_eq!(few, 4);
    let tight = bytes / 2;
    let (fewer, less) = kept(Limits {
        bytes: tight,
        ..roomy
    });
    assert!(
        fewer < many && (fewer == 1 || less <= tight),
        "{fewer}, {less}"
    );
    let (one, _) = kept(Limits { bytes: 0, ..roomy });
    assert_eq!(one, 1, "the beginning stays");
}
