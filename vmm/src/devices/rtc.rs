//! The real-time clock: an MC146818 with its CMOS RAM (Motorola MC146818 data sheet).
//!
//! In: register accesses, with the guest's time where it matters, and ticks. Out: the level of its
//! interrupt line, and the time of the next event that could raise it.
//! Always: the time shown is a whole number of seconds that the guest chose, plus guest time.
//!
//! ```text
//!              SET = 1: registers hold still, and take what is written
//!   running ←──────────────────────────────────────────────────────→ held
//!              SET = 0: goes on from what the registers say
//! ```
//!
//! The divider chain is not modelled: seconds begin at whole seconds of guest time, whatever
//! register A's divider bits say. The day of the week follows from the date.

mod calendar;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::time::{NS_PER_S, ns_at, periods_at};
use calendar::{Calendar, DAY_S, clamp_s};

/// Bytes of clock registers and CMOS RAM.
const CMOS_BYTES: usize = 128;

const REGISTER_A: u8 = 0x0A;
const REGISTER_B: u8 = 0x0B;
const REGISTER_C: u8 = 0x0C;
const REGISTER_D: u8 = 0x0D;
/// Where a PC keeps the century (the FADT's CENTURY field, by custom).
const REGISTER_CENTURY: u8 = 0x32;

/// Register A: 32,768 Hz time base, 1,024 Hz periodic rate.
const A_AT_RESET: u8 = 0x26;
const A_UPDATE_IN_PROGRESS: u8 = 0x80;
/// UIP is up for this long before an update (data sheet, "update cycle").
const UPDATE_WARNING_NS: u64 = 244_000;

const B_24_HOURS: u8 = 0x02;
const B_BINARY: u8 = 0x04;
const B_SET: u8 = 0x80;
/// Interrupt enables in register B, and flags in register C.
const UPDATE: u8 = 0x10;
const ALARM: u8 = 0x20;
const PERIODIC: u8 = 0x40;
const C_REQUEST: u8 = 0x80;
/// Register D: the battery is good.
const D_VALID: u8 = 0x80;

/// Alarm bytes from here on match anything.
const DONT_CARE: u8 = 0xC0;
const PM: u8 = 0x80;

/// The clock and its RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rtc {
    index: u8,
    /// CMOS RAM; the clock's own registers are not kept here.
    ram: Vec<u8>,
    /// What the clock shows at guest time 0, seconds since 1970.
    origin_s: i64,
    /// The registers while SET is 1.
    held: Option<Calendar>,
    /// Alarm second, minute and hour, as written.
    alarm: [u8; 3],
    register_a: u8,
    register_b: u8,
    /// Flags of register C without the request bit.
    flags: u8,
    /// Events up to here are in `flags`.
    seen_until_ns: u64,
}

impl Rtc {
    /// A clock that shows `unix_time_s` at guest time 0, in a machine with `memory_bytes` of RAM.
    #[must_use]
    pub fn new(unix_time_s: u64, memory_bytes: u64) -> Self {
        Self {
            index: 0,
            ram: cmos_ram(memory_bytes),
            origin_s: clamp_s(i64::try_from(unix_time_s).unwrap_or(i64::MAX)),
            held: None,
            alarm: [0; 3],
            register_a: A_AT_RESET,
            register_b: B_24_HOURS,
            flags: 0,
            seen_until_ns: 0,
        }
    }

    /// The level of the interrupt line.
    #[must_use]
    pub fn interrupt(&self) -> bool {
        self.flags & self.register_b & (PERIODIC | ALARM | UPDATE) != 0
    }

    /// Port 0x70. Bit 7 would mask NMI, of which the machine has none.
    pub fn select(&mut self, value: u8) {
        self.index = value & 0x7F;
    }

    /// Whether an access to the data port depends on the time.
    #[must_use]
    pub fn needs_time(&self, write: bool) -> bool {
        match self.index {
            1 | 3 | 5 | REGISTER_B => write,
            0..=9 | REGISTER_A | REGISTER_C | REGISTER_CENTURY => true,
            _ => false,
        }
    }

    /// Reads port 0x71.
    pub fn read(&mut self, now_ns: u64) -> u8 {
        match self.index {
            1 | 3 | 5 => self.alarm[usize::from(self.index / 2)],
            0..=9 | REGISTER_CENTURY => self.read_calendar(now_ns),
            REGISTER_A => self.register_a | self.update_in_progress(now_ns),
            REGISTER_B => self.register_b,
            REGISTER_C => self.read_flags(now_ns),
            REGISTER_D => D_VALID,
            index => self.ram[usize::from(index)],
        }
    }

