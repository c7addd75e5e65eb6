//! The journal as a service: who has asked for records, in order.

use super::Fault;
use crate::net::{Caller, Reception, SendBuffer, Service};
use crate::text::Decimal;

/// Requests that may wait for their records at a time.
const WAITING: usize = 64;

/// Callers, the oldest first.
pub struct Callers {
    callers: [Caller; WAITING],
    /// Requests ever taken, ever begun, ever answered; wrap.
    taken: usize,
    begun: usize,
    answered: usize,
}

impl Callers {
    /// Nobody yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            callers: [Caller::NOBODY; WAITING],
            taken: 0,
            begun: 0,
            answered: 0,
        }
    }

    /// Requests whose records have not been begun.
    #[must_use]
    pub fn unbegun(&self) -> usize {
        self.taken.wrapping_sub(self.begun)
    }

    /// The oldest of those has been begun.
    pub fn begin(&mut self) {
        self.begun = self.begun.wrapping_add(1);
    }

    /// Who is to be answered next.
    pub fn answer(&mut self) -> Option<Caller> {
        if self.answered == self.taken {
            return None;
        }
        let caller = self.callers[self.answered % WAITING];
        self.answered = self.answered.wrapping_add(1);
        Some(caller)
    }
}

impl Default for Callers {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Callers {
    fn request(&mut self, caller: Caller, _: &mut SendBuffer) -> Reception {
        if self.taken.wrapping_sub(self.answered) == WAITING {
            return Reception::Refused;
        }
        self.callers[self.taken % WAITING] = caller;
        self.taken = self.taken.wrapping_add(1);
        Reception::Later
    }
}

/// What a client is told: the number of its record, or why there is none.
#[derive(Clone, Copy)]
pub enum Answer {
    /// The record is durable.
    Durable(Decimal),
    /// It may or may not be.
    Broken(Fault),
    /// There is no room for it.
    Full,
}

impl Answer {
    /// As a line.
    #[must_use]
    pub fn as_line(&self) -> &[u8] {
        match self {
            Self::Durable(number) => number.as_line(),
            Self::Broken(Fault::Disk) => b"error: the disk failed\n",
            Self::Broken(Fault::Header) => b"error: the header is wrong\n",
            Self::Broken(Fault::Record(_)) => b"error: a record is wrong\n",
            Self::Full => b"error: the disk is full\n",
        }
    }
}
