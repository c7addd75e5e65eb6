//! Sleeps: prints a line whenever the timer wakes it.
//!
//! Options: `hz=` ticks a second (100, at least 19), `count=` ticks (10).

#![no_std]
#![no_main]

use bare::machine::serial::Line;
use bare::machine::{interrupts, pit};
use bare::options::Options;

bare::guest!(main);

fn main(options: Options) {
    let count = options.number("count", 10);
    interrupts::unmask(interrupts::TIMER);
    pit::start(options.number("hz", 100));
    let mut printed = 0;
    while printed < count {
        interrupts::wait();
        let ticks = u64::from(interrupts::count(interrupts::TIMER));
        if ticks > printed {
            printed = ticks;
            Line.text("sleeper ticks=").decimal(ticks).end();
        }
    }
    Line.text("sleeper end").end();
}
