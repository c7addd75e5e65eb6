//! How far the backup is behind, and how much the vCPU is slowed for it.
//!
//! In: what was appended when, what the backup has executed. Out: the lag in entries and in time,
//! and the share of time that the vCPU sleeps. The share rises step by step while the lag is above
//! [`LAG_HIGH`] and still growing, and falls step by step below [`LAG_LOW`]; between the two it
//! stays. It never reaches 100 %.

use std::collections::VecDeque;
use std::time::Duration;

/// Above this lag the vCPU is slowed (the paper's 3.2: "more than a second").
pub(super) const LAG_HIGH: Duration = Duration::from_secs(1);
/// Below this lag the backup has caught up and the vCPU is let go: a failover then takes no longer than this to replay.
pub(super) const LAG_LOW: Duration = Duration::from_millis(100);
/// From one change of the share to the next.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
const STEP_PERCENT: u8 = 2;
const MAX_PERCENT: u8 = 90;

/// Appended entries are sampled at this distance in time.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
/// A lag of 40 seconds; above it the older half is thinned out.
const MAX_SAMPLES: usize = 4096;

/// The backup's lag.
#[derive(Debug, Default)]
pub(super) struct Lag {
    appended: u64,
    executed: u64,
    /// Sequence number and time of entries not yet executed, in order.
    samples: VecDeque<(u64, Duration)>,
    last_sampled_at: Option<Duration>,
}

impl Lag {
    /// The log ends at `seq` now.
    pub(super) fn appended(&mut self, seq: u64, now: Duration) {
        self.appended = seq;
        if self
            .last_sampled_at
            .is_some_and(|last| now < last + SAMPLE_INTERVAL)
        {
            return;
        }
        if self.samples.len() == MAX_SAMPLES {
            self.thin_out();
        }
        self.samples.push_back((seq, now));
        self.last_sampled_at = Some(now);
    }

    /// The backup has replayed up to `seq`.
    pub(super) fn executed(&mut self, seq: u64) {
        self.executed = seq;
        while self
            .samples
            .front()
            .is_some_and(|&(sample, _)| sample <= seq)
        {
            self.samples.pop_front();
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.appended - self.executed
    }

    /// Age of the oldest entry that was not executed, exact to a sample's distance.
    pub(super) fn time(&self, now: Duration) -> Duration {
        if self.entries() == 0 {
            return Duration::ZERO;
        }
        let oldest = self.samples.front().map(|&(_, at)| at);
        oldest
            .or(self.last_sampled_at)
            .map_or(Duration::ZERO, |at| now.saturating_sub(at))
    }

    /// Every other sample of the older half goes; the oldest, which decides, stays.
    fn thin_out(&mut self) {
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index > MAX_SAMPLES / 2 || index % 2 == 1
        });
    }
}

/// The share of time that the vCPU sleeps.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    sleep_percent: u8,
    last_lag: Duration,
    next_step_at: Duration,
}

impl Throttle {
    /// The new share, if `lag` changes it.
    pub(super) fn step(&mut self, lag: Duration, now: Duration) -> Option<u8> {
        if now < self.next_step_at {
            return None;
        }
        self.next_step_at = now + STEP_INTERVAL;
        let share = if lag > LAG_HIGH && lag >= self.last_lag {
            (self.sleep_percent + STEP_PERCENT).min(MAX_PERCENT)
        } else if lag < LAG_LOW {
            self.sleep_percent.saturating_sub(STEP_PERCENT)
        } else {
            self.sleep_percent
        };
        self.last_lag = lag;
        let changed = share != self.sleep_percent;
        self.sleep_percent = share;
        changed.then_some(share)
    }

    /// There is nobody to wait for. True if the vCPU was being slowed.
    pub(super) fn let_go(&mut self) -> bool {
        std::mem::take(&mut self.sleep_percent) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_unexecuted_entry() {
        let mut lag = Lag::default();
        assert_eq!(lag.time(ms(5)), ms(0));
        for seq in 1..=100 {
            lag.appended(seq, ms(seq * 10));
        }
        assert_eq!(lag.entries(), 100);
        assert_eq!(lag.time(ms(1000)), ms(990));
        lag.executed(40);
        assert_eq!((lag.entries(), lag.time(ms(1000))), (60, ms(590)));
        lag.executed(100);
        assert_eq!((lag.entries(), lag.time(ms(5000))), (0, ms(0)));
    }

    #[test]
    fn an_unsampled_tail_still_ages() {
        let mut lag = Lag::default();
        lag.appended(1, ms(0));
        lag.appended(2, ms(1));
        lag.executed(1);
        assert_eq!(lag.time(ms(2000)), ms(2000));
    }

    #[test]
    fn samples_are_bounded_and_the_oldest_stays() {
        let mut lag = Lag::default();
        for seq in 1..=50_000 {
            lag.appended(seq, ms(seq * 10));
        }
        assert!(lag.samples.len() <= MAX_SAMPLES);
        assert_eq!(lag.time(ms(500_000)), ms(499_990));
    }

    #[test]
    fn a_growing_lag_slows_little_by_little_and_a_small_one_lets_go() {
        let mut throttle = Throttle::default();
        let mut now = ms(0);
        let mut step = |throttle: &mut Throttle, lag| {
            now += STEP_INTERVAL;
            throttle.step(lag, now)
        };
        assert_eq!(step(&mut throttle, ms(900)), None);
        assert_eq!(step(&mut throttle, ms(1100)), Some(2));
        assert_eq!(step(&mut throttle, ms(1200)), Some(4));
        assert_eq!(step(&mut throttle, ms(1150)), None, "it shrinks");
        assert_eq!(step(&mut throttle, ms(700)), None, "held in between");
        assert_eq!(step(&mut throttle, ms(100)), None, "not caught up yet");
        assert_eq!(step(&mut throttle, ms(99)), Some(2));
        assert_eq!(step(&mut throttle, ms(20)), Some(0));
        assert_eq!(step(&mut throttle, ms(0)), None);
        for _ in 0..1000 {
            step(&mut throttle, ms(9000));
        }
        assert_eq!(throttle.sleep_percent, MAX_PERCENT);
    }

    #[test]
    fn a_slow_backup_is_waited_for_and_the_vcpu_let_go_after() {
        // The vCPU appends up to 10 entries a step, the backup executes 5; later it executes 20.
        let (mut lag, mut throttle) = (Lag::default(), Throttle::default());
        let (mut appended, mut executed, mut sleep) = (0_u64, 0_u64, 0_u64);
        let (mut worst, mut slowest) = (ms(0), 0);
        for round in 0..4000_u64 {
            let now = STEP_INTERVAL * u32::try_from(round).unwrap();
            appended += 10 * (100 - sleep) / 100;
            lag.appended(appended, now);
            let speed = if round < 2000 { 5 } else { 20 };
            executed = (executed + speed).min(appended);
            lag.executed(executed);
            worst = worst.max(lag.time(now));
            if let Some(percent) = throttle.step(lag.time(now), now) {
                sleep = u64::from(percent);
            }
            slowest = slowest.max(sleep);
        }
        assert!(worst < ms(10_000), "lag stays bounded: {worst:?}");
        assert!((40..=90).contains(&slowest), "slowed to {slowest}%");
        assert_eq!(sleep, 0, "let go");
    }
}
