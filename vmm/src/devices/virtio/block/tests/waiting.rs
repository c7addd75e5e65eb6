//! Requests that wait: for those that conflict with them, and for room.

use logging_channel::codec::{canonical_bytes, from_canonical_bytes};
use proptest::prelude::*;

use super::super::table::{MAX_REQUESTS, OUTSTANDING_LIMIT_BYTES};
use super::*;
use crate::devices::virtio::test_ring::MEMORY_BYTES;

const DONE: DiskAnswer<'static> = DiskAnswer::Done(&[]);

#[test]
fn what_conflicts_waits_and_is_issued_where_the_last_conflicting_one_ends() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 1024]);
    rig.read(1, 4, 1);
    // Overlaps both.
    rig.write(2, 1, &[2; 2048]);
    // Overlaps the one that waits, and nothing that is under way.
    rig.read(3, 2, 1);
    assert_eq!(rig.issued_ids(), [0, 1]);
    assert_eq!(rig.under_way(), [0, 1]);
    rig.done(0, DONE);
    assert_eq!(
        rig.issued_ids(),
        NOBODY,
        "the read of sector 4 is under way"
    );
    rig.done(1, DiskAnswer::Done(&[0; 512]));
    assert_eq!(rig.issued(), [(2, write_of(1, &[2; 2048]))]);
    rig.done(2, DONE);
    assert_eq!(rig.issued(), [(3, read_of(2, 1))]);
    rig.done(3, DiskAnswer::Done(&[0; 512]));
    assert_eq!((rig.used_count(), rig.under_way()), (4, vec![]));
}

#[test]
fn what_waited_for_one_is_issued_in_order() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 2048]);
    rig.read(1, 3, 1);
    rig.read(2, 1, 2);
    rig.write(3, 0, &[3; 512]);
    rig.issued();
    rig.done(0, DONE);
    assert_eq!(rig.issued_ids(), [1, 2, 3]);
}

#[test]
fn reads_of_the_same_sectors_go_together() {
    let mut rig = rig();
    for slot in 0..4 {
        rig.read(slot, 0, 8);
    }
    assert_eq!(rig.issued_ids(), [0, 1, 2, 3]);
}

#[test]
fn a_flush_waits_for_nothing_and_nothing_for_it() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    rig.write(1, 0, &[2; 512]);
    rig.submit(2, (VIRTIO_BLK_T_FLUSH, 0, &[], 0));
    rig.read(3, 9, 1);
    assert_eq!(rig.issued_ids(), [0, 2, 3]);
}

#[test]
fn answers_may_come_in_any_order() {
    let mut rig = rig();
    for slot in 0..3 {
        rig.read(slot, u64::from(slot), 1);
    }
    for slot in [2, 0, 1] {
        rig.done(slot.into(), DiskAnswer::Done(&[slot as u8 + 1; 512]));
        assert_eq!(rig.last_used().0, slot);
        assert_eq!(rig.data(slot, 512), [slot as u8 + 1; 512]);
    }
}

/// Offers `count` requests of the largest size, a few at a time, as the ring has no more room.
fn offer_large(rig: &mut Rig, count: usize) {
    for _ in 0..count {
        rig.read(0, 0, REQUEST_LIMIT_BYTES / 512);
    }
}

#[test]
fn data_under_way_is_bounded_and_the_rest_stays_in_the_ring() {
    let mut rig = rig();
    let room = (OUTSTANDING_LIMIT_BYTES / u64::from(REQUEST_LIMIT_BYTES)) as usize;
    assert_eq!(room, 65);
    offer_large(&mut rig, room + 3);
    assert_eq!(rig.issued().len(), room);
    assert_eq!(rig.under_way().len(), room);
    rig.done(7, DiskAnswer::Failed);
    assert_eq!(rig.issued_ids(), [65], "there is room for one more");
    rig.notify();
    assert_eq!(rig.issued_ids(), NOBODY);
    rig.done(8, DiskAnswer::Failed);
    rig.done(9, DiskAnswer::Failed);
    assert_eq!(rig.issued_ids(), [66, 67]);
    rig.done(10, DiskAnswer::Failed);
    assert_eq!(rig.issued_ids(), NOBODY, "the ring is empty");
}

#[test]
fn what_is_written_by_a_chain_that_stayed_is_what_is_there_when_it_is_taken() {
    let mut rig = rig();
    offer_large(&mut rig, 65);
    rig.issued();
    rig.write(1, 0, &[1; 512]);
    let [_, _, data] = Rig::places(1);
    rig.memory
        .write_slice(&[2; 512], GuestAddress(data))
        .unwrap();
    rig.done(0, DiskAnswer::Failed);
    assert_eq!(rig.issued_ids(), NOBODY, "it waits for the reads");
    for id in 1..65 {
        rig.done(id, DiskAnswer::Failed);
    }
    assert_eq!(rig.issued(), [(65, write_of(0, &[2; 512]))]);
}

