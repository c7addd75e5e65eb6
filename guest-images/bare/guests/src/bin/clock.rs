//! Reads every clock of the machine, and checks that none of them runs backwards.
//!
//! Options: `count=` times (100). The first line sums up what the PM timer and the TSC did between
//! two readings; `hash=` is over everything that was read.

#![no_std]
#![no_main]

use bare::hash::Hash;
use bare::machine::serial::Line;
use bare::machine::{clock, pit};
use bare::options::Options;

/// PIT frequency: the counter must count, nobody waits for it.
const PIT_HZ: u64 = 100;

bare::guest!(main);

/// What was seen between one reading of a clock and the next.
struct Deltas {
    last: u64,
    smallest: u64,
    largest: u64,
    backwards: u64,
}

impl Deltas {
    fn since(now: u64) -> Self {
        Self {
            last: now,
            smallest: u64::MAX,
            largest: 0,
            backwards: 0,
        }
    }

    /// Takes in a reading that is `delta` (as a signed number) ahead of the last.
    fn add(&mut self, now: u64, delta: i64) {
        self.last = now;
        match u64::try_from(delta) {
            Ok(delta) => {
                self.smallest = self.smallest.min(delta);
                self.largest = self.largest.max(delta);
            }
            Err(_) => self.backwards += 1,
        }
    }

    fn print(&self, name: &str) {
        let line = Line
            .text("clock ")
            .text(name)
            .text(" backwards=")
            .decimal(self.backwards);
        line.text(" min=")
            .decimal(self.smallest)
            .text(" max=")
            .decimal(self.largest)
            .end();
    }
}

fn main(options: Options) {
    pit::start(PIT_HZ);
    let mut hash = Hash::new();
    let mut pm_timer = Deltas::since(clock::pm_timer().into());
    let mut tsc = Deltas::since(clock::tsc());
    let count = options.number("count", 100);
    for _ in 0..count {
        let now = clock::pm_timer();
        let delta = now.wrapping_sub(pm_timer.last as u32) as i32;
        pm_timer.add(now.into(), delta.into());
        let now = clock::tsc();
        tsc.add(now, now.wrapping_sub(tsc.last) as i64);
        hash.word(pm_timer.last);
        hash.word(tsc.last);
        hash.word(pit::count().into());
        hash.bytes(&clock::rtc());
    }
    pm_timer.print("pm_timer");
    tsc.print("tsc");
    Line.text("clock end samples=")
        .decimal(count)
        .text(" hash=")
        .hex(hash.value())
        .end();
}
