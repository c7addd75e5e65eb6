use logging_channel::{Entry, Position, codec::MAX_BATCH_BYTES};
use proptest::prelude::*;

use super::*;
use crate::machine::{MIN_MEMORY_BYTES, allocate_memory};

const PAGES: u64 = MIN_MEMORY_BYTES / PAGE_BYTES as u64;

fn memory_of(fill: impl Fn(u64) -> u8) -> GuestMemory {
    let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
    for page in 0..PAGES {
        memory
            .write_slice(
                &[fill(page); PAGE_BYTES],
                GuestAddress(page * PAGE_BYTES as u64),
            )
            .expect("it fits");
    }
    memory
}

/// What the entries of a delta become at the other end.
fn assemble(events: impl Iterator<Item = Event>) -> Result<PackedDelta, DeltaError> {
    let mut assembly = Assembly::default();
    for event in events {
        match event {
            Event::Pages {
                part,
                ranges,
                bytes,
            } => assembly.add(part, ranges, bytes)?,
            Event::State { parts, bytes } => return assembly.finish(parts, bytes),
            other => panic!("{other:?}"),
        }
    }
    panic!("no state")
}

fn put(memory: &GuestMemory, delta: &PackedDelta) {
    for part in &delta.parts {
        for (address, bytes) in part.unpack().expect("whole pages") {
            memory
                .write_slice(&bytes, GuestAddress(address))
                .expect("it fits");
        }
    }
}

fn pages(memory: &GuestMemory) -> Vec<u8> {
    let first = |page| {
        memory
            .read_obj(GuestAddress(page * PAGE_BYTES as u64))
            .expect("it fits")
    };
    (0..PAGES).map(first).collect()
}

fn ranges(dirty: &[bool]) -> Vec<std::ops::Range<u64>> {
    let bytes = PAGE_BYTES as u64;
    let mut ranges: Vec<std::ops::Range<u64>> = Vec::new();
    for page in (0..).zip(dirty).filter(|(_, dirty)| **dirty) {
        let from = page.0 * bytes;
        match ranges.last_mut() {
            Some(last) if last.end == from => last.end += bytes,
            _ => ranges.push(from..from + bytes),
        }
    }
    ranges
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_other_end_gets_exactly_the_dirty_pages(dirty in prop::collection::vec(any::<bool>(), PAGES as usize), runs in 1_usize..80) {
        // Neighbours of the same kind, so that there are long ranges too.
        let dirty: Vec<bool> = (0..PAGES as usize).map(|page| dirty[page / runs]).collect();
        let delta = Delta { state: vec![7; 1000], dirty: ranges(&dirty) };
        let source = memory_of(|page| page as u8 | 1);
        let packed = assemble(events(&delta, &source)).expect("its own entries");
        prop_assert_eq!(packed.state().expect("a state"), vec![7; 1000]);
        let target = memory_of(|_| 0);
        put(&target, &packed);
        let expected: Vec<u8> = (0..PAGES).map(|page| if dirty[page as usize] { page as u8 | 1 } else { 0 }).collect();
        prop_assert_eq!(pages(&target), expected);
    }

    #[test]
    fn bytes_that_nobody_wrote_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1_u32..=PART_PAGES) {
        let mut assembly = Assembly::default();
        assembly.add(0, vec![PageRange { first: 0, count }], bytes.clone()).expect("the claim is possible");
        let packed = assembly.finish(1, bytes).expect("all parts are there");
        prop_assert_eq!(packed.parts[0].unpack(), Err(DeltaError::Bytes { pages: count }));
        prop_assert_eq!(packed.state(), Err(DeltaError::State));
    }
}

#[test]
fn entries_fit_into_frames_even_if_nothing_can_be_compressed() {
    let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
    let mut state = 1_u64;
    for word in 0..MIN_MEMORY_BYTES / 8 {
        state = (state ^ state << 13).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        memory
            .write_obj(state, GuestAddress(word * 8))
            .expect("it fits");
    }
    let everything = Delta {
        state: Vec::new(),
        dirty: ranges(&[true; PAGES as usize]),
    };
    let entries: Vec<Event> = events(&everything, &memory).collect();
    assert_eq!(entries.len() as u64, PAGES / u64::from(PART_PAGES) + 1);
    for event in entries {
        let at = Position::default();
        let entry = Entry { seq: 1, at, event };
        assert!(entry.size_bytes() < MAX_BATCH_BYTES as u64 / 2);
    }
}

#[test]
fn a_delta_without_pages_is_its_state_alone() {
    let delta = Delta {
        state: vec![1, 2, 3],
        dirty: Vec::new(),
    };
    let memory = memory_of(|_| 0);
    assert_eq!(events(&delta, &memory).count(), 1);
    let packed = assemble(events(&delta, &memory)).expect("its own entries");
    assert_eq!((packed.state(), packed.parts.len()), (Ok(vec![1, 2, 3]), 0));
}

#[test]
fn a_delta_is_whole_or_void() {
    let page = |first| vec![PageRange { first, count: 1 }];
    let mut assembly = Assembly::default();
    assembly.add(0, page(5), vec![1]).expect("the first");
    let gap = assembly.add(2, page(9), vec![3]);
    assert_eq!(
        gap,
        Err(DeltaError::Part {
            expected: 1,
            found: 2
        })
    );
    // Another delta begins: what was there is void.
    assembly.add(0, page(2), vec![4]).expect("the first");
    // One without pages.
    let empty = assembly.finish(0, vec![9]).expect("complete");
    assert_eq!(empty.parts, []);
    assembly.add(0, page(2), vec![4]).expect("the first");
    let missing = assembly.finish(2, Vec::new());
    assert_eq!(
        missing,
        Err(DeltaError::Part {
            expected: 1,
            found: 2
        })
    );
}

#[test]
fn pages_that_overlap_or_lie_outside_are_refused() {
    let add = |ranges: &[(u64, u32)]| {
        let range = |&(first, count): &(u64, u32)| PageRange { first, count };
        Assembly::default().add(0, ranges.iter().map(range).collect(), Vec::new())
    };
    assert_eq!(add(&[(0, 3), (3, 1), (MAX_PAGES - 1, 1)]), Ok(()));
    for bad in [
        &[(0, 3), (2, 1)][..],
        &[(7, 1), (6, 1)],
        &[(0, 0)],
        &[(0, PART_PAGES + 1)],
        &[(0, PART_PAGES), (100, 1)],
        &[(MAX_PAGES, 1)],
        &[(u64::MAX, 1)],
    ] {
        assert!(matches!(add(bad), Err(DeltaError::Range { .. })), "{bad:?}");
    }
}
