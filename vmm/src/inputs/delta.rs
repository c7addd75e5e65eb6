//! State deltas as entries of the log.
//!
//! ```text
//!  Delta, memory ── events ──► Pages 0, Pages 1, … State ── log ──► Assembly ── State ──► PackedDelta ── unpack ──► memory, engine
//!                                                                      └── anything else: void
//! ```
//!
//! In: a [`Delta`] of an engine and the memory that it speaks of; at the other end, entries. Out: entries of at most [`PART_PAGES`] pages, each a frame's worth;
//! a [`PackedDelta`]. What always holds: a delta is whole or void, since a log can end anywhere; what an entry claims is checked before anything is allocated
//! for it.

use logging_channel::{Event, PageRange, Position};
use vm_memory::{Bytes, GuestAddress};

use super::Divergence;
use crate::{
    engine::Delta,
    machine::{GuestMemory, MAX_MEMORY_BYTES, PAGE_BYTES},
};

/// Pages in one entry at most: 256 KiB, and a quarter of the largest frame even where nothing can be compressed.
pub const PART_PAGES: u32 = 64;

const MAX_PAGES: u64 = MAX_MEMORY_BYTES / PAGE_BYTES as u64;
/// An engine's state is no longer, bytes.
const MAX_STATE_BYTES: usize = 64 << 10;
/// The fastest of zstd's ordinary levels: the guest stands still meanwhile.
const LEVEL: i32 = 1;

/// An entry of a delta that nobody could have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// Parts are missing.
    #[error("Part {found} of a state delta where part {expected} should be")]
    Part {
        /// The next one.
        expected: u32,
        /// The one that came.
        found: u32,
    },
    /// Pages that overlap, go back or lie outside of memory.
    #[error("A state delta has no right to {count} pages from page {first:#x} on")]
    Range {
        /// First page.
        first: u64,
        /// How many.
        count: u32,
    },
    /// More or fewer bytes than the pages have.
    #[error("A state delta's bytes are not those of {pages} pages")]
    Bytes {
        /// How many pages.
        pages: u32,
    },
    /// The state is not compressed as it should be.
    #[error("A state delta's state cannot be read")]
    State,
}

impl DeltaError {
    /// The same as a divergence at `at`.
    #[must_use]
    pub fn divergence(&self, at: Position, last_entries: Vec<String>) -> Divergence {
        Divergence {
            at,
            expected: "a state delta".to_owned(),
            actual: self.to_string(),
            last_entries,
        }
    }

    /// There is no memory for so many bytes at `address`.
    #[must_use]
    pub fn no_memory(address: u64, bytes: usize) -> Self {
        Self::Range {
            first: address / PAGE_BYTES as u64,
            count: (bytes / PAGE_BYTES) as u32,
        }
    }
}

/// The entries of a delta, in order.
pub fn events<'a>(delta: &'a Delta, memory: &'a GuestMemory) -> impl Iterator<Item = Event> + 'a {
    let parts = split(&delta.dirty);
    let count = parts.len() as u32;
    let pages = (0_u32..)
        .zip(parts)
        .map(move |(part, ranges)| Event::Pages {
            part,
            bytes: compress(&read(memory, &ranges)),
            ranges,
        });
    let state = std::iter::once_with(move || Event::State {
        parts: count,
        bytes: compress(&delta.state),
    });
    pages.chain(state)
}

