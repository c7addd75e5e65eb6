//! Chains of any shape, good and bad.

use super::*;

const HEADER: u64 = 0x8_0000;
const DATA: u64 = 0x9_0000;
const TABLE: u64 = 0xA_0000;

/// Offers a chain at descriptor 0 and notifies; the header there asks for a read of sector 5.
fn submit(rig: &mut Rig, chain: &[(u64, u32, u16, u16)]) {
    let mut header = [0; 16];
    header[8] = 5;
    let written = rig.memory.write_slice(&header, GuestAddress(HEADER));
    written.expect("memory");
    for (index, descriptor) in (0..).zip(chain) {
        rig.ring.descriptor(index, *descriptor, &rig.memory);
    }
    rig.ring.offer(0, &rig.memory);
    rig.notify();
}

/// The same in a table of its own.
fn write_table(rig: &Rig, chain: &[(u64, u32, u16, u16)]) {
    let table = Ring::new(TABLE);
    for (index, descriptor) in (0..).zip(chain) {
        table.descriptor(index, *descriptor, &rig.memory);
    }
}

#[test]
fn v2_7_4_1_the_driver_may_cut_a_request_anywhere() {
    let mut rig = rig();
    let chain = [
        (HEADER, 3, NEXT, 1),
        (HEADER + 3, 0, NEXT, 2),
        (HEADER + 3, 13, NEXT, 3),
        (DATA + 1000, 100, NEXT | WRITE, 4),
        // The rest of the data, and the status.
        (DATA, 413, WRITE, 0),
    ];
    submit(&mut rig, &chain);
    assert_eq!(rig.issued(), [(0, read_of(5, 1))]);
    let bytes: Vec<u8> = (0..512u32).map(|byte| byte as u8 ^ 0x55).collect();
    rig.done(0, DiskAnswer::Done(&bytes));
    let mut read = vec![0xFF; 513];
    for (part, address) in [(0..100, DATA + 1000), (100..513, DATA)] {
        let read = rig
            .memory
            .read_slice(&mut read[part], GuestAddress(address));
        read.expect("memory");
    }
    assert_eq!(read, [&bytes[..], &[0]].concat());
    assert_eq!(rig.ring.used_entry(0, &rig.memory), (0, 513));
}

#[test]
fn v2_7_5_3_indirect_tables_are_followed() {
    let mut rig = rig();
    write_table(
        &rig,
        &[
            (HEADER, 16, NEXT, 1),
            (DATA, 512, NEXT | WRITE, 2),
            (DATA + 512, 1, WRITE, 0),
        ],
    );
    submit(&mut rig, &[(TABLE, 48, INDIRECT, 0)]);
    assert_eq!(rig.issued(), [(0, read_of(5, 1))]);
    rig.done(0, DiskAnswer::Done(&[6; 512]));
    let mut read = [0; 513];
    rig.memory
        .read_slice(&mut read, GuestAddress(DATA))
        .unwrap();
    assert_eq!(read, *[[6; 512].as_slice(), &[0]].concat());
}

/// A table of `count` descriptors: header, empty ones, status.
fn long_table(count: u16) -> Vec<(u64, u32, u16, u16)> {
    let mut table: Vec<_> = (1..count)
        .map(|next| (DATA, 0, NEXT | WRITE, next))
        .collect();
    table[0] = (HEADER, 16, NEXT, 1);
    table.push((DATA, 513, WRITE, 0));
    table
}

#[test]
fn v2_7_5_3_1_an_indirect_table_is_no_longer_than_the_queue() {
    for (count, taken) in [(16, 1), (17, 0), (18, 0), (200, 0)] {
        let mut rig = rig();
        write_table(&rig, &long_table(count));
        submit(&mut rig, &[(TABLE, 16 * u32::from(count), INDIRECT, 0)]);
        assert_eq!(rig.issued().len(), taken, "{count} descriptors");
        assert_eq!(rig.needs_reset(), taken == 0);
    }
}

#[test]
fn broken_chains_need_a_reset() {
    let end = crate::devices::virtio::test_ring::MEMORY_BYTES as u64;
    let header = (HEADER, 16, NEXT, 1);
    let broken: &[&[(u64, u32, u16, u16)]] = &[
        // No room for the status: nothing to write, nothing but empty buffers.
        &[(HEADER, 16, 0, 0)],
        &[header, (DATA, 0, WRITE, 0)],
        // §2.7.4.2: what is read comes first.
        &[(DATA, 1, NEXT | WRITE, 1), (HEADER, 16, 0, 0)],
        &[header, (DATA, 513, NEXT | WRITE, 2), (DATA, 1, 0, 0)],
        // Outside memory.
        &[header, (end - 512, 513, WRITE, 0)],
        &[(end - 1, 16, NEXT, 1), (DATA, 513, WRITE, 0)],
        // A loop, and a table in a table.
        &[header, (DATA, 0, NEXT | WRITE, 0)],
        &[(TABLE, 32, INDIRECT, 0)],
        // Tables of no descriptor, of half of one, outside memory.
        &[(TABLE, 0, INDIRECT, 0)],
        &[(TABLE, 24, INDIRECT, 0)],
        &[(end - 8, 16, INDIRECT, 0)],
    ];
    for chain in broken {
        let mut rig = rig();
        write_table(&rig, &[header, (TABLE, 16, INDIRECT, 0)]);
        submit(&mut rig, chain);
        assert_eq!(rig.issued(), [], "{chain:x?}");
        assert!(rig.needs_reset(), "{chain:x?}");
        assert_eq!(rig.used_count(), 0);
    }
}

#[test]
fn half_a_header_is_malformed() {
    let mut rig = rig();
    submit(&mut rig, &[(HEADER, 15, NEXT, 1), (DATA, 513, WRITE, 0)]);
    assert_eq!(rig.ring.used_entry(0, &rig.memory), (0, 0));
    let status: u8 = rig.memory.read_obj(GuestAddress(DATA + 512)).unwrap();
    assert_eq!((status, rig.issued()), (1, vec![]));
    assert!(!rig.needs_reset());
}

#[test]
fn v2_7_7_no_interrupt_for_a_driver_that_wants_none() {
    let mut rig = rig();
    rig.ring.suppress_interrupts(&rig.memory);
    rig.read(0, 0, 1);
    rig.done(0, DiskAnswer::Done(&[0; 512]));
    rig.submit(1, (VIRTIO_BLK_T_GET_ID, 0, &[], 20));
    assert_eq!(rig.used_count(), 2);
    assert!(!rig.disk.interrupt());
}

#[test]
fn a_notification_without_chains_does_nothing() {
    let mut rig = rig();
    let before = rig.disk.clone();
    for queue in [0, 1, u32::MAX] {
        let effects = write(&mut rig.disk, VIRTIO_MMIO_QUEUE_NOTIFY, queue, &rig.memory);
        assert_eq!(effects, []);
    }
    assert_eq!(rig.disk, before);
}
