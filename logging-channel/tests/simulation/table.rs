//! The toy guest's disk device: requests, and the table of those that are not completed.
//!
//! In: requests that the guest makes. Out: those that may be performed. The table is part of the guest's state, so replicas that agree on the log agree
//! on it. Always: of two issued requests that conflict, the later was issued when the earlier was completed.

use std::ops::Range;

use logging_channel::Digest;

use crate::random::{Random, mix};

/// Few, so that requests overlap all the time.
pub const BLOCKS: usize = 6;
/// What a block holds.
pub type Block = u64;
/// The guest makes no more requests while so many are outstanding.
const TABLE_LIMIT: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Read { range: Range<usize> },
    Write { first: usize, blocks: Vec<Block> },
    Flush,
}

impl Operation {
    /// What a guest in this state wants.
    fn of_state(state: u64) -> Self {
        let mut choice = Random::new(state);
        let count = usize::from(choice.percent(40)) + 1;
        let first = usize::try_from(choice.between(0, (BLOCKS - count) as u64)).expect("small");
        match choice.between(0, 9) {
            0..=4 => Self::Write {
                first,
                blocks: (0..count).map(|_| choice.next()).collect(),
            },
            5..=8 => Self::Read {
                range: first..first + count,
            },
            _ => Self::Flush,
        }
    }

    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Read { range } => range.clone(),
            Self::Write { first, blocks } => *first..first + blocks.len(),
            Self::Flush => 0..0,
        }
    }

    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    pub fn overlaps(&self, other: &Range<usize>) -> bool {
        let own = self.range();
        own.start < other.end && other.start < own.end
    }

    fn conflicts_with(&self, other: &Self) -> bool {
        self.overlaps(&other.range()) && !(self.is_read() && other.is_read())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// From 0, in the order in which the guest makes them.
    pub id: u64,
    pub operation: Operation,
}

impl Request {
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }
}

#[derive(Default)]
pub struct Table {
    made: u64,
    /// Outstanding ones in order, and whether they were issued.
    requests: Vec<(Request, bool)>,
    /// A bug.
    pub ignores_conflicts: bool,
}

impl Table {
    /// The guest, in `state`, may make a request.
    pub fn make(&mut self, state: u64) -> Option<Request> {
        let wants = mix(state) % 100 < 60;
        if !wants || self.requests.len() >= TABLE_LIMIT {
            return None;
        }
        let operation = Operation::of_state(state);
        let id = self.made;
        self.made += 1;
        let request = Request { id, operation };
        self.requests.push((request.clone(), false));
        Some(request)
    }

    /// The first request that waits and need not any more.
    pub fn ready(&self) -> Option<&Request> {
        let index = self.ready_index()?;
        Some(&self.requests[index].0)
    }

    fn ready_index(&self) -> Option<usize> {
        (0..self.requests.len()).find(|&index| {
            let (request, issued) = &self.requests[index];
            let conflicts = |(earlier, _): &(Request, bool)| {
                request.operation.conflicts_with(&earlier.operation)
            };
            !issued && (self.ignores_conflicts || !self.requests[..index].iter().any(conflicts))
        })
    }

    /// Issues the one that is ready.
    pub fn issue(&mut self) -> Option<Request> {
        let index = self.ready_index()?;
        let (request, issued) = &mut self.requests[index];
        *issued = true;
        Some(request.clone())
    }

    /// None if there is no such request under way.
    pub fn complete(&mut self, id: u64) -> Option<Request> {
        let index = self.position(id)?;
        Some(self.requests.remove(index).0)
    }

    pub fn under_way(&self, id: u64) -> Option<&Request> {
        Some(&self.requests[self.position(id)?].0)
    }

    fn position(&self, id: u64) -> Option<usize> {
        let found = |(request, issued): &(Request, bool)| request.id == id && *issued;
        self.requests.iter().position(found)
    }

    /// Issued and not completed, in order.
    pub fn issued(&self) -> impl Iterator<Item = &Request> {
        let issued = self.requests.iter().filter(|(_, issued)| *issued);
        issued.map(|(request, _)| request)
    }
}
