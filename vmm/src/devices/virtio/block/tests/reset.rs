//! The driver resets the device, or breaks it, with requests under way.

use super::*;

#[test]
fn requests_under_way_are_abandoned_and_those_that_wait_vanish() {
    let mut rig = rig();
    rig.read(0, 0, 1);
    rig.write(1, 8, &[1; 512]);
    rig.write(2, 0, &[2; 512]);
    assert_eq!(rig.issued_ids(), [0, 1]);
    rig.bring_up();
    assert_eq!(
        rig.under_way(),
        [0, 1],
        "they are re-issued by who goes live"
    );
    assert_eq!(rig.disk.device().request(1), Some(&write_of(8, &[1; 512])));
    // The same sectors, from the new driver.
    rig.read(3, 8, 1);
    assert_eq!(rig.issued_ids(), NOBODY);
    rig.done(0, DiskAnswer::Done(&[7; 512]));
    assert_eq!((rig.data(0, 512), rig.status(0)), (vec![0; 512], NONE));
    assert_eq!((rig.used_count(), rig.issued_ids()), (0, vec![]));
    assert!(!rig.disk.interrupt());
    rig.done(1, DiskAnswer::Failed);
    assert_eq!((rig.used_count(), rig.status(1)), (0, NONE));
    // Names go on: the one that vanished had 2.
    assert_eq!(rig.issued(), [(3, read_of(8, 1))]);
    rig.done(3, DiskAnswer::Done(&[9; 512]));
    assert_eq!(
        (rig.data(3, 512), rig.last_used()),
        (vec![9; 512], (3, 513, 1))
    );
}

#[test]
fn abandoned_requests_count_against_the_bound() {
    let mut rig = rig();
    for _ in 0..65 {
        rig.read(0, 0, REQUEST_LIMIT_BYTES / 512);
    }
    rig.bring_up();
    rig.issued();
    rig.read(1, 0, 1);
    assert_eq!(rig.issued_ids(), NOBODY);
    rig.done(0, DiskAnswer::Failed);
    assert_eq!(rig.issued(), [(65, read_of(0, 1))]);
    assert_eq!(rig.used_count(), 0);
}

#[test]
fn answers_to_a_device_that_is_not_up_are_forgotten() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    rig.write(1, 0, &[2; 512]);
    rig.issued();
    write(&mut rig.disk, VIRTIO_MMIO_STATUS, 0, &rig.memory);
    rig.done(0, DiskAnswer::Done(&[]));
    assert_eq!((rig.under_way(), rig.issued_ids()), (vec![], vec![]));
    assert!(!rig.disk.interrupt());
    rig.bring_up();
    rig.write(2, 0, &[3; 512]);
    assert_eq!(rig.issued(), [(2, write_of(0, &[3; 512]))]);
}

#[test]
fn after_a_ring_fault_nothing_happens_until_a_reset() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    rig.write(1, 0, &[2; 512]);
    assert_eq!(rig.issued_ids(), [0]);
    rig.ring.set_available_index(100, &rig.memory);
    rig.notify();
    assert!(rig.needs_reset());
    rig.acknowledge();
    rig.done(0, DiskAnswer::Done(&[]));
    assert_eq!((rig.used_count(), rig.status(0)), (0, NONE));
    assert_eq!((rig.issued_ids(), rig.under_way()), (vec![], vec![]));
    assert!(!rig.disk.interrupt());
    rig.bring_up();
    rig.read(2, 0, 1);
    assert_eq!(rig.issued(), [(2, read_of(0, 1))]);
}

#[test]
fn a_chain_that_breaks_the_ring_leaves_those_before_it_under_way() {
    let mut rig = rig();
    rig.offer(0, (VIRTIO_BLK_T_OUT, 0, &[1; 512], 0));
    rig.ring.descriptor(4, (0x8_0000, 16, 0, 0), &rig.memory);
    rig.ring.offer(4, &rig.memory);
    rig.notify();
    assert!(rig.needs_reset());
    assert_eq!(rig.issued_ids(), [0]);
    assert_eq!(rig.under_way(), [0]);
}
