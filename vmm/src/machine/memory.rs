//! Guest memory, which knows the pages that the VMM has written.
//!
//! In: writes through `vm-memory`: the loader's, the devices' (rings, received frames, entropy). Out: [`take_written`], to an
//! engine that keeps decoded code or translations of these pages. What always holds: no write through [`GuestMemory`] can forget to mark its
//! page, as `vm-memory` does that itself. What an engine's guest stores by itself is not marked: the engine sees its own
//! stores. (A state transfer needs both: these pages, and the engine's own dirty log.)

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    bitmap::{Bitmap, NewBitmap, RefSlice, WithBitmapSlice},
};

/// What a guest can be given at most, bytes: it must end below device memory.
pub const MAX_MEMORY_BYTES: u64 = 3 << 30;
const _: () = assert!(MAX_MEMORY_BYTES <= super::layout::MMIO_START);
/// What a guest needs at least, bytes.
pub const MIN_MEMORY_BYTES: u64 = 4 << 20;

/// Memory comes in pages of this size, bytes.
pub const PAGE_BYTES: usize = 4096;
const PAGES_PER_WORD: usize = u64::BITS as usize;

/// The memory of every machine. Clones are handles of the same memory.
pub type GuestMemory = GuestMemoryMmap<WrittenPages>;

/// Memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Out of bounds.
    #[error(
        "Guest memory of {bytes} bytes is not possible: give a multiple of 4096 from {MIN_MEMORY_BYTES} to {MAX_MEMORY_BYTES} with --memory"
    )]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// The host has no room.
    #[error("Cannot map {bytes} bytes of guest memory")]
    Map {
        /// What was asked for.
        bytes: u64,
        /// The host's answer.
        source: vm_memory::mmap::FromRangesError,
    },
}

/// Fresh guest memory, all zero.
///
/// # Errors
/// If the size is out of bounds or the host cannot map it.
pub fn allocate_memory(bytes: u64) -> Result<GuestMemory, MemoryError> {
    if !(MIN_MEMORY_BYTES..=MAX_MEMORY_BYTES).contains(&bytes)
        || !bytes.is_multiple_of(PAGE_BYTES as u64)
    {
        return Err(MemoryError::Size { bytes });
    }
    GuestMemory::from_ranges(&[(GuestAddress(0), bytes as usize)])
        .map_err(|source| MemoryError::Map { bytes, source })
}

/// Guest-physical ranges, whole pages, that were written since the last call, in ascending order; costs next to nothing if there are
/// none.
#[must_use]
pub fn take_written(memory: &GuestMemory) -> Vec<Range<u64>> {
    let mut written = Vec::new();
    for region in memory.iter() {
        let pages: &WrittenPages = (**region).bitmap();
        pages.take(region.start_addr().0, &mut written);
    }
    written
}

/// One bit for each page that was written. `low` and `high` say where to look: nothing outside of these words is set.
#[derive(Debug)]
pub struct WrittenPages {
    words: Vec<AtomicU64>,
    /// First word with a bit set, or anything above `high`.
    low: AtomicUsize,
    /// Last word with a bit set.
    high: AtomicUsize,
}

// One thread at a time writes to a machine's memory, or hands it on through a channel or a lock: `Relaxed` is enough.
const ORDER: Ordering = Ordering::Relaxed;

impl WrittenPages {
    fn take(&self, start: u64, written: &mut Vec<Range<u64>>) {
        let (low, high) = (self.low.load(ORDER), self.high.load(ORDER));
        if low > high {
            return;
        }
        self.low.store(usize::MAX, ORDER);
        self.high.store(0, ORDER);
        for index in low..=high {
            let mut bits = self.words[index].swap(0, ORDER);
            while bits != 0 {
                let page = index * PAGES_PER_WORD + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let from = start + (page * PAGE_BYTES) as u64;
                let to = from + PAGE_BYTES as u64;
                match written.last_mut() {
                    Some(last) if last.end == from => last.end = to,
                    _ => written.push(from..to),
                }
            }
        }
    }
}

impl Default for WrittenPages {
    fn default() -> Self {
        Self::with_len(0)
    }
}

impl NewBitmap for WrittenPages {
    fn with_len(bytes: usize) -> Self {
        let words = bytes.div_ceil(PAGE_BYTES * PAGES_PER_WORD);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            low: AtomicUsize::new(usize::MAX),
            high: AtomicUsize::new(0),
        }
    }
}

impl<'a> WithBitmapSlice<'a> for WrittenPages {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for WrittenPages {
    fn mark_dirty(&self, offset: usize, length: usize) {
        let Some(last_byte) = length.checked_sub(1) else {
            return;
        };
        let (first, last) = (
            offset / PAGE_BYTES,
            offset.saturating_add(last_byte) / PAGE_BYTES,
        );
        for page in first..=last {
            // Beyond the end there is nothing that could have been written.
            let Some(word) = self.words.get(page / PAGES_PER_WORD) else {
                break;
            };
            word.fetch_or(1 << (page % PAGES_PER_WORD), ORDER);
            self.low.fetch_min(page / PAGES_PER_WORD, ORDER);
            self.high.fetch_max(page / PAGES_PER_WORD, ORDER);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset / PAGE_BYTES;
        let word = self.words.get(page / PAGES_PER_WORD);
        word.is_some_and(|word| word.load(ORDER) >> (page % PAGES_PER_WORD) & 1 == 1)
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn every_way_of_writing_marks_its_pages_once() {
        let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
        assert_eq!(take_written(&memory), [], "fresh");
        memory.write_obj(7_u16, GuestAddress(0x3FFF)).expect("fits");
        memory
            .store(1_u32, GuestAddress(0x20_0000), Ordering::Relaxed)
            .expect("fits");
        memory
            .write_slice(&[1; 0x2001], GuestAddress(0x10_0000))
            .expect("fits");
        let clone = memory.clone();
        assert_eq!(
            take_written(&clone),
            [0x3000..0x5000, 0x10_0000..0x10_3000, 0x20_0000..0x20_1000]
        );
        assert_eq!(take_written(&memory), [], "taken");
    }

    #[test]
    fn reading_marks_nothing() {
        let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
        let mut bytes = [0; 64];
        memory
            .read_slice(&mut bytes, GuestAddress(0x1000))
            .expect("fits");
        let _: u64 = memory.read_obj(GuestAddress(0x5000)).expect("fits");
        assert_eq!(take_written(&memory), []);
    }

    proptest! {
        /// Whatever is written, in whatever order: the pages that were touched, and no others.
        #[test]
        fn written_pages_are_exactly_those_touched(
            writes in prop::collection::vec((0_usize..1024 * PAGE_BYTES, 0_usize..3 * PAGE_BYTES), 0..12),
        ) {
            let pages = WrittenPages::with_len(1024 * PAGE_BYTES);
            let mut touched = [false; 1024];
            for (offset, length) in writes {
                pages.mark_dirty(offset, length);
                for byte in (offset..offset + length).step_by(64).chain((length > 0).then(|| offset + length - 1)) {
                    if let Some(page) = touched.get_mut(byte / PAGE_BYTES) {
                        *page = true;
                    }
                }
            }
            for (page, touched) in touched.iter().enumerate() {
                prop_assert_eq!(pages.dirty_at(page * PAGE_BYTES), *touched);
            }
            let mut written = Vec::new();
            pages.take(0, &mut written);
            let found: Vec<usize> = written.iter().flat_map(|range| range.start as usize / PAGE_BYTES..range.end as usize / PAGE_BYTES).collect();
            let expected: Vec<usize> = (0..1024).filter(|page| touched[*page]).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(written.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", written);
        }
    }
}
