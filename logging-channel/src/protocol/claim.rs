//! A claim under way: ask, wait, ask again. Both replicas go through it in the same way.
//!
//! ```text
//!          ┌──────── Unreachable, or no answer for claim_timeout ───────┐
//!          │                                                            ▼
//!  start → Asking ──Won{expected + 1}──→ won                    Waiting for the arbiter
//!          ▲  └─────Lost, or any other term──→ lost                     │
//!          └───────────── claim_retry_interval passed ──────────────────┘
//! ```
//!
//! Asking again is harmless: the arbiter gives the same claimant the same answer. An answer to an
//! earlier question is therefore as good as one to the last.

use std::time::Duration;

use super::{ClaimAnswer, Timing};

/// A claim that is not decided yet.
#[derive(Debug)]
pub(super) struct Claim {
    expected_term: u64,
    state: State,
    /// The user was told that the arbiter is unreachable.
    told: bool,
}

#[derive(Debug)]
enum State {
    Asking { give_up_at: Duration },
    Waiting { ask_again_at: Duration },
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Won { term: u64 },
    Lost { term: u64 },
    Undecided,
}

impl Claim {
    /// The question has just been asked.
    pub(super) fn new(expected_term: u64, timing: &Timing, now: Duration) -> Self {
        let state = State::Asking {
            give_up_at: now + timing.claim_timeout,
        };
        Self {
            expected_term,
            state,
            told: false,
        }
    }

    pub(super) fn expected_term(&self) -> u64 {
        self.expected_term
    }

    pub(super) fn answered(
        &mut self,
        answer: ClaimAnswer,
        timing: &Timing,
        now: Duration,
    ) -> Outcome {
        match answer {
            ClaimAnswer::Won { term } if term == self.expected_term + 1 => Outcome::Won { term },
            // Somebody else's term is as bad as a lost one.
            ClaimAnswer::Won { term } | ClaimAnswer::Lost { term } => Outcome::Lost { term },
            ClaimAnswer::Unreachable => {
                self.wait(timing, now);
                Outcome::Undecided
            }
        }
    }

    /// True when the question must be asked (again) now.
    pub(super) fn ask_now(&mut self, timing: &Timing, now: Duration) -> bool {
        match self.state {
            State::Asking { give_up_at } if now >= give_up_at => {
                self.wait(timing, now);
                false
            }
            State::Waiting { ask_again_at } if now >= ask_again_at => {
                self.state = State::Asking {
                    give_up_at: now + timing.claim_timeout,
                };
                true
            }
            _ => false,
        }
    }

    /// True once: the user has yet to be told that the arbiter cannot be reached.
    pub(super) fn tell_waiting(&mut self) -> bool {
        let tell = !self.told && matches!(self.state, State::Waiting { .. });
        self.told |= tell;
        tell
    }

    pub(super) fn next_wakeup(&self) -> Duration {
        match self.state {
            State::Asking { give_up_at } => give_up_at,
            State::Waiting { ask_again_at } => ask_again_at,
        }
    }

    fn wait(&mut self, timing: &Timing, now: Duration) {
        self.state = State::Waiting {
            ask_again_at: now + timing.claim_retry_interval,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timing = Timing {
        heartbeat_interval: Duration::ZERO,
        failure_timeout: Duration::ZERO,
        handshake_timeout: Duration::ZERO,
        claim_retry_interval: Duration::from_millis(100),
        claim_timeout: Duration::from_millis(1000),
        flush_interval: Duration::ZERO,
        lag_report_interval: Duration::ZERO,
    };

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_answer_decides() {
        let mut claim = Claim::new(3, &T, ms(0));
        let won = claim.answered(ClaimAnswer::Won { term: 4 }, &T, ms(1));
        assert_eq!(won, Outcome::Won { term: 4 });
        let lost = claim.answered(ClaimAnswer::Lost { term: 4 }, &T, ms(1));
        assert_eq!(lost, Outcome::Lost { term: 4 });
    }

    #[test]
    fn a_term_that_was_not_asked_for_is_lost() {
        let mut claim = Claim::new(3, &T, ms(0));
        let outcome = claim.answered(ClaimAnswer::Won { term: 7 }, &T, ms(1));
        assert_eq!(outcome, Outcome::Lost { term: 7 });
    }

    #[test]
    fn an_unreachable_arbiter_is_asked_again_and_told_once() {
        let mut claim = Claim::new(3, &T, ms(0));
        for round in 0..3 {
            let start = ms(round * 200);
            let outcome = claim.answered(ClaimAnswer::Unreachable, &T, start);
            assert_eq!(outcome, Outcome::Undecided);
            assert_eq!(claim.tell_waiting(), round == 0);
            assert_eq!(claim.next_wakeup(), start + ms(100));
            assert!(!claim.ask_now(&T, start + ms(99)));
            assert!(claim.ask_now(&T, start + ms(100)));
            assert!(!claim.ask_now(&T, start + ms(100)));
        }
    }

    #[test]
    fn no_answer_counts_as_unreachable() {
        let mut claim = Claim::new(3, &T, ms(0));
        assert_eq!(claim.next_wakeup(), ms(1000));
        assert!(!claim.ask_now(&T, ms(1000)));
        assert!(claim.tell_waiting());
        assert!(claim.ask_now(&T, ms(1100)));
        let late = claim.answered(ClaimAnswer::Won { term: 4 }, &T, ms(1101));
        assert_eq!(late, Outcome::Won { term: 4 });
    }
}
