//! What a log consists of: entries and bytes by kind of event, in all and over the guest's time.
//!
//! In: entries, each with the bytes it takes in the log. Out: [`Statistics`], a value. What always holds: its size is bounded,
//! however long the log is: the timeline has at most [`MAX_BUCKETS`] buckets, which become twice as wide whenever they do not suffice.

use serde::Serialize;

use crate::{Entry, EventKind, Position};

/// Parts of the timeline at most.
pub const MAX_BUCKETS: usize = 256;

/// Width of a bucket at first, nanoseconds of guest time.
const FIRST_BUCKET_NS: u64 = 1_000_000;

const KINDS: usize = EventKind::ALL.len();

/// Entries of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// What they take in the log before compression, bytes.
    pub bytes: u64,
    /// Of these, what came from outside: frames, keys, random numbers; bytes.
    pub payload_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.payload_bytes += other.payload_bytes;
    }
}

/// Bytes of a log by kind, over the guest's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    bucket_ns: u64,
    buckets: Vec<[u64; KINDS]>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            bucket_ns: FIRST_BUCKET_NS,
            buckets: Vec::new(),
        }
    }
}

impl Timeline {
    /// Guest time in one bucket, nanoseconds.
    #[must_use]
    pub fn bucket_ns(&self) -> u64 {
        self.bucket_ns
    }

    /// Bytes in each bucket, by kind in the order of [`EventKind::ALL`]; the first one begins at boot.
    #[must_use]
    pub fn buckets(&self) -> &[[u64; KINDS]] {
        &self.buckets
    }

    fn add(&mut self, guest_ns: u64, kind: EventKind, bytes: u64) {
        while guest_ns / self.bucket_ns >= MAX_BUCKETS as u64 {
            self.widen();
        }
        let place = (guest_ns / self.bucket_ns) as usize;
        if place >= self.buckets.len() {
            self.buckets.resize(place + 1, [0; KINDS]);
        }
        self.buckets[place][kind as usize] += bytes;
    }

    fn widen(&mut self) {
        self.bucket_ns = self.bucket_ns.saturating_mul(2);
        let pairs = self
            .buckets
            .chunks(2)
            .map(|pair| std::array::from_fn(|kind| pair.iter().map(|bucket| bucket[kind]).sum()));
        self.buckets = pairs.collect();
    }
}

/// What a log consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    kinds: [Tally; KINDS],
    timeline: Timeline,
    guest_ns: u64,
    last: Option<(u64, Position)>,
}

impl Statistics {
    /// Takes the log's next entry in; `bytes` is what it takes in the log.
    pub fn add(&mut self, entry: &Entry, bytes: u64) {
        let kind = entry.event.kind();
        self.kinds[kind as usize].add(Tally {
            count: 1,
            bytes,
            payload_bytes: match kind {
                // What they carry is the guest's own.
                EventKind::Pages | EventKind::State => 0,
                _ => entry.event.payload_bytes() as u64,
            },
        });
        // A log that is not in order is somebody else's finding.
        self.guest_ns = self.guest_ns.max(entry.event.guest_ns().unwrap_or(0));
        self.timeline.add(self.guest_ns, kind, bytes);
        self.last = Some((entry.seq, entry.at));
    }

    /// Entries of this kind.
    #[must_use]
    pub fn of(&self, kind: EventKind) -> Tally {
        self.kinds[kind as usize]
    }

    /// All entries.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.kinds.iter().for_each(|tally| total.add(*tally));
        total
    }

    /// The latest guest time, nanoseconds since boot.
    #[must_use]
    pub fn guest_ns(&self) -> u64 {
        self.guest_ns
    }

    /// Number and position of the last entry.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Position)> {
        self.last
    }

    /// Bytes over the guest's time.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Bytes as a rate over all of the guest's time, megabits (10⁶) a second; 0 where no time has passed.
    #[must_use]
    pub fn megabits_per_s(&self, bytes: u64) -> f64 {
        if self.guest_ns == 0 {
            return 0.0;
        }
        bytes as f64 * 8.0 * 1e3 / self.guest_ns as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Event;

    fn entry(seq: u64, event: Event) -> Entry {
        Entry {
            seq,
            at: Position {
                exits: seq,
                instructions: 0,
            },
            event,
        }
    }

    #[test]
    fn entries_are_counted_by_kind() {
        let mut statistics = Statistics::default();
        let second = 1_000_000_000;
        statistics.add(&entry(1, Event::Tick { guest_ns: second }), 5);
        statistics.add(&entry(2, Event::Interrupt { vector: 32 }), 4);
        statistics.add(&entry(3, Event::Frame { bytes: vec![0; 90] }), 100);
        statistics.add(&entry(4, Event::Interrupt { vector: 32 }), 4);
        let state = Event::State {
            parts: 0,
            bytes: vec![0; 50],
        };
        statistics.add(&entry(5, state), 60);
        assert_eq!(
            statistics.of(EventKind::Interrupt),
            Tally {
                count: 2,
                bytes: 8,
                payload_bytes: 0
            }
        );
        assert_eq!(
            statistics.total(),
            Tally {
                count: 5,
                bytes: 173,
                payload_bytes: 90
            }
        );
        assert_eq!(statistics.last().map(|(seq, _)| seq), Some(5));
        assert!((statistics.megabits_per_s(125_000) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_log_without_time_has_no_rate() {
        let mut statistics = Statistics::default();
        statistics.add(&entry(1, Event::Interrupt { vector: 32 }), 5);
        assert!(statistics.megabits_per_s(5).abs() < f64::EPSILON);
    }

    proptest! {
        /// However long the guest ran: few buckets, and every byte in the bucket of its time.
        #[test]
        fn the_timeline_is_bounded_and_loses_nothing(
            mut times in prop::collection::vec(any::<u64>().prop_map(|time| time >> (time % 50)), 1..200),
        ) {
            times.sort_unstable();
            let mut statistics = Statistics::default();
            for (index, guest_ns) in times.iter().enumerate() {
                statistics.add(&entry(index as u64 + 1, Event::Tick { guest_ns: *guest_ns }), 3);
            }
            let timeline = statistics.timeline();
            prop_assert!(timeline.buckets().len() <= MAX_BUCKETS);
            let mut expected = vec![0; timeline.buckets().len()];
            for time in times {
                expected[(time / timeline.bucket_ns()) as usize] += 3;
            }
            let found: Vec<u64> = timeline.buckets().iter().map(|bucket| bucket.iter().sum()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
