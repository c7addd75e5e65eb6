//! One of the 8254's counters.
//!
//! Nothing counts here: a counter remembers at which clock period its counting element was
//! loaded, and computes value and output when asked. With k the clock periods since the
//! load and N the count loaded:
//!
//! ```text
//!   mode 0  output low, high from k = N                 (one rise at N)
//!   mode 1  output low for 0 ≤ k < N                    (one rise at N; loaded by the gate's rise)
//!   mode 2  period N, low while the count is 1          (a rise at every multiple of N)
//!   mode 3  period N, high for (N+1)/2                  (a rise at every multiple of N)
//!   mode 4  output high, low for one clock at k = N     (one rise at N + 1)
//!   mode 5  as mode 4, loaded by the gate's rise
//! ```
//!
//! A count written at period w is loaded at w + 1. What the counting element does:
//!
//! ```text
//!            count written (modes 0, 4: always; 2, 3: gate high), gate rises (1, 2, 3, 5)
//!     Idle ────────────────────────────────────────→ Counting ←──── gate rises ────┐
//!      ↑  control word (all), first of two bytes (0), gate falls (2, 3)  │         │ (0, 4)
//!      └─────────────────────────────────────────────┘   └─ gate falls → Paused ───┘
//! ```

use serde::{Deserialize, Serialize};

/// Clock periods since boot. They fit: 2⁶⁴ ns are 2⁵⁵ periods.
type Clock = u64;

/// What the count's bytes are (RW bits of the control word).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// The counting element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Element {
    Idle,
    /// `count` was or will be loaded at period `since`. Signed: a new count taken in mid-cycle
    /// (mode 3) is as if loaded half a cycle ago, which may be before boot.
    Counting {
        since: i64,
        count: u32,
    },
    /// The gate holds a count of mode 0 or 4 that has run for `elapsed` periods.
    Paused {
        elapsed: i64,
        count: u32,
    },
}

/// A count written during a cycle of mode 2 or 3, which takes it over at period `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    at: i64,
    since: i64,
    count: u32,
}