    /// Writes port 0x71.
    pub fn write(&mut self, value: u8, now_ns: u64) {
        if self.needs_time(true) {
            self.tick(now_ns);
        }
        match self.index {
            1 | 3 | 5 => self.alarm[usize::from(self.index / 2)] = value,
            0..=9 | REGISTER_CENTURY => self.write_calendar(value, now_ns),
            REGISTER_A => self.register_a = value & !A_UPDATE_IN_PROGRESS,
            REGISTER_B => self.write_register_b(value, now_ns),
            REGISTER_C | REGISTER_D => {}
            index => self.ram[usize::from(index)] = value,
        }
    }

    /// Sets the flags of what happened by `now_ns`.
    pub fn tick(&mut self, now_ns: u64) {
        let seen_ns = self.seen_until_ns;
        if now_ns <= seen_ns {
            return;
        }
        if self
            .periodic_hz()
            .is_some_and(|hz| periods_at(now_ns, hz) > periods_at(seen_ns, hz))
        {
            self.flags |= PERIODIC;
        }
        if self.held.is_none() && now_ns / NS_PER_S > seen_ns / NS_PER_S {
            self.flags |= UPDATE;
            if self
                .next_alarm_s(seen_ns)
                .is_some_and(|alarm_s| alarm_s <= now_ns / NS_PER_S)
            {
                self.flags |= ALARM;
            }
        }
        self.seen_until_ns = now_ns;
    }

    /// When the interrupt line could rise next, guest ns. It lies after the last tick.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        if self.interrupt() {
            return None;
        }
        let seen_ns = self.seen_until_ns;
        let enabled = |event: u8| self.register_b & event != 0;
        let running = self.held.is_none();
        let periodic = self.periodic_hz().filter(|_| enabled(PERIODIC));
        let periodic = periodic.and_then(|hz| ns_at(periods_at(seen_ns, hz) + 1, hz));
        let update = (running && enabled(UPDATE)).then_some(seen_ns / NS_PER_S + 1);
        let alarm = if running && enabled(ALARM) {
            self.next_alarm_s(seen_ns)
        } else {
            None
        };
        let seconds = [update, alarm].into_iter().flatten().min();
        let seconds = seconds.and_then(|second| second.checked_mul(NS_PER_S));
        [periodic, seconds].into_iter().flatten().min()
    }

    /// Data sheet, table 5 "periodic interrupt rate".
    fn periodic_hz(&self) -> Option<u64> {
        match self.register_a & 0x0F {
            0 => None,
            1 => Some(256),
            2 => Some(128),
            rate => Some(32_768 >> (rate - 1)),
        }
    }

    fn update_in_progress(&self, now_ns: u64) -> u8 {
        let soon = now_ns % NS_PER_S >= NS_PER_S - UPDATE_WARNING_NS;
        if soon && self.held.is_none() {
            A_UPDATE_IN_PROGRESS
        } else {
            0
        }
    }

    /// Register C: reading clears the flags.
    fn read_flags(&mut self, now_ns: u64) -> u8 {
        self.tick(now_ns);
        let request = if self.interrupt() { C_REQUEST } else { 0 };
        std::mem::take(&mut self.flags) | request
    }

    fn shown_s(&self, now_ns: u64) -> i64 {
        self.origin_s + whole_seconds(now_ns)
    }

    fn calendar(&self, now_ns: u64) -> Calendar {
        self.held
            .unwrap_or_else(|| Calendar::at(self.shown_s(now_ns)))
    }

    fn read_calendar(&self, now_ns: u64) -> u8 {
        let calendar = self.calendar(now_ns);
        match self.index {
            0 => self.encode(calendar.second),
            2 => self.encode(calendar.minute),
            4 => self.encode_hour(calendar.hour),
            6 => self.encode(calendar.weekday()),
            7 => self.encode(calendar.day),
            8 => self.encode(calendar.month),
            9 => self.encode(calendar.year),
            _ => self.encode(calendar.century),
        }
    }

    fn write_calendar(&mut self, value: u8, now_ns: u64) {
        let mut calendar = self.calendar(now_ns);
        match self.index {
            0 => calendar.second = self.decode(value),
            2 => calendar.minute = self.decode(value),
            4 => calendar.hour = self.decode_hour(value),
            6 => {}
            7 => calendar.day = self.decode(value),
            8 => calendar.month = self.decode(value),
            9 => calendar.year = self.decode(value),
            _ => calendar.century = self.decode(value),
        }
        if self.held.is_some() {
            self.held = Some(calendar);
        } else {
            self.run_from(&calendar, now_ns);
        }
    }

    fn run_from(&mut self, calendar: &Calendar, now_ns: u64) {
        self.origin_s = calendar.unix_s() - whole_seconds(now_ns);
    }

    /// Register B: SET holds the clock, and clears the update interrupt's enable.
    fn write_register_b(&mut self, value: u8, now_ns: u64) {
        if value & B_SET != 0 {
            self.held = Some(self.calendar(now_ns));
            self.register_b = value & !UPDATE;
        } else {
            if let Some(calendar) = self.held.take() {
                self.run_from(&calendar, now_ns);
            }
            self.register_b = value;
        }
    }

    /// The second of guest time, after that of `after_ns`, at which the alarm matches next.
    fn next_alarm_s(&self, after_ns: u64) -> Option<u64> {
        let wanted = [
            alarm_field(self.alarm[0], 60, |value| self.decode(value))?,
            alarm_field(self.alarm[1], 60, |value| self.decode(value))?,
            alarm_field(self.alarm[2], 24, |value| self.decode_hour(value))?,
        ];
        let now_s = self.shown_s(after_ns);
        let wait_s = next_match_s(wanted, now_s) - now_s;
        u64::try_from(whole_seconds(after_ns) + wait_s).ok()
    }

    fn encode(&self, value: u8) -> u8 {
        if self.register_b & B_BINARY != 0 {
            value
        } else {
            ((value / 10 % 10) << 4) | (value % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.register_b & B_BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 0x0F)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.register_b & B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let hour = hour % 24;
        let pm = if hour >= 12 { PM } else { 0 };
        self.encode((hour + 11) % 12 + 1) | pm
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.register_b & B_24_HOURS != 0 {
            return self.decode(value);
        }
        let afternoon = if value & PM != 0 { 12 } else { 0 };
        self.decode(value & !PM) % 12 + afternoon
    }
}

