//! The log budget: which kind of event takes how much.
//!
//! In: [`Statistics`] of the entries, and the file's size. Out: a table for people, an object for programs.

use std::fmt;

use logging_channel::{EventKind, statistics::Statistics};
use serde::Serialize;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindBudget {
    /// The kind.
    pub kind: EventKind,
    /// Entries.
    pub count: u64,
    /// What they take before compression, bytes.
    pub bytes: u64,
    /// Their share of all entries' bytes, 0 to 1.
    pub share: f64,
    /// Of their bytes, what came from outside.
    pub payload_bytes: u64,
    /// Megabits (10⁶) a second of guest time.
    pub megabits_per_s: f64,
    /// Entries a second of guest time.
    pub per_s: f64,
}

/// State deltas: stretches that a guest on a clock of exits computed without one, by their result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeltaBudget {
    /// How many.
    pub count: u64,
    /// A second of guest time.
    pub per_s: f64,
    /// All their pages and states, before the log's own compression, bytes.
    pub bytes: u64,
}

/// What a log consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogBudget {
    /// The kinds that occur, in the order of the log format.
    pub kinds: Vec<KindBudget>,
    /// Entries in all.
    pub count: u64,
    /// What they take before compression, bytes.
    pub bytes: u64,
    /// Of these, what came from outside: frames, keys, random numbers.
    pub payload_bytes: u64,
    /// Megabits (10⁶) a second of guest time.
    pub megabits_per_s: f64,
    /// State deltas, if there are any.
    pub deltas: Option<DeltaBudget>,
    /// What the files take, with frames and compression, bytes.
    pub file_bytes: u64,
    /// The guest's time at the end, seconds since boot.
    pub guest_s: f64,
}

impl LogBudget {
    /// The budget of a log whose files take `file_bytes`.
    #[must_use]
    pub fn new(statistics: &Statistics, file_bytes: u64) -> Self {
        let total = statistics.total();
        let guest_s = statistics.guest_ns() as f64 / 1e9;
        let kinds = EventKind::ALL.into_iter().filter_map(|kind| {
            let tally = statistics.of(kind);
            (tally.count > 0).then(|| KindBudget {
                kind,
                count: tally.count,
                bytes: tally.bytes,
                share: tally.bytes as f64 / total.bytes.max(1) as f64,
                payload_bytes: tally.payload_bytes,
                megabits_per_s: statistics.megabits_per_s(tally.bytes),
                per_s: rate(tally.count, guest_s),
            })
        });
        let states = statistics.of(EventKind::State);
        let deltas = (states.count > 0).then(|| DeltaBudget {
            count: states.count,
            per_s: rate(states.count, guest_s),
            bytes: states.bytes + statistics.of(EventKind::Pages).bytes,
        });
        Self {
            deltas,
            kinds: kinds.collect(),
            count: total.count,
            bytes: total.bytes,
            payload_bytes: total.payload_bytes,
            megabits_per_s: statistics.megabits_per_s(total.bytes),
            file_bytes,
            guest_s,
        }
    }
}

/// So many in this time, a second; 0 where no time has passed.
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

impl fmt::Display for LogBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14}{:>11}{:>13}{:>8}{:>11}{:>11}{:>11}",
            "kind", "entries", "bytes", "share", "bytes each", "entries/s", "Mbit/s"
        )?;
        for row in &self.kinds {
            writeln!(
                f,
                "{:<14}{:>11}{:>13}{:>7.1}%{:>11.1}{:>11.1}{:>11.4}",
                row.kind,
                row.count,
                row.bytes,
                100.0 * row.share,
                row.bytes as f64 / row.count as f64,
                row.per_s,
                row.megabits_per_s
            )?;
        }
        writeln!(
            f,
            "{:<14}{:>11}{:>13}{:>8}{:>11.1}{:>11.1}{:>11.4}",
            "all",
            self.count,
            self.bytes,
            "",
            self.bytes as f64 / self.count.max(1) as f64,
            self.kinds.iter().map(|row| row.per_s).sum::<f64>(),
            self.megabits_per_s
        )?;
        if let Some(deltas) = &self.deltas {
            writeln!(
                f,
                "{} state deltas, {:.1} a second, {} bytes each on the average",
                deltas.count,
                deltas.per_s,
                deltas.bytes / deltas.count
            )?;
        }
        writeln!(
            f,
            "{:.3} s of guest time; {} bytes came from outside; {} bytes on disk",
            self.guest_s, self.payload_bytes, self.file_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use logging_channel::{Entry, Event, Position};

    use super::*;

    /// Of events, each with the bytes that it takes.
    fn statistics_of(events: Vec<(Event, u64)>) -> Statistics {
        let mut statistics = Statistics::default();
        for (event, bytes) in events {
            let at = Position::default();
            statistics.add(&Entry { seq: 1, at, event }, bytes);
        }
        statistics
    }

    #[test]
    fn shares_and_rates_are_of_all_bytes_and_guest_time() {
        let two_seconds = Event::Tick {
            guest_ns: 2_000_000_000,
        };
        let frame = |count| Event::Frame {
            bytes: vec![0; count],
        };
        let statistics = statistics_of(vec![(two_seconds, 10), (frame(90), 100), (frame(80), 90)]);
        let budget = LogBudget::new(&statistics, 77);
        assert_eq!(budget.kinds.len(), 2);
        let frames = &budget.kinds[1];
        assert_eq!((frames.kind, frames.count), (EventKind::Frame, 2));
        assert!((frames.share - 0.95).abs() < 1e-9);
        assert!((frames.per_s - 1.0).abs() < 1e-9);
        assert!((frames.megabits_per_s - 190.0 * 8.0 / 2e6).abs() < 1e-12);
        assert_eq!((budget.payload_bytes, budget.file_bytes), (170, 77));
        let table = budget.to_string();
        assert!(
            table.contains("95.0%") && table.contains("77 bytes on disk"),
            "{table}"
        );
    }

    #[test]
    fn state_deltas_are_counted_with_their_pages() {
        let two_seconds = Event::Tick {
            guest_ns: 2_000_000_000,
        };
        let pages = Event::Pages {
            part: 0,
            ranges: vec![],
            bytes: vec![],
        };
        let state = Event::State {
            parts: 1,
            bytes: vec![],
        };
        let delta = [(pages, 1000), (state, 200)];
        let entries = [(two_seconds, 5)].into_iter();
        let statistics = statistics_of(entries.chain(delta.clone()).chain(delta).collect());
        let budget = LogBudget::new(&statistics, 0);
        let deltas = budget.deltas.as_ref().expect("there are some");
        assert_eq!((deltas.count, deltas.bytes), (2, 2400));
        let table = budget.to_string();
        assert!(
            table.contains("2 state deltas, 1.0 a second, 1200 bytes each"),
            "{table}"
        );
    }

    #[test]
    fn an_empty_log_has_an_empty_budget() {
        let budget = LogBudget::new(&Statistics::default(), 0);
        assert!(!budget.to_string().contains("NaN"), "{budget}");
    }
}
