//! Breakpoints and watched memory are found in both directions, where single steps find them.

use lockstep_tests::{exactness::Subject, images};
use logging_channel::Position;
use vmm::{
    engine::soft::SoftEngine,
    session::time_travel::{Arrival, Found, Halt, Stops, TimeMachine, Watched},
    symbols::Symbols,
};

use super::{FAR, LIMITS, Logged, go};

/// The departures at addresses, found by single steps: those where the step before was elsewhere.
fn found_step_by_step(logged: &Logged, addresses: &[u64]) -> Vec<(Position, u64)> {
    let mut machine = logged.travel(None);
    machine.settle().expect("it replays");
    let mut found = Vec::new();
    let mut before = 0;
    loop {
        let rip = linear_rip(&mut machine);
        if rip != before && addresses.contains(&rip) {
            found.push((machine.position(), rip));
        }
        before = rip;
        if machine.step().expect("it replays").is_some() {
            return found;
        }
    }
}

fn linear_rip(machine: &mut TimeMachine<SoftEngine>) -> u64 {
    let view = machine.machine_mut().view().expect("registers");
    view.linear_rip()
}

#[test]
fn breakpoints_are_found_forwards_and_backwards_where_steps_find_them() {
    for (subject, name, functions) in [
        (
            Subject::bare("sleeper", "count=4 hz=200", "sleeper end"),
            "sleeper",
            ["line_0", "wait_for_interrupt", "wait_end"],
        ),
        (
            Subject::bare("user", "count=3 loops=500 hz=500", "user end"),
            "user",
            ["line_0", "user_leave", "exception"],
        ),
    ] {
        let elf = std::fs::read(images::bare(name)).expect("a guest");
        let symbols = Symbols::of_elf(&elf);
        let addresses = functions.map(|name| symbols.address(name).expect("a function"));
        let logged = Logged::new(subject);
        let expected = found_step_by_step(&logged, &addresses);
        assert!(expected.len() > 3, "{expected:?}");
        let mut machine = logged.travel(Some(LIMITS));
        for slice in [1, 7, 333, u64::MAX] {
            let stops = Stops {
                breakpoints: addresses.to_vec(),
                watched: Vec::new(),
            };
            assert_eq!(forwards(&mut machine, &stops, slice), expected);
            assert_eq!(backwards(&mut machine, &stops, slice), expected);
        }
        assert_eq!(forwards(&mut machine, &Stops::default(), 1000), []);
    }
}

/// Every breakpoint from the log's beginning on.
fn forwards(
    machine: &mut TimeMachine<SoftEngine>,
    stops: &Stops,
    slice: u64,
) -> Vec<(Position, u64)> {
    go(machine, Position::default());
    let mut found = Vec::new();
    loop {
        match machine.run_to_stop(stops, FAR, slice) {
            Ok(None) => {}
            Ok(Some(Halt::Breakpoint)) => found.push((machine.position(), linear_rip(machine))),
            Ok(Some(Halt::Changed { address, before })) => found.push((before, address)),
            Ok(Some(Halt::Stopped(Arrival::Ended(_)))) => return found,
            other => panic!("{other:?}"),
        }
    }
}

/// Every breakpoint back to the log's beginning, in the order of positions.
fn backwards(
    machine: &mut TimeMachine<SoftEngine>,
    stops: &Stops,
    slice: u64,
) -> Vec<(Position, u64)> {
    let mut found = Vec::new();
    let mut search = machine.search_back();
    loop {
        match machine.search(&mut search, stops, slice) {
            Ok(None) => {}
            Ok(Some(Found::Breakpoint)) => {
                found.push((machine.position(), linear_rip(machine)));
                search = machine.search_back();
            }
            Ok(Some(Found::Change { address })) => {
                found.push((machine.position(), address));
                search = machine.search_back();
            }
            Ok(Some(Found::Beginning)) => {
                assert_eq!(machine.position(), Position::default());
                found.reverse();
                return found;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The stack's words as the guest's interrupts leave them: pushed by the processor, and by code.
#[test]
fn changes_of_memory_are_found_in_both_directions() {
    let logged = Logged::new(Subject::bare("sleeper", "count=2 hz=200", "sleeper end"));
    let mut machine = logged.travel(Some(LIMITS));
    let end = logged.log.last().expect("a log").at;
    go(
        &mut machine,
        Position {
            exits: end.exits - 1,
            ..end
        },
    );
    let stack = machine
        .machine_mut()
        .registers()
        .expect("registers")
        .general[6];
    let watched = Watched {
        address: stack - 40,
        bytes: 16,
    };
    let elf = std::fs::read(images::bare("sleeper")).expect("a guest");
    let line = Symbols::of_elf(&elf).address("line_0").expect("a function");
    let (changes, both) = (
        Stops {
            breakpoints: Vec::new(),
            watched: vec![watched],
        },
        Stops {
            breakpoints: vec![line],
            watched: vec![watched],
        },
    );
    let expected = forwards(&mut machine, &changes, 100_000);
    assert!(expected.len() > 3, "{expected:?}");
    assert_eq!(backwards(&mut machine, &changes, 999), expected);
    assert_eq!(forwards(&mut machine, &changes, 7), expected);
    let with_breakpoints = backwards(&mut machine, &both, 100_000);
    let (lines, others): (Vec<_>, Vec<_>) = with_breakpoints
        .into_iter()
        .partition(|(_, what)| *what == line);
    assert_eq!(others, expected);
    assert_eq!(lines.len(), 2, "{lines:?}");
}
