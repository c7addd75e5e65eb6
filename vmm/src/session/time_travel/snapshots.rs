//! Earlier states of a machine, kept in memory: where a replay goes on from when it goes back.
//!
//! In: a machine that has just arrived somewhere, now and then. Out: the nearest one before a position. What always holds: the first
//! snapshot, the log's beginning, stays; there are never more than the limits allow besides it. When there would be, the one goes whose absence
//! matters least: where the gap that it leaves is smallest, measured against how far back it is. So the further
//! back, the further apart they are: the distances grow exponentially.
//!
//! Snapshots share the pages that are alike in neighbours; pages of zeros cost nothing.

use std::sync::Arc;

use logging_channel::Position;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::steer::Tape;
use crate::{
    inputs::Logged,
    machine::{GuestMemory, PAGE_BYTES, state::MachineState},
};

type Page = [u8; PAGE_BYTES];
const ZEROS: Page = [0; PAGE_BYTES];

/// How much is kept to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From one snapshot to the next on new ground, instructions.
    pub every_instructions: u64,
    /// Snapshots besides the first.
    pub count: usize,
    /// Their memory, the first one's included, bytes. The first is kept even if it is larger.
    pub bytes: u64,
}

impl Default for Limits {
    /// A snapshot looks at all of memory: some 20 ms for 100 MB. One in 50 million instructions, some 300 ms, is little beside that.
    fn default() -> Self {
        Self {
            every_instructions: 50_000_000,
            count: 64,
            bytes: 1 << 30,
        }
    }
}

/// Guest memory at some time. `None` is a page of zeros.
struct MemoryImage {
    pages: Vec<Option<Arc<Page>>>,
}

impl MemoryImage {
    /// Memory as it is now, and how many pages of it no neighbour shares.
    fn of(memory: &GuestMemory, neighbour: Option<&Self>) -> (Self, u64) {
        let mut fresh = 0;
        let mut page = ZEROS;
        let count = pages(memory);
        let pages = (0..count).map(|index| {
            read_page(memory, index, &mut page);
            if page == ZEROS {
                return None;
            }
            let before = neighbour.and_then(|image| image.pages[index].as_ref());
            if let Some(same) = before.filter(|before| ***before == page) {
                return Some(same.clone());
            }
            fresh += 1;
            Some(Arc::new(page))
        });
        let pages = pages.collect();
        (Self { pages }, fresh)
    }

    /// Makes memory what it was. Pages that are the same are not written: an engine forgets what it knows of those that are.
    fn put_back(&self, memory: &GuestMemory) {
        let mut now = ZEROS;
        for (index, page) in self.pages.iter().enumerate() {
            read_page(memory, index, &mut now);
            let then = page.as_deref().unwrap_or(&ZEROS);
            if now != *then {
                memory
                    .write_slice(then, address(index))
                    .expect("a page of this memory");
            }
        }
    }

    /// Pages that go with this image.
    fn own_pages(&self) -> u64 {
        let own = |page: &&Arc<Page>| Arc::strong_count(page) == 1;
        self.pages.iter().flatten().filter(own).count() as u64
    }
}

fn pages(memory: &GuestMemory) -> usize {
    (memory.last_addr().0 as usize + 1) / PAGE_BYTES
}

fn address(page: usize) -> GuestAddress {
    GuestAddress((page * PAGE_BYTES) as u64)
}

fn read_page(memory: &GuestMemory, index: usize, page: &mut Page) {
    memory
        .read_slice(page, address(index))
        .expect("a page of this memory");
}

/// A machine that had just arrived at a position.
pub(super) struct Snapshot<S> {
    pub(super) at: Position,
    /// Instructions retired since the machine began.
    pub(super) retired: u64,
    pub(super) state: MachineState<S>,
    pub(super) place: Logged<Tape>,
    memory: MemoryImage,
}

impl<S> Snapshot<S> {
    pub(super) fn put_memory_back(&self, memory: &GuestMemory) {
        self.memory.put_back(memory);
    }
}

/// What is kept, in the order of positions.
pub(super) struct Snapshots<S> {
    limits: Limits,
    kept: Vec<Snapshot<S>>,
    pages: u64,
}

