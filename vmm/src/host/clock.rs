//! The host's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since a fixed point in this process's life; it never goes back.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that begins at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Time since [`Self::start`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Time since [`Self::start`], nanoseconds. Enough for 584 years.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        saturating_ns(self.now())
    }
}

/// The time of day, seconds since 1970 UTC; 0 if the host's clock is set to before that.
#[must_use]
pub fn unix_time_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// `CLOCK_REALTIME`, nanoseconds since 1970 UTC.
#[must_use]
pub fn realtime_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

/// `CLOCK_MONOTONIC`, nanoseconds since the host's boot: the same for all processes on one host.
#[must_use]
pub fn host_monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    Duration::try_from(time).map_or(0, saturating_ns)
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_and_agree_on_the_date() {
        let clock = MonotonicClock::start();
        let (first, second) = (clock.now_ns(), clock.now_ns());
        assert!(first <= second);
        assert!(host_monotonic_ns() <= host_monotonic_ns());
        assert!(realtime_ns() / 1_000_000_000 - unix_time_s() <= 1);
        assert!(
            unix_time_s() > 1_700_000_000,
            "the host's clock is set to before 2023"
        );
    }
}
