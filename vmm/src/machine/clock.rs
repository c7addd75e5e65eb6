//! The guest's clock, derived from the number of instructions it has retired.
//!
//! In: corrections, each where the log has it, and the count of retired instructions. Out: guest time, and the count at which a time is
//! reached. What always holds: the time is a function of the corrections and of the count; it never goes back, and no input overflows it.
//!
//! ```text
//!   guest time
//!       │              ┌──── correct(): a step forward, and another rate
//!       │        ╱─────╱
//!       │  ╱────╱ ◄───────── set(): a step forward, the same rate (a halted vCPU was woken)
//!       └──────────────────► instructions retired
//! ```
//!
//! On an engine that does not count its instructions the count stays 0, and the clock shows the time that it was told last.

use serde::{Deserialize, Serialize};

/// Rate of a machine that has just been switched on: 200 million instructions a second, what the software CPU does on a host of today. The
/// first correction follows soon.
pub const FIRST_PS_PER_INSTRUCTION: u32 = 5_000;

const PS_PER_NS: u128 = 1_000;

/// A clock that instructions drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestClock {
    /// Guest time when `base_retired` instructions had retired, nanoseconds since boot.
    base_ns: u64,
    base_retired: u64,
    /// Guest time that an instruction takes, picoseconds. At 0 the clock stands still until it is corrected.
    ps_per_instruction: u32,
}

impl Default for GuestClock {
    fn default() -> Self {
        Self {
            base_ns: 0,
            base_retired: 0,
            ps_per_instruction: FIRST_PS_PER_INSTRUCTION,
        }
    }
}

impl GuestClock {
    /// Guest time once `retired` instructions have retired, nanoseconds since boot.
    #[must_use]
    pub fn at(&self, retired: u64) -> u64 {
        let instructions = u128::from(retired.saturating_sub(self.base_retired));
        let ns = instructions * u128::from(self.ps_per_instruction) / PS_PER_NS;
        self.base_ns
            .saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// How many instructions must have retired until the clock shows `guest_ns` or more; `None` if that never comes.
    #[must_use]
    pub fn reaches(&self, guest_ns: u64) -> Option<u64> {
        let Some(ns) = guest_ns.checked_sub(self.base_ns).filter(|ns| *ns > 0) else {
            return Some(self.base_retired);
        };
        if self.ps_per_instruction == 0 {
            return None;
        }
        let instructions =
            (u128::from(ns) * PS_PER_NS).div_ceil(u128::from(self.ps_per_instruction));
        self.base_retired
            .checked_add(u64::try_from(instructions).ok()?)
    }

    /// Guest time that an instruction takes, picoseconds.
    #[must_use]
    pub fn ps_per_instruction(&self) -> u32 {
        self.ps_per_instruction
    }

    /// From here on, with `retired` instructions retired, the clock shows `guest_ns`; its rate stays.
    ///
    /// # Panics
    /// If that would be a step back: whoever makes entries keeps it from that.
    pub fn set(&mut self, retired: u64, guest_ns: u64) {
        let now_ns = self.at(retired);
        assert!(
            guest_ns >= now_ns,
            "guest time went back from {now_ns} to {guest_ns} ns"
        );
        (self.base_ns, self.base_retired) = (guest_ns, retired);
    }

    /// From here on, with `retired` instructions retired, the clock shows `guest_ns` and moves at this rate.
    ///
    /// # Panics
    /// If that would be a step back.
    pub fn correct(&mut self, retired: u64, guest_ns: u64, ps_per_instruction: u32) {
        self.set(retired, guest_ns);
        self.ps_per_instruction = ps_per_instruction;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_that_counts_nothing_shows_what_it_was_told() {
        let mut clock = GuestClock::default();
        assert_eq!(clock.at(0), 0);
        clock.set(0, 77);
        assert_eq!(clock.at(0), 77);
        clock.correct(0, 78, 1);
        assert_eq!(clock.at(0), 78);
    }

    #[test]
    fn time_is_counted_in_whole_instructions_from_the_last_correction() {
        let mut clock = GuestClock::default();
        clock.correct(10, 50, 1_500);
        assert_eq!(clock.at(11), 51);
        assert_eq!(clock.at(12), 53);
        assert_eq!(clock.reaches(53), Some(12));
        assert_eq!(clock.reaches(50), Some(10));
        clock.set(12, 60);
        assert_eq!(clock.at(14), 63);
    }

    #[test]
    #[should_panic(expected = "guest time went back")]
    fn it_is_not_set_back() {
        let mut clock = GuestClock::default();
        clock.correct(0, 10, 1_000);
        clock.set(5, 14);
    }

    /// A clock after some corrections: each a number of instructions later, by a step and to a rate.
    fn clocks() -> impl Strategy<Value = (GuestClock, u64)> {
        let small = (0..1_u64 << 40, 0..1_u64 << 40, any::<u32>());
        let any = (any::<u64>(), any::<u64>(), any::<u32>());
        prop::collection::vec(prop_oneof![small, any], 0..8).prop_map(|corrections| {
            let (mut clock, mut retired) = (GuestClock::default(), 0_u64);
            for (instructions, step_ns, rate) in corrections {
                retired = retired.saturating_add(instructions);
                let guest_ns = clock.at(retired).saturating_add(step_ns);
                clock.correct(retired, guest_ns, rate);
            }
            (clock, retired)
        })
    }

    proptest! {
        /// Whatever it was told: nothing overflows, more instructions are never an earlier time, and a correction shows at once.
        #[test]
        fn it_never_goes_back((clock, retired) in clocks(), one: u64, two: u64, step_ns: u64) {
            let later = retired.saturating_add(one);
            let latest = later.saturating_add(two);
            prop_assert!(clock.at(retired) <= clock.at(later));
            prop_assert!(clock.at(later) <= clock.at(latest));
            let mut corrected = clock;
            let guest_ns = clock.at(later).saturating_add(step_ns);
            corrected.set(later, guest_ns);
            prop_assert_eq!(corrected.at(later), guest_ns);
            prop_assert!(corrected.at(latest) >= clock.at(later));
        }

        /// `reaches` is the first count at which the time is there.
        #[test]
        fn a_time_is_reached_where_it_is_first_shown((clock, retired) in clocks(), ahead_ns in 1..1_u64 << 50) {
            let guest_ns = clock.at(retired).saturating_add(ahead_ns);
            match clock.reaches(guest_ns) {
                Some(count) => {
                    prop_assert!(clock.at(count) >= guest_ns);
                    prop_assert!(count <= retired || clock.at(count - 1) < guest_ns);
                }
                None => prop_assert!(clock.at(u64::MAX) < guest_ns || guest_ns == u64::MAX || clock.ps_per_instruction() == 0),
            }
        }
    }
}
