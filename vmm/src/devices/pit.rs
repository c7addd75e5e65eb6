//! The 8254 programmable interval timer (Intel 8254 data sheet, 231164-005) and port 0x61.
//!
//! In: register accesses, each with the guest's time, and ticks. Out: rising edges of counter 0's
//! output, which the machine wires to interrupt line 0, and the time of the next one.
//! Always: a counter's value and output are functions of guest time and of what was programmed
//! when; the next deadline lies after the last tick, in phase with all before it.

mod counter;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::time::{ns_at, periods_at};
use counter::Counter;

/// Frequency of the counters' clock, hertz.
pub const PIT_HZ: u64 = 1_193_182;

/// Counter 0 raises no two interrupts closer than this, about 200 µs: KVM's own limit
/// (`min_timer_period_us`). A guest that programs a shorter period would otherwise do nothing but ticks.
const MIN_PERIOD_CLOCKS: u32 = 239;

/// How long the refresh bit of port 0x61 keeps its level, ns (IBM AT: 15.085 µs).
const REFRESH_TOGGLE_NS: u64 = 15_085;

/// Three counters and the speaker port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pit {
    counters: [Counter; 3],
    /// Port 0x61 bits 1 to 3: speaker data and parity enables, kept and without effect.
    speaker_bits: u8,
    /// Counter 0's edges up to this clock period have been raised.
    raised_until: u64,
    /// A rising edge of counter 0 that [`Self::take_edge`] has not given out.
    edge: bool,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// All counters without a count; counter 2's gate is low.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counters: [Counter::new(true), Counter::new(true), Counter::new(false)],
            speaker_bits: 0,
            raised_until: 0,
            edge: false,
        }
    }

    /// Whether a read of port `index` (0 to 3) depends on the time.
    #[must_use]
    pub fn read_needs_time(&self, index: u16) -> bool {
        self.counters
            .get(usize::from(index))
            .is_some_and(Counter::read_needs_time)
    }

    /// Reads port `index` (0 to 3). The control word cannot be read.
    pub fn read(&mut self, index: u16, now_ns: u64) -> u8 {
        let clock = periods_at(now_ns, PIT_HZ);
        self.counters
            .get_mut(usize::from(index))
            .map_or(0xFF, |counter| counter.read(clock))
    }

    /// Writes port `index` (0 to 3).
    pub fn write(&mut self, index: u16, value: u8, now_ns: u64) {
        self.tick(now_ns);
        let clock = periods_at(now_ns, PIT_HZ);
        match self.counters.get_mut(usize::from(index)) {
            Some(counter) => counter.write(value, clock),
            None => self.write_control(value, clock),
        }
    }

    fn write_control(&mut self, value: u8, clock: u64) {
        match self.counters.get_mut(usize::from(value >> 6)) {
            Some(counter) => counter.write_control(value, clock),
            None => self.read_back(value, clock),
        }
    }

    /// The read-back command: count and status of any of the counters (data sheet, figure 11).
    fn read_back(&mut self, value: u8, clock: u64) {
        for (index, counter) in self.counters.iter_mut().enumerate() {
            if value & (2 << index) == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                counter.latch_count(clock);
            }
            if value & 0x10 == 0 {
                counter.latch_status(clock);
            }
        }
    }

    /// Reads port 0x61: gate and output of counter 2, and the refresh toggle.
    #[must_use]
    pub fn read_speaker(&self, now_ns: u64) -> u8 {
        let counter = &self.counters[2];
        let gate = u8::from(counter.gate());
        let output = u8::from(counter.output(periods_at(now_ns, PIT_HZ)));
        let refresh = u8::from((now_ns / REFRESH_TOGGLE_NS) & 1 != 0);
        gate | self.speaker_bits | refresh << 4 | output << 5
    }

    /// Writes port 0x61: bit 0 is counter 2's gate.
    pub fn write_speaker(&mut self, value: u8, now_ns: u64) {
        self.speaker_bits = value & 0x0E;
        self.counters[2].set_gate(value & 1 != 0, periods_at(now_ns, PIT_HZ));
    }

    /// Raises counter 0's edge if one was due by `now_ns`; several make one.
    pub fn tick(&mut self, now_ns: u64) {
        let clock = periods_at(now_ns, PIT_HZ);
        if self.next_edge().is_some_and(|edge| edge <= clock) {
            self.edge = true;
        }
        self.raised_until = self.raised_until.max(clock);
        self.counters[0].settle(clock);
    }

    /// Whether interrupt line 0 rises now. Asking takes the edge.
    pub fn take_edge(&mut self) -> bool {
        std::mem::take(&mut self.edge)
    }

    /// When counter 0's output rises next, guest ns. It lies after the last tick.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        ns_at(self.next_edge()?, PIT_HZ)
    }

    fn next_edge(&self) -> Option<u64> {
        let counter = &self.counters[0];
        let short = counter
            .period()
            .is_some_and(|period| period < MIN_PERIOD_CLOCKS);
        let spacing = if short {
            u64::from(MIN_PERIOD_CLOCKS)
        } else {
            0
        };
        counter.next_rise(self.raised_until + spacing)
    }
}
