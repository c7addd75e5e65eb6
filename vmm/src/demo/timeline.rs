//! When what happened around a failover: pure. All times are `CLOCK_MONOTONIC`, nanoseconds, which all processes of a host share.

use super::{client::Answer, journal::Durable};
use crate::host::{Event, StampedEvent};

/// A failover, step by step. A step that was not reached is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The primary was sent SIGKILL.
    pub killed_ns: u64,
    /// The backup suspected the primary.
    pub suspected_ns: Option<u64>,
    /// Why.
    pub suspected_because: Option<String>,
    /// The backup had replayed all that it had received, and asked the arbiter.
    pub claiming_ns: Option<u64>,
    /// The arbiter gave it the term.
    pub claimed_ns: Option<u64>,
    /// Which.
    pub term: Option<u64>,
    /// The backup was live.
    pub live_ns: Option<u64>,
    /// The client read the first answer that the backup let go.
    pub first_answer_ns: Option<u64>,
}

impl Timeline {
    /// The failover after `killed_ns` as the backup's `events` and the client's `answers` tell it.
    #[must_use]
    pub fn new(killed_ns: u64, events: &[StampedEvent], answers: &[Answer]) -> Self {
        let mut timeline = Self {
            killed_ns,
            ..Self::default()
        };
        for StampedEvent { mono_ns, event, .. } in events {
            match event {
                Event::PeerLost { why } => {
                    timeline.suspected_ns = Some(*mono_ns);
                    timeline.suspected_because = Some(why.clone());
                }
                Event::Claiming { .. } => timeline.claiming_ns = Some(*mono_ns),
                Event::ClaimWon { term } => {
                    timeline.claimed_ns = Some(*mono_ns);
                    timeline.term = Some(*term);
                }
                Event::Live { .. } => timeline.live_ns = Some(*mono_ns),
                _ => {}
            }
        }
        timeline.first_answer_ns = timeline.first_answer_of_backup(answers);
        timeline
    }

    /// How many of `answers` the primary gave: a backup lets nothing go before it has the term, and the client reads at once.
    #[must_use]
    pub fn answers_of_primary(&self, answers: &[Answer]) -> usize {
        answers.partition_point(|answer| self.is_primarys(answer.mono_ns))
    }

    /// The same for records that were answered as durable.
    #[must_use]
    pub fn durable_of_primary(&self, durable: &[Durable]) -> usize {
        durable.partition_point(|durable| self.is_primarys(durable.mono_ns))
    }

    fn is_primarys(&self, mono_ns: u64) -> bool {
        self.claimed_ns
            .is_none_or(|claimed_ns| mono_ns < claimed_ns)
    }

    /// Time from the kill to `step`, milliseconds.
    #[must_use]
    pub fn since_kill_ms(&self, step: Option<u64>) -> Option<f64> {
        step.map(|step| (step as f64 - self.killed_ns as f64) / 1e6)
    }

    fn first_answer_of_backup(&self, answers: &[Answer]) -> Option<u64> {
        answers
            .get(self.answers_of_primary(answers))
            .map(|answer| answer.mono_ns)
    }
}

/// The longest time from one of `answers` to the next, milliseconds.
#[must_use]
pub fn longest_wait_ms(answers: &[Answer]) -> f64 {
    let waits = answers
        .windows(2)
        .map(|pair| pair[1].mono_ns.saturating_sub(pair[0].mono_ns));
    waits.max().unwrap_or(0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mono_ns: u64) -> Answer {
        Answer { mono_ns, number: 0 }
    }

    #[test]
    fn an_answer_between_kill_and_claim_is_the_primarys() {
        let at = |mono_ns, event| StampedEvent {
            time_ns: 0,
            mono_ns,
            event,
        };
        let events = [
            at(10, Event::PairFormed { term: 1 }),
            at(
                1_000_020,
                Event::PeerLost {
                    why: "its connection closed".into(),
                },
            ),
            at(1_000_030, Event::Claiming { term: 2 }),
            at(1_000_040, Event::ClaimWon { term: 2 }),
            at(3_000_000, Event::Live { term: 2 }),
        ];
        let answers = [50, 1_000_001, 2_000_000, 7_000_000].map(answer);
        let timeline = Timeline::new(1_000_000, &events, &answers);
        assert_eq!(timeline.answers_of_primary(&answers), 2);
        assert_eq!(timeline.first_answer_ns, Some(2_000_000));
        assert_eq!(timeline.since_kill_ms(timeline.live_ns), Some(2.0));
        assert_eq!(
            (timeline.term, timeline.suspected_because.as_deref()),
            (Some(2), Some("its connection closed"))
        );
    }

    #[test]
    fn without_a_failover_every_answer_is_the_primarys() {
        let answers = [1, 2].map(answer);
        let timeline = Timeline::new(1, &[], &answers);
        assert_eq!(
            (
                timeline.answers_of_primary(&answers),
                timeline.first_answer_ns
            ),
            (2, None)
        );
        assert_eq!(timeline.since_kill_ms(timeline.live_ns), None);
    }

    #[test]
    fn the_longest_wait_is_between_answers() {
        assert_eq!(
            longest_wait_ms(&[5_000_000, 6_000_000, 9_000_000].map(answer)),
            3.0
        );
        assert_eq!(longest_wait_ms(&[]), 0.0);
    }
}
