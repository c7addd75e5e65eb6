//! Computes at privilege level 3 and comes back by an exception, round by round, with the timer on.
//!
//! Options: `count=` rounds (10), `loops=` of each round (100000), `hz=` timer interrupts a second
//! (100; 0: none). `ticks=` are the interrupts so far: the only part of a line that time decides.

#![no_std]
#![no_main]

use bare::hash::xorshift;
use bare::machine::serial::Line;
use bare::machine::user::{self, Interrupts, User};
use bare::machine::{interrupts, pit};
use bare::options::Options;

/// Loops of a round where the options do not say.
const LOOPS: u64 = 100_000;

bare::guest!(main);

fn main(options: Options) {
    let mut user = User::new(Interrupts::On);
    let mut loops = options.number("loops", LOOPS);
    let hz = options.number("hz", 100);
    if hz > 0 {
        interrupts::unmask(interrupts::TIMER);
        pit::start(hz);
    }
    for round in 1..=options.number("count", 10) {
        let result = user.call(compute, &mut loops);
        interrupts::enable();
        let ticks = interrupts::count(interrupts::TIMER);
        let line = Line
            .text("user round=")
            .decimal(round)
            .text(" result=")
            .hex(result);
        line.text(" ticks=").decimal(ticks.into()).end();
        interrupts::disable();
    }
    Line.text("user end").end();
}

extern "C" fn compute(loops: &mut u64) -> ! {
    let mut state = 1;
    for _ in 0..*loops {
        state = xorshift(state);
    }
    user::finish(state)
}
