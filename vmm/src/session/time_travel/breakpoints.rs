//! Running to breakpoints and to changes of memory, forwards and backwards.
//!
//! In: [`Stops`]. Out: the machine at the next departure, or the one before, where the instruction at a breakpoint is about to be executed and
//! the one executed before it was another; or next to the instruction that changes memory: behind it on the way forwards, before it on the
//! way backwards. What always holds: what is found does not depend on the direction, nor on the pieces in which the search is made.
//!
//! ```text
//!  backwards:   snapshot ──► hit ──► hit ──► snapshot ──────────────► here
//!                             │                  └─ 1. nothing in this interval
//!                             └─ 2. the last one in this interval: go there
//! ```
//!
//! Breakpoints cost next to nothing: the engine looks for them. Memory that is watched costs a look after each instruction.

use logging_channel::Position;

use super::{Arrival, NEAR_INSTRUCTIONS, ReplicaError, TimeMachine, TravelError, steer::Bound};
use crate::{
    engine::{Checkpoint, EngineError, Inspect},
    machine::Machine,
};

/// Where a run stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Before the instructions at these linear addresses.
    pub breakpoints: Vec<u64>,
    /// Where one of these changes.
    pub watched: Vec<Watched>,
}

/// Memory that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// Linear address.
    pub address: u64,
    /// How much, bytes.
    pub bytes: usize,
}

/// Why a run came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The machine stands at a breakpoint.
    Breakpoint,
    /// The last step changed watched memory.
    Changed {
        /// Its linear address.
        address: u64,
        /// Where the machine stood before the step.
        before: Position,
    },
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
    /// The next step changes watched memory.
    Change {
        /// Its linear address.
        address: u64,
    },
    /// There is nothing before: it stands at the log's beginning.
    Beginning,
}

/// A search backwards from a moment, under way.
#[derive(Clone, Debug)]
pub struct Search {
    /// What is found lies before this.
    here: Position,
    here_retired: u64,
    /// Everything from here to [`Self::here`] was looked through.
    done: Position,
    done_retired: u64,
    /// What is being looked through, up to [`Self::done`].
    interval: Option<Interval>,
}

#[derive(Clone, Debug)]
struct Interval {
    from: Position,
    from_retired: u64,
    /// The last find so far.
    last: Option<Find>,
}

#[derive(Clone, Copy, Debug)]
struct Find {
    at: Position,
    /// Instructions that had retired there, or just behind.
    retired: u64,
    what: Found,
}