fn whole_seconds(now_ns: u64) -> i64 {
    i64::try_from(now_ns / NS_PER_S).expect("2^64 ns are fewer than 2^63 seconds")
}

/// What an alarm byte asks for: anything (`Some(None)`), a value, or what never comes (`None`).
fn alarm_field(raw: u8, limit: u8, decode: impl Fn(u8) -> u8) -> Option<Option<i64>> {
    if raw >= DONT_CARE {
        return Some(None);
    }
    let value = decode(raw);
    (value < limit).then_some(Some(i64::from(value)))
}

/// The first second after `now_s` whose second, minute and hour are as `wanted`. It lies within a
/// day, and is found in at most 24 + 60 + 60 steps.
fn next_match_s([second, minute, hour]: [Option<i64>; 3], now_s: i64) -> i64 {
    let is = |wanted: Option<i64>, actual: i64| wanted.is_none_or(|wanted| wanted == actual);
    let mut candidate = now_s + 1;
    loop {
        let of_day = candidate.rem_euclid(DAY_S);
        candidate += if !is(hour, of_day / 3600) {
            3600 - of_day % 3600
        } else if !is(minute, of_day / 60 % 60) {
            60 - of_day % 60
        } else if !is(second, of_day % 60) {
            1
        } else {
            return candidate;
        };
    }
}

/// CMOS RAM as a PC's firmware leaves it: memory sizes and the checksum over the classic area.
fn cmos_ram(memory_bytes: u64) -> Vec<u8> {
    let mut ram = vec![0; CMOS_BYTES];
    let mut put = |index: usize, value: u64, limit: u64| {
        let bytes = value.min(limit).to_le_bytes();
        ram[index..index + 2].copy_from_slice(&bytes[..2]);
    };
    let above = |base: u64, unit: u64| memory_bytes.saturating_sub(base) / unit;
    // KiB below 1 MiB; KiB above 1 MiB, twice; 64 KiB blocks above 16 MiB.
    put(0x15, 640, 640);
    put(0x17, above(1 << 20, 1 << 10), 0xFFFF);
    put(0x30, above(1 << 20, 1 << 10), 0xFFFF);
    put(0x34, above(16 << 20, 64 << 10), 0xFFFF);
    let sum: u16 = ram[0x10..0x2E].iter().map(|byte| u16::from(*byte)).sum();
    ram[0x2E..0x30].copy_from_slice(&sum.to_be_bytes());
    ram
}