impl<S> Snapshots<S> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            kept: Vec::new(),
            pages: 0,
        }
    }

    /// The last one not after `position`.
    pub(super) fn before(&self, position: Position) -> Option<&Snapshot<S>> {
        let after = self.kept.partition_point(|kept| kept.at <= position);
        self.kept[..after].last()
    }

    /// The last one before `position`.
    pub(super) fn strictly_before(&self, position: Position) -> Option<&Snapshot<S>> {
        let here = self.kept.partition_point(|kept| kept.at < position);
        self.kept[..here].last()
    }

    /// Whether a machine that arrives at `position` is worth keeping.
    pub(super) fn wants(&self, position: Position, retired: u64) -> bool {
        self.before(position).is_none_or(|nearest| {
            nearest.at != position && retired - nearest.retired >= self.limits.every_instructions
        })
    }

    /// Keeps a machine that has just arrived at `at`.
    pub(super) fn keep(
        &mut self,
        at: Position,
        retired: u64,
        state: MachineState<S>,
        place: Logged<Tape>,
        memory: &GuestMemory,
    ) {
        let index = self.kept.partition_point(|kept| kept.at < at);
        if self.kept.get(index).is_some_and(|kept| kept.at == at) {
            return;
        }
        let neighbour = index.checked_sub(1).map(|before| &self.kept[before].memory);
        let (memory, fresh) = MemoryImage::of(memory, neighbour);
        self.pages += fresh;
        let snapshot = Snapshot {
            at,
            retired,
            state,
            place,
            memory,
        };
        self.kept.insert(index, snapshot);
        while self.kept.len() > 1 && self.too_much() {
            self.thin_out(retired);
        }
    }

    fn too_much(&self) -> bool {
        self.kept.len() > self.limits.count + 1
            || self.pages * PAGE_BYTES as u64 > self.limits.bytes
    }

    /// Drops the one that matters least to a machine that stands at `now`.
    fn thin_out(&mut self, now: u64) {
        let retired: Vec<u64> = self.kept.iter().map(|kept| kept.retired).collect();
        let gone = self.kept.remove(matters_least(&retired, now));
        self.pages -= gone.memory.own_pages();
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// What their memory takes, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// Which of the snapshots at these instruction counts, ascending, matters least to a machine that stands at `now`: never the first, of at least two.
fn matters_least(retired: &[u64], now: u64) -> usize {
    let loss = |index: usize| {
        let next = retired.get(index + 1).copied().unwrap_or(now);
        let gap = next.abs_diff(retired[index - 1]);
        // In parts of a million: integers order alike everywhere.
        u128::from(gap) * 1_000_000 / u128::from(now.abs_diff(retired[index]) + 1)
    };
    let least = (1..retired.len()).min_by_key(|index| loss(*index));
    least.expect("there is one besides the first")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left of snapshots that were taken at these counts, one after the other, if there may be `count` besides the first.
    fn thinned(taken: impl IntoIterator<Item = u64>, count: usize) -> Vec<u64> {
        let mut kept = Vec::new();
        for now in taken {
            kept.push(now);
            if kept.len() > count + 1 {
                let gone = matters_least(&kept, now);
                kept.remove(gone);
            }
        }
        kept
    }

    #[test]
    fn distances_grow_with_the_distance() {
        let kept = thinned((0..1000).map(|number| number * 50), 20);
        assert_eq!(kept.len(), 21);
        assert_eq!(kept[0], 0);
        let now = 999 * 50;
        for pair in kept[1..].windows(2) {
            let (gap, back) = (pair[1] - pair[0], now - pair[0]);
            assert!(gap <= back.max(50), "{pair:?} of {kept:?}");
        }
        let near = kept.iter().filter(|at| now - **at <= now / 8).count();
        assert!(near >= 6, "{kept:?}");
        let far = kept.iter().filter(|at| now - **at > now / 2).count();
        assert!((1..=8).contains(&far), "{kept:?}");
    }

    proptest! {
        #[test]
        fn the_first_stays_and_the_order_too(
            steps in prop::collection::vec(0_u64..1 << 40, 1..60),
            count in 1_usize..10,
        ) {
            let taken: Vec<u64> = steps
                .iter()
                .scan(0, |at, step| {
                    *at += step;
                    Some(*at)
                })
                .collect();
            let kept = thinned(taken.iter().copied(), count);
            prop_assert_eq!(kept[0], taken[0]);
            prop_assert!(kept.len() <= count + 1);
            prop_assert!(kept.is_sorted());
        }
    }
}
