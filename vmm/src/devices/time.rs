//! Guest nanoseconds to clock periods and back, exactly.
//!
//! Every timer counts whole periods of its own clock since boot. Converting with integers from
//! the absolute time, never by adding up differences, means that no error can build up.

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;

/// Whole periods of a clock of `hz` hertz that have passed at `now_ns`; `hz` is at most 1 GHz.
#[must_use]
pub fn periods_at(now_ns: u64, hz: u64) -> u64 {
    debug_assert!(hz <= NS_PER_S);
    let periods = u128::from(now_ns) * u128::from(hz) / u128::from(NS_PER_S);
    u64::try_from(periods).expect("a clock of at most 1 GHz counts no faster than nanoseconds")
}

/// The first nanosecond at which [`periods_at`] is `period`; `None` past the end of time.
#[must_use]
pub fn ns_at(period: u64, hz: u64) -> Option<u64> {
    let ns = (u128::from(period) * u128::from(NS_PER_S)).div_ceil(u128::from(hz));
    u64::try_from(ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ns_at_is_the_first_instant_of_a_period(period in 1..1u64 << 53, hz in 1..=NS_PER_S) {
            if let Some(ns) = ns_at(period, hz) {
                prop_assert_eq!(periods_at(ns, hz), period);
                prop_assert_eq!(periods_at(ns - 1, hz), period - 1);
            }
        }

        #[test]
        fn no_time_overflows(now_ns: u64, period: u64, hz in 1..=NS_PER_S) {
            let _ = periods_at(now_ns, hz);
            let _ = ns_at(period, hz);
        }
    }
}
