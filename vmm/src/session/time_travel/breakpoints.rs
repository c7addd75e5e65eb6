//! Running to breakpoints, forwards and backwards.
//!
//! In: linear addresses. Out: the machine at the next departure, or the one before, where the instruction at one of them is about to be executed and
//! the one executed before it was another. What always holds: the moments that are found do not depend on the direction, nor on the pieces
//! in which the search is made.
//!
//! ```text
//!  backwards:   snapshot ──► hit ──► hit ──► snapshot ──────────────► here
//!                             │                  └─ 1. nothing in this interval
//!                             └─ 2. the last one in this interval: go there
//! ```

use logging_channel::Position;

use super::{Arrival, TimeMachine, TravelError, steer::Bound};
use crate::engine::{Checkpoint, Inspect};

/// Why a run to a breakpoint came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The machine stands at one.
    Breakpoint,
    /// It stands where it was to stop at the latest, or just behind.
    Until,
    /// It cannot go on.
    Stopped(Arrival),
}

/// What a search backwards came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The machine stands at a breakpoint.
    Breakpoint,
    /// There is none before: it stands at the log's beginning.
    Beginning,
}

/// A search backwards from a moment, under way.
#[derive(Clone, Debug)]
pub struct Search {
    /// What is found lies before this.
    here: Position,
    /// Where the interval that is looked through begins and ends, once it has begun.
    interval: Option<Interval>,
    /// Everything from here to [`Self::here`] was looked through.
    done: Position,
}

#[derive(Clone, Debug)]
struct Interval {
    from: Position,
    /// The last breakpoint so far, and how many instructions had retired.
    last: Option<(Position, u64)>,
}

impl<E: Checkpoint + Inspect> TimeMachine<E> {
    /// Goes on to the next departure at one of `addresses`, at most to `until`, for about so many `instructions`. `None`: not there yet. It leaves
    /// the breakpoint where it stands.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn run_to_breakpoint(
        &mut self,
        addresses: &[u64],
        until: Position,
        instructions: u64,
    ) -> Result<Option<Halt>, TravelError> {
        self.machine_mut().set_breakpoints(addresses);
        let halted = self.run_on(until, instructions);
        self.machine_mut().set_breakpoints(&[]);
        halted
    }

    fn run_on(&mut self, until: Position, instructions: u64) -> Result<Option<Halt>, TravelError> {
        if let Some(stop) = self.settle()? {
            return Ok(Some(Halt::Stopped(stop)));
        }
        let end = self.retired().saturating_add(instructions);
        while self.retired() < end {
            if self.position() >= until {
                return Ok(Some(Halt::Until));
            }
            self.turn(Bound::At {
                position: until,
                retired: end,
            })?;
            if let Some(stop) = self.settle()? {
                return Ok(Some(Halt::Stopped(stop)));
            }
            if self.machine().at_breakpoint() {
                return Ok(Some(Halt::Breakpoint));
            }
        }
        Ok(None)
    }

    /// A search backwards from where the machine stands.
    #[must_use]
    pub fn search_back(&self) -> Search {
        let here = self.position();
        Search {
            here,
            interval: None,
            done: here,
        }
    }

    /// Goes on with a search for about so many `instructions`. `None`: nothing is found yet.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn search(
        &mut self,
        search: &mut Search,
        addresses: &[u64],
        instructions: u64,
    ) -> Result<Option<Found>, TravelError> {
        let Some(interval) = &mut search.interval else {
            if search.done == Position::default() {
                self.run_to(Position::default())?;
                self.settle()?;
                return Ok(Some(Found::Beginning));
            }
            let from = self.snapshot_before(search.done);
            self.run_to(from)?;
            search.interval = Some(Interval { from, last: None });
            return Ok(None);
        };
        let halt = self.run_to_breakpoint(addresses, search.done, instructions)?;
        let at = self.position();
        match halt {
            None => return Ok(None),
            Some(Halt::Breakpoint) if at < search.here => {
                interval.last = Some((at, self.retired()));
                if at < search.done {
                    return Ok(None);
                }
            }
            Some(_) => {}
        }
        if let Some((last, retired)) = interval.last {
            self.wish_for_near(last, retired);
            self.run_to(last)?;
            self.settle()?;
            return Ok(Some(Found::Breakpoint));
        }
        search.done = interval.from;
        search.interval = None;
        Ok(None)
    }

    /// Where the last snapshot before a position was taken.
    fn snapshot_before(&self, position: Position) -> Position {
        let snapshots = self.snapshots.as_ref();
        let earlier = snapshots.and_then(|kept| kept.strictly_before(position));
        earlier.map_or(Position::default(), |snapshot| snapshot.at)
    }
}
