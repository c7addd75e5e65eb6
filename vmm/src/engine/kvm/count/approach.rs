//! Exactly so many events, with a counter that tells late.
//!
//! A counter can be made to interrupt the guest after a number of events, but the interrupt *skids*: it comes some events late. So the guest is run
//! to some way before the target, and then taken step by step. Pure: what the counter shows goes in, what to do next comes out.
//!
//! ```text
//!          count                                  target
//!  ──────────●───────────────────────────────────────●──────► events
//!            │◄────────── run: events ──────►│◄margin►│
//!                                            │ skid ►○│ step, step, step ─► arrived
//!                                                     └ as far as here, or further: refused
//! ```
//!
//! What always holds: one arrives by a step, at the first instruction boundary where the count is the target's. A run that ends there is refused as well as one that ends
//! behind it: nobody could tell how many instructions ago the last event was.

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing: the target is reached.
    Arrived,
    /// Run until the counter has counted so many events more, at least 1, and interrupts.
    Run(u64),
    /// Step over one instruction.
    Step,
}

/// The counter interrupted the guest later than its processor is known to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The hardware counter stopped the guest too late: at event {count} on the way to {target}, with a margin of {margin}. The guest cannot be brought back; --count step needs no such counter"
)]
pub struct Skid {
    /// Where it should have gone.
    pub target: u64,
    /// Where it is.
    pub count: u64,
    /// Events before the target at which it should have been interrupted.
    pub margin: u64,
}

/// On the way to a target.
#[derive(Clone, Copy, Debug)]
pub struct Approach {
    target: u64,
    margin: u64,
    /// The last move was a run.
    ran: bool,
}

impl Approach {
    /// To the count `target`, with a counter that is less than `margin` events late.
    #[must_use]
    pub fn new(target: u64, margin: u64) -> Self {
        Self {
            target,
            margin,
            ran: false,
        }
    }

    /// The next move where the counter shows `count`.
    ///
    /// # Errors
    /// [`Skid`] if the target was missed.
    pub fn next(&mut self, count: u64) -> Result<Move, Skid> {
        let ran = std::mem::take(&mut self.ran);
        let left = self.target.saturating_sub(count);
        if left == 0 {
            return if ran {
                Err(self.missed(count))
            } else {
                Ok(Move::Arrived)
            };
        }
        if left > self.margin {
            self.ran = true;
            return Ok(Move::Run(left - self.margin));
        }
        Ok(Move::Step)
    }

    /// The guest exited during the last move, where the counter shows `count`.
    ///
    /// # Errors
    /// [`Skid`] if the target was missed: it lay before the exit, and the interrupt would have come after it.
    pub fn exited(&self, count: u64) -> Result<(), Skid> {
        if self.ran && count >= self.target {
            return Err(self.missed(count));
        }
        Ok(())
    }

    fn missed(&self, count: u64) -> Skid {
        Skid {
            target: self.target,
            count,
            margin: self.margin,
        }
    }
}

#[cfg(test)]
#[path = "approach_tests.rs"]
mod tests;