impl<E: Checkpoint + Inspect> TimeMachine<E> {
    /// Goes on to the next of `stops`, at most to `until`, for about so many `instructions`. `None`: not there yet. A breakpoint where it
    /// stands is left behind.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn run_to_stop(
        &mut self,
        stops: &Stops,
        until: Position,
        instructions: u64,
    ) -> Result<Option<Halt>, TravelError> {
        if let Some(stop) = self.settle()? {
            return Ok(Some(Halt::Stopped(stop)));
        }
        let end = self.retired().saturating_add(instructions);
        if stops.watched.is_empty() {
            self.machine_mut().set_breakpoints(&stops.breakpoints);
            let halt = self.run_on(until, end);
            self.machine_mut().set_breakpoints(&[]);
            halt
        } else {
            self.step_on(stops, until, end)
        }
    }

    fn run_on(&mut self, until: Position, end: u64) -> Result<Option<Halt>, TravelError> {
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

    /// The same, with a look after each instruction.
    fn step_on(
        &mut self,
        stops: &Stops,
        until: Position,
        end: u64,
    ) -> Result<Option<Halt>, TravelError> {
        let mut last = looked(Look::at(self.machine_mut(), &stops.watched))?;
        while self.retired() < end {
            let before = self.position();
            if before >= until {
                return Ok(Some(Halt::Until));
            }
            if let Some(stop) = self.step()? {
                return Ok(Some(Halt::Stopped(stop)));
            }
            let now = looked(Look::at(self.machine_mut(), &stops.watched))?;
            if let Some(index) = now.change_since(&last) {
                let address = stops.watched[index].address;
                return Ok(Some(Halt::Changed { address, before }));
            }
            if now.rip != last.rip && stops.breakpoints.contains(&now.rip) {
                return Ok(Some(Halt::Breakpoint));
            }
            last = now;
        }
        Ok(None)
    }

    /// A search backwards from where the machine stands.
    #[must_use]
    pub fn search_back(&self) -> Search {
        let (here, retired) = (self.position(), self.retired());
        Search {
            here,
            here_retired: retired,
            done: here,
            done_retired: retired,
            interval: None,
        }
    }

    /// Goes on with a search for about so many `instructions`. `None`: nothing is found yet.
    ///
    /// # Errors
    /// See [`TravelError`].
    pub fn search(
        &mut self,
        search: &mut Search,
        stops: &Stops,
        instructions: u64,
    ) -> Result<Option<Found>, TravelError> {
        let Some(interval) = &mut search.interval else {
            if search.done == Position::default() {
                self.run_to(Position::default())?;
                self.settle()?;
                return Ok(Some(Found::Beginning));
            }
            if !stops.watched.is_empty() {
                self.come_closer(search)?;
            }
            let from = self.snapshot_before(search.done);
            self.run_to(from)?;
            search.interval = Some(Interval {
                from,
                from_retired: self.retired(),
                last: None,
            });
            return Ok(None);
        };
        let halt = self.run_to_stop(stops, search.done, instructions)?;
        if let Some(find) = self.find(halt.as_ref(), search.here, stops)? {
            interval.last = Some(find);
        }
        let over = matches!(halt, Some(Halt::Until | Halt::Stopped(_)));
        if !over && self.position() < search.done {
            return Ok(None);
        }
        if let Some(Find { at, retired, what }) = interval.last {
            self.wish_for_near(at, retired);
            self.run_to(at)?;
            self.settle()?;
            return Ok(Some(what));
        }
        (search.done, search.done_retired) = (interval.from, interval.from_retired);
        search.interval = None;
        Ok(None)
    }

    /// What there is to be found where the machine was halted, if it lies before `here`.
    fn find(
        &mut self,
        halt: Option<&Halt>,
        here: Position,
        stops: &Stops,
    ) -> Result<Option<Find>, TravelError> {
        let (at, retired) = (self.position(), self.retired());
        let breakpoint = Find {
            at,
            retired,
            what: Found::Breakpoint,
        };
        Ok(match halt {
            Some(Halt::Breakpoint) if at < here => Some(breakpoint),
            Some(Halt::Changed { address, before }) => {
                let rip = looked(self.machine_mut().view())?.linear_rip();
                // Who comes from behind meets the breakpoint first.
                if at < here && stops.breakpoints.contains(&rip) {
                    return Ok(Some(breakpoint));
                }
                Some(Find {
                    at: *before,
                    retired,
                    what: Found::Change { address: *address },
                })
            }
            _ => None,
        })
    }

    /// Looking after each instruction is so slow that it is worth while to begin with a short interval, and to double its length: the way there is
    /// gone once more, fast, and a snapshot taken on it.
    fn come_closer(&mut self, search: &Search) -> Result<(), TravelError> {
        let length = (search.here_retired - search.done_retired).max(NEAR_INSTRUCTIONS);
        let snapshots = self.snapshots.as_ref();
        let nearest = snapshots.and_then(|kept| kept.strictly_before(search.done));
        if nearest.is_some_and(|nearest| search.done_retired - nearest.retired > 2 * length) {
            self.wish = Some(search.done_retired - length);
            self.run_to(search.done)?;
        }
        Ok(())
    }

    /// Where the last snapshot before a position was taken.
    fn snapshot_before(&self, position: Position) -> Position {
        let snapshots = self.snapshots.as_ref();
        let earlier = snapshots.and_then(|kept| kept.strictly_before(position));
        earlier.map_or(Position::default(), |snapshot| snapshot.at)
    }
}

/// What is compared after each step.
struct Look {
    rip: u64,
    values: Vec<Vec<u8>>,
}

impl Look {
    fn at<E: Inspect>(machine: &mut Machine<E>, watched: &[Watched]) -> Result<Self, EngineError> {
        let view = machine.view()?;
        let paging = view.paging();
        let values = watched.iter().map(|watched| {
            let mut value = vec![0; watched.bytes];
            let read = paging.read(machine.memory(), watched.address, &mut value);
            value.truncate(read);
            value
        });
        Ok(Self {
            rip: view.linear_rip(),
            values: values.collect(),
        })
    }

    /// Which value is another. One that is mapped in one of the looks alone does not count: another address space is no change.
    fn change_since(&self, before: &Self) -> Option<usize> {
        let mut pairs = self.values.iter().zip(&before.values);
        pairs.position(|(now, before)| now.len() == before.len() && now != before)
    }
}

fn looked<T>(result: Result<T, EngineError>) -> Result<T, TravelError> {
    result.map_err(|error| TravelError::Replica(ReplicaError::Engine(error)))
}