#[test]
fn requests_without_data_are_bounded_too() {
    let mut rig = rig();
    for _ in 0..MAX_REQUESTS + 5 {
        rig.submit(0, (VIRTIO_BLK_T_FLUSH, 0, &[], 0));
    }
    assert_eq!(rig.issued().len(), MAX_REQUESTS);
    rig.done(0, DONE);
    assert_eq!(rig.issued_ids(), [MAX_REQUESTS as u64]);
}

#[test]
fn a_saved_disk_goes_on_as_the_original_does() {
    let mut original = rig();
    original.write(0, 0, &[1; 1024]);
    original.write(1, 1, &[2; 512]);
    original.read(2, 8, 1);
    original.issued();
    let bytes = canonical_bytes(&original.disk);
    let disk: Transport<Block> = from_canonical_bytes(&bytes).expect("what was saved");
    assert_eq!(disk, original.disk);
    let mut restored = rig();
    restored.disk = disk;
    let mut memory = vec![0; MEMORY_BYTES];
    let copied = original.memory.read_slice(&mut memory, GuestAddress(0));
    copied.expect("all of memory");
    let copied = restored.memory.write_slice(&memory, GuestAddress(0));
    copied.expect("all of memory");
    for rig in [&mut original, &mut restored] {
        rig.done(0, DONE);
        rig.done(2, DiskAnswer::Done(&[7; 512]));
        assert_eq!(rig.issued(), [(1, write_of(1, &[2; 512]))]);
        rig.done(1, DONE);
        assert_eq!(rig.data(2, 512), [7; 512]);
    }
    assert_eq!(original.disk, restored.disk);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u32),
    Write(u64, u32),
    Flush,
    Discard(u64, u32),
    /// Answers this one of what is under way.
    Done(usize),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..24u64, 1..6u32);
    prop_oneof![
        4 => range().prop_map(|(sector, sectors)| Step::Read(sector, sectors)),
        4 => range().prop_map(|(sector, sectors)| Step::Write(sector, sectors)),
        1 => Just(Step::Flush),
        1 => range().prop_map(|(sector, sectors)| Step::Discard(sector, sectors)),
        8 => any::<usize>().prop_map(Step::Done),
        1 => Just(Step::Reset),
    ]
}

fn take_step(rig: &mut Rig, step: &Step) {
    match step {
        Step::Read(sector, sectors) => rig.read(0, *sector, *sectors),
        Step::Write(sector, sectors) => rig.write(0, *sector, &vec![1; 512 * *sectors as usize]),
        Step::Flush => rig.submit(0, (VIRTIO_BLK_T_FLUSH, 0, &[], 0)),
        Step::Discard(sector, sectors) => {
            let given = segment(*sector, *sectors, 0);
            rig.submit(0, (VIRTIO_BLK_T_DISCARD, 0, &given, 0));
        }
        Step::Done(which) => {
            let under_way = rig.under_way();
            if !under_way.is_empty() {
                rig.done(under_way[which % under_way.len()], DONE);
            }
        }
        Step::Reset => rig.bring_up(),
    }
}

proptest! {
    /// The model is the definition: what is under way never conflicts, each is issued once, and of two that conflict the earlier one first.
    #[test]
    fn nothing_that_conflicts_is_under_way_at_once(steps in proptest::collection::vec(step(), 1..60)) {
        let mut rig = rig();
        let mut history: Vec<(u64, DiskOperation)> = Vec::new();
        for step in &steps {
            take_step(&mut rig, step);
            history.extend(rig.issued());
            let under_way: Vec<_> = rig.disk.device().requests().collect();
            for (index, one) in under_way.iter().enumerate() {
                prop_assert!(under_way[..index].iter().all(|other| !other.operation.conflicts_with(&one.operation)));
            }
        }
        while let Some(id) = rig.under_way().first() {
            rig.done(*id, DONE);
            history.extend(rig.issued());
        }
        for (index, (id, operation)) in history.iter().enumerate() {
            for (earlier_id, earlier) in &history[..index] {
                prop_assert!(earlier_id != id);
                prop_assert!(earlier_id < id || !earlier.conflicts_with(operation));
            }
        }
        // All that was asked for was issued and answered, unless the device was reset meanwhile.
        if !steps.iter().any(|step| matches!(step, Step::Reset)) {
            let asked = steps.iter().filter(|step| !matches!(step, Step::Done(_)));
            prop_assert_eq!(history.len(), asked.count());
            prop_assert_eq!(usize::from(rig.used_count()), history.len());
        }
    }
}
