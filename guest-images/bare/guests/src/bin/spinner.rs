//! Computes without a single exit until the timer has interrupted it often enough. Where a guest is stopped at its exits alone, this one never
//! ends.
//!
//! Options: `hz=` interrupts a second (100, at least 19), `count=` of them (10).

#![no_std]
#![no_main]

use bare::hash::{Hash, xorshift};
use bare::machine::serial::Line;
use bare::machine::{interrupts, pit};
use bare::options::Options;

bare::guest!(main);

fn main(options: Options) {
    let count = options.number("count", 10);
    interrupts::unmask(interrupts::TIMER);
    pit::start(options.number("hz", 100));
    interrupts::enable();
    let (mut state, mut hash, mut rounds, mut ticks) = (1, Hash::new(), 0_u64, 0);
    while ticks < count {
        state = xorshift(state);
        rounds += 1;
        let now = u64::from(interrupts::count(interrupts::TIMER));
        if now != ticks {
            // The hash knows after which round each interrupt came.
            hash.word(rounds);
            ticks = now;
        }
    }
    Line.text("spinner end rounds=")
        .decimal(rounds)
        .text(" hash=")
        .hex(hash.value() ^ state)
        .end();
}
