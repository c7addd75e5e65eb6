//! The arbiter as docs/failures.md wants it, in ten lines: an atomic test-and-set that gives the same
//! claimant the same answer.

use logging_channel::protocol::{ClaimAnswer, Role};

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
}