/// One counter with its gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    /// 0 to 5.
    mode: u8,
    access: Access,
    bcd: bool,
    gate: bool,
    /// Count register: the count last written, 1 to 65,536 (10,000 in BCD).
    written: Option<u32>,
    /// The count register has not gone to the counting element ("null count").
    unloaded: bool,
    element: Element,
    next: Option<Next>,
    /// First of two bytes written.
    low_byte: Option<u8>,
    /// The second of two bytes is read next.
    high_byte_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: Access::LowThenHigh,
            bcd: false,
            gate,
            written: None,
            unloaded: true,
            element: Element::Idle,
            next: None,
            low_byte: None,
            high_byte_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    pub(super) fn gate(&self) -> bool {
        self.gate
    }

    pub(super) fn read_needs_time(&self) -> bool {
        self.latched_status.is_none() && self.latched_count.is_none()
    }

    /// Status first, then the latched count, then the counting element itself.
    pub(super) fn read(&mut self, now: Clock) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self
            .latched_count
            .unwrap_or_else(|| self.value(now))
            .to_le_bytes();
        let first_of_two = self.access == Access::LowThenHigh && !self.high_byte_next;
        if first_of_two {
            self.high_byte_next = true;
            return low;
        }
        self.high_byte_next = false;
        self.latched_count = None;
        if self.access == Access::Low {
            low
        } else {
            high
        }
    }

    /// A control word for this counter: the latch command, or a new mode.
    pub(super) fn write_control(&mut self, value: u8, now: Clock) {
        let access = match (value >> 4) & 3 {
            0 => return self.latch_count(now),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        let mode = (value >> 1) & 7;
        *self = Self {
            // Modes 6 and 7 are 2 and 3: bit 2 is "don't care" there.
            mode: if mode > 5 { mode & 3 } else { mode },
            access,
            bcd: value & 1 != 0,
            ..Self::new(self.gate)
        };
    }

    pub(super) fn latch_count(&mut self, now: Clock) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(now));
        }
    }

    pub(super) fn latch_status(&mut self, now: Clock) {
        if self.latched_status.is_none() {
            self.latched_status = Some(self.status(now));
        }
    }

    /// Data sheet, figure 12 "status byte".
    fn status(&self, now: Clock) -> u8 {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        };
        let null = u8::from(self.is_null(now));
        u8::from(self.output(now)) << 7
            | null << 6
            | access << 4
            | self.mode << 1
            | u8::from(self.bcd)
    }

    /// Whether the count last written is not yet in the counting element.
    fn is_null(&self, now: Clock) -> bool {
        match (self.next, self.element) {
            (Some(next), _) => signed(now) < next.at,
            (None, Element::Counting { since, .. }) => self.unloaded || signed(now) < since,
            (None, _) => self.unloaded,
        }
    }

    /// A byte of the count.
    pub(super) fn write(&mut self, value: u8, now: Clock) {
        self.settle(now);
        let bytes = match (self.access, self.low_byte.take()) {
            (Access::Low, _) => [value, 0],
            (Access::High, _) => [0, value],
            (Access::LowThenHigh, Some(low)) => [low, value],
            (Access::LowThenHigh, None) => {
                self.low_byte = Some(value);
                if self.mode == 0 {
                    self.element = Element::Idle;
                }
                return;
            }
        };
        self.write_count(self.decode(u16::from_le_bytes(bytes)), now);
    }

    fn write_count(&mut self, count: u32, now: Clock) {
        self.written = Some(count);
        self.unloaded = true;
        match (self.mode, self.element) {
            (0 | 4, _) if self.gate => self.load(now),
            (0 | 4, _) => {
                self.element = Element::Paused { elapsed: 0, count };
                self.unloaded = false;
            }
            (
                2 | 3,
                Element::Counting {
                    since,
                    count: running,
                },
            ) => {
                self.replace_in_cycle(since, running, count, now);
            }
            (2 | 3, _) if self.gate => self.load(now),
            _ => {}
        }
    }

    /// The count register goes to the counting element with the next clock.
    fn load(&mut self, now: Clock) {
        if let Some(count) = self.written {
            self.element = Element::Counting {
                since: signed(now) + 1,
                count,
            };
            self.next = None;
            self.unloaded = false;
        }
    }

    /// Modes 2 and 3 take a new count at the end of the cycle or half-cycle.
    fn replace_in_cycle(&mut self, since: i64, running: u32, count: u32, now: Clock) {
        let (period, elapsed) = (i64::from(running), (signed(now) - since).max(0));
        let start = since + elapsed - elapsed % period;
        let high = high_clocks(running);
        let next = if self.mode == 3 && elapsed % period < high && high < period {
            Next {
                at: start + high,
                since: start + high - high_clocks(count),
                count,
            }
        } else {
            Next {
                at: start + period,
                since: start + period,
                count,
            }
        };
        self.next = Some(next);
        self.unloaded = false;
    }

    /// Takes over a count that was waiting for a cycle's end by period `now`.
    pub(super) fn settle(&mut self, now: Clock) {
        if let Some(Next { at, since, count }) = self.next
            && at <= signed(now)
        {
            self.element = Element::Counting { since, count };
            self.next = None;
        }
    }

    /// The gate input (data sheet, figure 21 "gate pin operations").
    pub(super) fn set_gate(&mut self, gate: bool, now: Clock) {
        let before = std::mem::replace(&mut self.gate, gate);
        self.settle(now);
        match (before, gate) {
            (false, true) => self.gate_rises(now),
            (true, false) => self.gate_falls(now),
            _ => {}
        }
    }

    fn gate_rises(&mut self, now: Clock) {
        match (self.mode, self.element) {
            (0 | 4, Element::Paused { elapsed, count }) => {
                self.element = Element::Counting {
                    since: signed(now) - elapsed,
                    count,
                };
            }
            (0 | 4, _) => {}
            _ => self.load(now),
        }
    }

    fn gate_falls(&mut self, now: Clock) {
        match (self.mode, self.element) {
            (0 | 4, Element::Counting { since, count }) => {
                let elapsed = (signed(now) - since).max(0);
                self.element = Element::Paused { elapsed, count };
            }
            (2 | 3, _) => {
                self.element = Element::Idle;
                self.next = None;
            }
            _ => {}
        }
    }

    /// Clock periods since the load, and the count loaded. Negative before the load.
    fn progress(&self, now: Clock) -> Option<(i64, u32)> {
        match (self.next, self.element) {
            (Some(next), _) if next.at <= signed(now) => {
                Some((signed(now) - next.since, next.count))
            }
            (_, Element::Counting { since, count }) => Some((signed(now) - since, count)),
            (_, Element::Paused { elapsed, count }) => Some((elapsed, count)),
            (_, Element::Idle) => None,
        }
    }

    /// The output's level.
    pub(super) fn output(&self, now: Clock) -> bool {
        let Some((elapsed, count)) = self.progress(now) else {
            return self.mode != 0;
        };
        let period = i64::from(count);
        if elapsed < 0 {
            return self.mode != 0;
        }
        match self.mode {
            0 | 1 => elapsed >= period,
            2 => elapsed % period != period - 1,
            3 => elapsed % period < high_clocks(count),
            _ => elapsed != period,
        }
    }

    /// The counting element as a read shows it.
    fn value(&self, now: Clock) -> u16 {
        let Some((elapsed, count)) = self.progress(now) else {
            return self.encode(i64::from(self.written.unwrap_or(0)));
        };
        let period = i64::from(count);
        let elapsed = elapsed.max(0);
        let value = match self.mode {
            2 => period - elapsed % period,
            3 => mode_3_value(elapsed % period, count),
            _ => period - elapsed,
        };
        self.encode(value)
    }

    /// The period, if the output is periodic now.
    pub(super) fn period(&self) -> Option<u32> {
        match (self.mode, self.next, self.element) {
            (2 | 3, Some(next), _) => Some(next.count),
            (2 | 3, None, Element::Counting { count, .. }) => Some(count),
            _ => None,
        }
    }

    /// The first period after `after` at which the output rises, if nothing is written before.
    pub(super) fn next_rise(&self, after: Clock) -> Option<Clock> {
        let Element::Counting { since, count } = self.element else {
            return None;
        };
        let after = signed(after);
        let rise = self.rise_after(since, count, after);
        let rise = match self.next {
            Some(next) if rise.is_none_or(|rise| rise > next.at) => {
                self.rise_after(next.since, next.count, after.max(next.at))
            }
            _ => rise,
        };
        rise.and_then(|rise| u64::try_from(rise).ok())
    }

    /// The first rise after `after` of a count loaded at `since`.
    fn rise_after(&self, since: i64, count: u32, after: i64) -> Option<i64> {
        let elapsed = (after - since).max(0);
        let period = i64::from(count);
        let rise = match self.mode {
            0 | 1 => period,
            2 | 3 => elapsed - elapsed % period + period,
            _ => period + 1,
        };
        (since + rise > after).then_some(since + rise)
    }

    /// A count as written: 0 stands for the largest.
    fn decode(&self, raw: u16) -> u32 {
        let count = if self.bcd {
            from_bcd(raw)
        } else {
            u32::from(raw)
        };
        if count == 0 { self.modulus() } else { count }
    }

    /// A count as read, wrapped to the counter's width.
    fn encode(&self, value: i64) -> u16 {
        let value = value.rem_euclid(i64::from(self.modulus())) as u16;
        if self.bcd { to_bcd(value) } else { value }
    }

    fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 65_536 }
    }
}

/// A clock period as a signed number: see [`Clock`].
fn signed(clock: Clock) -> i64 {
    i64::try_from(clock).expect("2^64 ns are fewer than 2^63 periods of 838 ns")
}

/// How long a cycle of mode 3 is high.
fn high_clocks(count: u32) -> i64 {
    (i64::from(count) + 1) / 2
}

/// Mode 3 counts down by two, from the even part of its count, once in each half-cycle.
fn mode_3_value(phase: i64, count: u32) -> i64 {
    let high = high_clocks(count);
    let in_half = if phase < high { phase } else { phase - high };
    i64::from(count & !1) - 2 * in_half
}

/// Four decimal digits. Digits above 9 count as they weigh, within the counter's four digits.
fn from_bcd(raw: u16) -> u32 {
    let digits = [12, 8, 4, 0].map(|shift| u32::from(raw >> shift & 0xF));
    digits.iter().fold(0, |value, digit| value * 10 + digit) % 10_000
}

fn to_bcd(value: u16) -> u16 {
    let digits = [1000, 100, 10, 1].map(|weight| value / weight % 10);
    digits.iter().fold(0, |bcd, digit| bcd << 4 | digit)
}