/// Ranges of addresses as ranges of pages, [`PART_PAGES`] at a time.
fn split(dirty: &[std::ops::Range<u64>]) -> Vec<Vec<PageRange>> {
    let mut parts = Vec::new();
    let (mut part, mut room) = (Vec::new(), PART_PAGES);
    for range in dirty {
        let (mut first, end) = (
            range.start / PAGE_BYTES as u64,
            range.end / PAGE_BYTES as u64,
        );
        while first < end {
            let count = u64::from(room).min(end - first) as u32;
            part.push(PageRange { first, count });
            first += u64::from(count);
            room -= count;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = PART_PAGES;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn read(memory: &GuestMemory, ranges: &[PageRange]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PART_PAGES as usize * PAGE_BYTES);
    for range in ranges {
        let from = bytes.len();
        bytes.resize(from + range.count as usize * PAGE_BYTES, 0);
        memory
            .read_slice(
                &mut bytes[from..],
                GuestAddress(range.first * PAGE_BYTES as u64),
            )
            .expect("what the guest dirtied is its memory");
    }
    bytes
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, LEVEL).expect("bytes in memory can be compressed")
}

/// Exactly `length` bytes, and no more are allocated whatever the frame says.
fn decompress(frame: &[u8], length: usize) -> Option<Vec<u8>> {
    let bytes = zstd::bulk::decompress(frame, length).ok()?;
    (bytes.len() == length).then_some(bytes)
}

/// One `Pages` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    ranges: Vec<PageRange>,
    bytes: Vec<u8>,
}

impl Part {
    /// Guest-physical addresses and what is there.
    ///
    /// # Errors
    /// [`DeltaError::Bytes`] if the bytes are not the pages'.
    pub fn unpack(&self) -> Result<Vec<(u64, Vec<u8>)>, DeltaError> {
        let pages = self.ranges.iter().map(|range| range.count).sum::<u32>();
        let mut bytes = decompress(&self.bytes, pages as usize * PAGE_BYTES)
            .ok_or(DeltaError::Bytes { pages })?;
        let mut unpacked = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.iter().rev() {
            let from = bytes.len() - range.count as usize * PAGE_BYTES;
            unpacked.push((range.first * PAGE_BYTES as u64, bytes.split_off(from)));
        }
        Ok(unpacked)
    }
}

/// A whole delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedDelta {
    /// Its pages.
    pub parts: Vec<Part>,
    state: Vec<u8>,
}

impl PackedDelta {
    /// The engine's state, as [`crate::engine::Engine::go_on_from`] takes it.
    ///
    /// # Errors
    /// [`DeltaError::State`] if it is none.
    pub fn state(&self) -> Result<Vec<u8>, DeltaError> {
        // No bytes at all are no frame, whatever zstd says; and no engine's state is empty.
        let state = zstd::bulk::decompress(&self.state, MAX_STATE_BYTES).ok();
        state
            .filter(|state| !state.is_empty())
            .ok_or(DeltaError::State)
    }
}

/// A delta whose entries come in.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    parts: Vec<Part>,
    /// No page below may come.
    next_page: u64,
}

impl Assembly {
    /// Takes one `Pages` entry.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn add(
        &mut self,
        part: u32,
        ranges: Vec<PageRange>,
        bytes: Vec<u8>,
    ) -> Result<(), DeltaError> {
        if part == 0 {
            self.clear();
        }
        let expected = self.parts.len() as u32;
        if part != expected {
            return Err(DeltaError::Part {
                expected,
                found: part,
            });
        }
        let mut room = PART_PAGES;
        for &PageRange { first, count } in &ranges {
            let end = first.saturating_add(u64::from(count));
            if count == 0 || count > room || first < self.next_page || end > MAX_PAGES {
                return Err(DeltaError::Range { first, count });
            }
            room -= count;
            self.next_page = end;
        }
        self.parts.push(Part { ranges, bytes });
        Ok(())
    }

    /// The delta was cut off: what was there is void.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the `State` entry.
    ///
    /// # Errors
    /// [`DeltaError::Part`] if pages are missing.
    pub fn finish(&mut self, parts: u32, state: Vec<u8>) -> Result<PackedDelta, DeltaError> {
        let mut complete = std::mem::take(self).parts;
        if parts == 0 {
            // Another delta, which has no pages: what was there is void.
            complete.clear();
        }
        if complete.len() != parts as usize {
            return Err(DeltaError::Part {
                expected: complete.len() as u32,
                found: parts,
            });
        }
        Ok(PackedDelta {
            parts: complete,
            state,
        })
    }
}

#[cfg(test)]
mod tests;
