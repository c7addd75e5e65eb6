//! The arbiter as docs/failures.md wants it, in ten lines: an atomic test-and-set that gives the same
//! claimant the same answer. On the disk's server, a claim is answered as won when older terms have nothing under way any more.

use logging_channel::protocol::{ClaimAnswer, Role};

use crate::bug::Bug;
use crate::checker::Checked;
use crate::network::index;
use crate::world::{Happening, Micros, World};

pub struct Arbiter {
    pub term: u64,
    owner: Role,
}

impl Arbiter {
    pub fn new(term: u64) -> Self {
        let owner = Role::Primary;
        Self { term, owner }
    }

    pub fn claim(&mut self, expected_term: u64, claimant: Role) -> ClaimAnswer {
        if self.term == expected_term {
            (self.term, self.owner) = (expected_term + 1, claimant);
        }
        let term = self.term;
        if term == expected_term + 1 && self.owner == claimant {
            return ClaimAnswer::Won { term };
        }
        ClaimAnswer::Lost { term }
    }

    pub fn is_owner(&self, role: Role, term: u64) -> bool {
        (self.term, self.owner) == (term, role)
    }
}

impl World {
    pub fn claim(&mut self, from: Role, expected_term: u64) {
        self.trace(|| format!("{from} claims term {}", expected_term + 1));
        let at = self.now + self.random.between(100, 4_000);
        let claim = Happening::ClaimArrives {
            from,
            expected_term,
        };
        self.schedule(at, claim);
    }

    pub fn arbitrate(&mut self, from: Role, expected_term: u64) -> Checked {
        let far = self.arbiter_far[index(from)];
        let reached = !self.arbiter_down && (!far || self.random.percent(30));
        let mut answer = ClaimAnswer::Unreachable;
        if reached {
            answer = self.arbiter.claim(expected_term, from);
            if let ClaimAnswer::Won { term } = answer {
                self.checker.granted(term, from)?;
            }
            // Decided, but the answer is lost on its way.
            if far {
                answer = ClaimAnswer::Unreachable;
            }
        }
        if answer == ClaimAnswer::Unreachable && self.random.percent(30) {
            return Ok(());
        }
        self.trace(|| format!("arbiter answers {from}: {answer:?}"));
        let drained = self.drained(answer).unwrap_or(self.now);
        let at = drained + self.random.between(100, 4_000);
        self.schedule(at, Happening::AnswerArrives { to: from, answer });
        Ok(())
    }

    /// When nothing of older terms is under way any more. From now on nothing of them starts.
    fn drained(&self, answer: ClaimAnswer) -> Option<Micros> {
        match answer {
            ClaimAnswer::Won { term }
                if self.disk.fenced && self.bug != Some(Bug::WinsBeforeDrain) =>
            {
                self.disk.drained_below(term)
            }
            _ => None,
        }
    }
}
