//! Keeps a guest clock that instructions drive close to the host's.
//!
//! In: samples of both clocks and of the count of instructions, taken between two instructions while the guest runs, and before it is woken.
//! Out: a correction, now and then. What always holds: a correction never sets the guest's clock back; after it the guest is not behind; there is at
//! most one for each [`LIMIT_NS`] that the clocks have drifted apart.
//!
//! ```text
//!                     behind by more than the limit: step forward, at the measured rate
//!                   ┌──┐
//!                   ▼  │        ahead by more than the limit: as it is, at a lower rate
//!                 ┌──────────┐ ────────────────────────────────────────────────────────► ┌────────┐
//!            ───► │ measured │                                                           │ slowed │
//!                 └──────────┘ ◄──────────────────────────────────────────────────────── └────────┘
//!                                no longer ahead, or behind: at the measured rate
//! ```
//!
//! How long an instruction takes is measured all the time, waiting excluded, but goes into the log with a correction alone.

/// How far the clocks may drift apart before the guest's is corrected, nanoseconds. Far below what a guest's timers can tell (1 ms to 10 ms), and
/// so much that a host's everyday unevenness costs a few hundred bytes a second.
pub const LIMIT_NS: u64 = 500_000;

/// A guest that is ahead is let go again when it is ahead by no more than this.
const CAUGHT_UP_NS: u64 = LIMIT_NS / 8;

/// A guest that is ahead is slowed so that host time makes up for its lead in about this time.
const CATCH_UP_NS: u64 = 4_000_000;

/// The speed is measured over stretches of this length, in host or in guest time, whichever passes faster.
const STRETCH_NS: u64 = 250_000;

/// A new measurement's weight is one in so many.
const SMOOTHING: u64 = 8;

/// Fastest and slowest rate, picoseconds an instruction: 10^11 instructions a second, and a thousand.
const RATES: (u64, u64) = (10, 1_000_000_000);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the guest's clock ought to show, nanoseconds since boot.
    pub host_ns: u64,
    /// What it shows.
    pub guest_ns: u64,
    /// Instructions that the guest has retired.
    pub retired: u64,
    /// The rate at which its clock moves, picoseconds an instruction.
    pub ps_per_instruction: u32,
}

/// What the guest's clock is to show from here on, and how it is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Guest time, nanoseconds since boot.
    pub guest_ns: u64,
    /// Picoseconds an instruction.
    pub ps_per_instruction: u32,
}

/// What is known of the guest's speed, and whether its clock was slowed.
#[derive(Clone, Debug)]
pub struct Discipline {
    /// How long an instruction takes, picoseconds.
    measured_ps: u64,
    /// The last three stretches, picoseconds an instruction.
    stretches_ps: [u64; 3],
    /// The last sample, unless the guest has waited since.
    last: Option<Sample>,
    /// Host time and instructions since the last stretch ended.
    busy_ns: u64,
    busy_instructions: u64,
    slowed: bool,
}

impl Discipline {
    /// The discipline of a clock that moves at this rate, picoseconds an instruction.
    #[must_use]
    pub fn new(ps_per_instruction: u32) -> Self {
        let measured_ps = bounded(u64::from(ps_per_instruction));
        Self {
            measured_ps,
            stretches_ps: [measured_ps; 3],
            last: None,
            busy_ns: 0,
            busy_instructions: 0,
            slowed: false,
        }
    }

    /// The guest waits: host time passes and instructions do not.
    pub fn waits(&mut self) {
        self.last = None;
    }

    /// The guest runs, and both clocks show this.
    pub fn correct(&mut self, now: Sample) -> Option<Correction> {
        self.measure(now);
        let behind_ns = now.host_ns.saturating_sub(now.guest_ns);
        let ahead_ns = now.guest_ns.saturating_sub(now.host_ns);
        if behind_ns > LIMIT_NS {
            return Some(self.go_on(now.host_ns));
        }
        if self.slowed && ahead_ns <= CAUGHT_UP_NS {
            return Some(self.go_on(now.guest_ns));
        }
        // Once is enough, unless the guest has become so fast since that its clock is not slow any more.
        let too_fast = u64::from(now.ps_per_instruction) > self.measured_ps / 8 * 7;
        (ahead_ns > LIMIT_NS && too_fast).then(|| self.slow_down(now.guest_ns, ahead_ns))
    }

    fn go_on(&mut self, guest_ns: u64) -> Correction {
        self.slowed = false;
        Correction {
            guest_ns,
            ps_per_instruction: rate(self.measured_ps),
        }
    }

    /// At most to three quarters, so that a measurement that is a little off does no harm; at least to an eighth, so that a guest that
    /// waits for its clock gets on.
    fn slow_down(&mut self, guest_ns: u64, ahead_ns: u64) -> Correction {
        self.slowed = true;
        let eighths = 8 - (ahead_ns.saturating_mul(8) / CATCH_UP_NS).clamp(2, 7);
        Correction {
            guest_ns,
            ps_per_instruction: rate(self.measured_ps * eighths / 8),
        }
    }

    fn measure(&mut self, now: Sample) {
        if let Some(last) = self.last.replace(now) {
            let passed_ns = now.host_ns.saturating_sub(last.host_ns);
            self.busy_ns = self.busy_ns.saturating_add(passed_ns);
            let retired = now.retired.saturating_sub(last.retired);
            self.busy_instructions = self.busy_instructions.saturating_add(retired);
        }
        let guest_ns =
            u128::from(self.busy_instructions) * u128::from(now.ps_per_instruction) / 1_000;
        let long_enough = self
            .busy_ns
            .max(u64::try_from(guest_ns).unwrap_or(u64::MAX))
            >= STRETCH_NS;
        if self.busy_instructions > 0 && long_enough {
            let stretch_ps = u128::from(self.busy_ns) * 1_000 / u128::from(self.busy_instructions);
            self.learn(bounded(u64::try_from(stretch_ps).unwrap_or(u64::MAX)));
            (self.busy_ns, self.busy_instructions) = (0, 0);
        }
    }

    /// The middle one of three stretches, so that a single one in which the host did something else says nothing; smoothed, unless the speed
    /// is quite another now.
    fn learn(&mut self, stretch_ps: u64) {
        self.stretches_ps.rotate_left(1);
        self.stretches_ps[2] = stretch_ps;
        let mut sorted = self.stretches_ps;
        sorted.sort_unstable();
        let middle = sorted[1];
        let another = middle > self.measured_ps * 2 || middle < self.measured_ps / 2;
        self.measured_ps = if another {
            middle
        } else {
            (self.measured_ps * (SMOOTHING - 1) + middle).div_ceil(SMOOTHING)
        };
    }
}

fn bounded(ps_per_instruction: u64) -> u64 {
    ps_per_instruction.clamp(RATES.0, RATES.1)
}

fn rate(ps_per_instruction: u64) -> u32 {
    u32::try_from(bounded(ps_per_instruction)).expect("the slowest rate fits")
}

#[cfg(test)]
mod tests;
