//! One request at a time.

use super::*;

fn config_space(rig: &Rig) -> Vec<u8> {
    let mut data = vec![0xFF; 60];
    rig.disk.read(VIRTIO_MMIO_CONFIG.into(), &mut data);
    data
}

#[test]
fn v5_2_4_configuration() {
    let space = config_space(&rig());
    let word = |offset: usize| u32::from_le_bytes(space[offset..offset + 4].try_into().unwrap());
    assert_eq!((word(0), word(4)), (16_384, 0), "capacity");
    assert_eq!((word(8), word(12)), (4096, 126), "segments");
    assert_eq!(word(20), 512, "block size");
    assert_eq!((word(36), word(40), word(44)), (65_536, 1, 8), "discard");
    assert_eq!((word(48), word(52)), (65_536, 1), "write zeroes");
    assert_eq!(space[56..], [1, 0, 0, 0], "may unmap");
    let others = [16, 24, 28, 32].map(word);
    assert_eq!(others, [0; 4], "not offered");
}

#[test]
fn v5_2_3_features() {
    let bits = |rig: &Rig| {
        let features = rig.disk.device().features();
        let bits = (0..64).filter(|bit| features & 1 << bit != 0);
        bits.collect::<Vec<u32>>()
    };
    assert_eq!(bits(&rig()), [1, 2, 6, 9, 13, 14, 28]);
    let read_only = rig_with(BlockConfig {
        read_only: true,
        ..config()
    });
    assert_eq!(bits(&read_only), [1, 2, 5, 6, 9, 28]);
    assert_eq!(config_space(&read_only)[36..], [0; 24]);
}

#[test]
fn v5_2_6_a_read_comes_back_through_a_buffer_at_its_answer() {
    let mut rig = rig();
    rig.read(2, 5, 3);
    assert_eq!(rig.issued(), [(0, read_of(5, 3))]);
    assert_eq!((rig.status(2), rig.used_count()), (NONE, 0));
    assert!(!rig.disk.interrupt());
    assert_eq!(rig.disk.device().request(0), Some(&read_of(5, 3)));
    let bytes: Vec<u8> = (0..1536u32).map(|byte| byte as u8).collect();
    rig.done(0, DiskAnswer::Done(&bytes));
    assert_eq!(rig.data(2, 1537), [&bytes[..], &[0]].concat());
    assert_eq!(rig.status(2), 0);
    assert_eq!(rig.last_used(), (2, 1537, 1));
    assert!(rig.disk.interrupt());
    assert_eq!(rig.under_way(), NOBODY);
}

#[test]
fn v5_2_6_what_changes_the_disk() {
    let cases: [(u32, u64, Vec<u8>, DiskOperation); 5] = [
        (VIRTIO_BLK_T_OUT, 7, vec![9; 1024], write_of(7, &[9; 1024])),
        (VIRTIO_BLK_T_FLUSH, 0, vec![], DiskOperation::Flush),
        (
            VIRTIO_BLK_T_DISCARD,
            0,
            segment(8, 16, 0),
            DiskOperation::Discard {
                sector: 8,
                sectors: 16,
            },
        ),
        (
            VIRTIO_BLK_T_WRITE_ZEROES,
            0,
            segment(3, 65_536 / 8, 0),
            DiskOperation::WriteZeroes {
                sector: 3,
                sectors: 65_536 / 8,
                unmap: false,
            },
        ),
        (
            VIRTIO_BLK_T_WRITE_ZEROES,
            0,
            segment(SECTORS - 1, 1, 1),
            DiskOperation::WriteZeroes {
                sector: SECTORS - 1,
                sectors: 1,
                unmap: true,
            },
        ),
    ];
    for (kind, sector, given, operation) in cases {
        let mut rig = rig();
        rig.submit(0, (kind, sector, &given, 0));
        assert_eq!(rig.issued(), [(0, operation.clone())]);
        assert_eq!((rig.status(0), rig.used_count()), (NONE, 0));
        rig.done(0, DiskAnswer::Done(&[]));
        assert_eq!(rig.status(0), 0, "{operation:?}");
        assert_eq!(rig.last_used(), (0, 1, 1));
    }
}

#[test]
fn what_the_disk_cannot_do_the_guest_is_told() {
    let answers = [
        (DiskAnswer::Failed, 1),
        (DiskAnswer::Unsupported, 2),
        // Less than was asked for, and more.
        (DiskAnswer::Done(&[7; 511]), 1),
        (DiskAnswer::Done(&[7; 513]), 1),
        (DiskAnswer::Done(&[]), 1),
    ];
    for (answer, status) in answers {
        let mut rig = rig();
        rig.read(0, 0, 1);
        rig.done(0, answer);
        assert_eq!(rig.status(0), status, "{answer:?}");
        assert_eq!(rig.data(0, 512), [0; 512], "nothing was read");
        // §2.7.8.2: nothing was written at the beginning.
        assert_eq!(rig.last_used(), (0, 0, 1));
    }
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    rig.done(0, DiskAnswer::Done(&[1]));
    assert_eq!(rig.status(0), 1, "a write that read something");
}

#[test]
fn v5_2_6_the_id_is_padded_and_told_at_once() {
    for id in ["root", "", "exactly-twenty-bytes"] {
        let mut rig = rig_with(BlockConfig {
            id: id.to_owned(),
            ..config()
        });
        rig.submit(1, (VIRTIO_BLK_T_GET_ID, 0, &[], 20));
        let mut padded = id.as_bytes().to_vec();
        padded.resize(20, 0);
        assert_eq!(rig.data(1, 20), padded);
        assert_eq!((rig.status(1), rig.last_used()), (0, (1, 21, 1)));
        assert!(rig.disk.interrupt());
        assert_eq!(rig.issued(), []);
    }
}

#[test]
fn malformed_requests_are_answered_at_once() {
    let (limit, sector) = (REQUEST_LIMIT_BYTES, [0; 512]);
    let large = vec![0; limit as usize + 512];
    let segments = [segment(0, 8, 0), segment(8, 8, 0)].concat();
    let clear = |sector, sectors, flags| segment(sector, sectors, flags);
    let cases: &[(Asked<'_>, u8)] = &[
        // Too long, misaligned, of nothing, beyond the end, by overflow.
        ((VIRTIO_BLK_T_IN, 0, &[], limit + 512), 1),
        ((VIRTIO_BLK_T_IN, 0, &[], 100), 1),
        ((VIRTIO_BLK_T_IN, 0, &[], 0), 1),
        ((VIRTIO_BLK_T_IN, SECTORS, &[], 512), 1),
        ((VIRTIO_BLK_T_IN, SECTORS - 1, &[], 1024), 1),
        ((VIRTIO_BLK_T_IN, u64::MAX, &[], 512), 1),
        ((VIRTIO_BLK_T_IN, 0, &sector, 512), 1),
        ((VIRTIO_BLK_T_OUT, 0, &large, 0), 1),
        ((VIRTIO_BLK_T_OUT, 0, &sector[1..], 0), 1),
        ((VIRTIO_BLK_T_OUT, 0, &[], 0), 1),
        ((VIRTIO_BLK_T_OUT, SECTORS, &sector, 0), 1),
        ((VIRTIO_BLK_T_OUT, u64::MAX, &sector, 0), 1),
        ((VIRTIO_BLK_T_OUT, 0, &sector, 512), 1),
        ((VIRTIO_BLK_T_FLUSH, 0, &sector, 0), 1),
        ((VIRTIO_BLK_T_FLUSH, 0, &[], 1), 1),
        ((VIRTIO_BLK_T_GET_ID, 0, &[], 19), 1),
        ((VIRTIO_BLK_T_GET_ID, 0, &[], 21), 1),
        ((VIRTIO_BLK_T_GET_ID, 0, &[1], 20), 1),
        // Segments: two, half a one, none.
        ((VIRTIO_BLK_T_DISCARD, 0, &segments, 0), 1),
        ((VIRTIO_BLK_T_DISCARD, 0, &segments[..8], 0), 1),
        ((VIRTIO_BLK_T_WRITE_ZEROES, 0, &[], 0), 1),
        ((VIRTIO_BLK_T_WRITE_ZEROES, 0, &segments[..16], 1), 1),
        ((VIRTIO_BLK_T_DISCARD, 0, &clear(0, 0, 0), 0), 1),
        ((VIRTIO_BLK_T_DISCARD, 0, &clear(SECTORS, 1, 0), 0), 1),
        ((VIRTIO_BLK_T_DISCARD, 0, &clear(u64::MAX, 1, 0), 0), 1),
        ((VIRTIO_BLK_T_WRITE_ZEROES, 0, &clear(0, u32::MAX, 0), 0), 1),
        // §5.2.6.2: flags that are not known; unmapping a discard.
        ((VIRTIO_BLK_T_DISCARD, 0, &clear(0, 8, 1), 0), 2),
        ((VIRTIO_BLK_T_DISCARD, 0, &clear(0, 8, 2), 0), 2),
        ((VIRTIO_BLK_T_WRITE_ZEROES, 0, &clear(0, 8, 3), 0), 2),
        // Types that are not known.
        ((VIRTIO_BLK_T_SCSI_CMD, 0, &[], 0), 2),
        ((VIRTIO_BLK_T_SECURE_ERASE, 0, &segments[..16], 0), 2),
        ((u32::MAX, 0, &sector, 512), 2),
    ];
    for (asked, status) in cases {
        let mut rig = rig();
        rig.submit(0, *asked);
        assert_eq!(rig.issued(), [], "{asked:x?}");
        assert_eq!(rig.status(0), *status, "{asked:x?}");
        assert_eq!(rig.used_count(), 1);
        assert!(!rig.needs_reset());
        // The device works on, and the name was not used up.
        rig.read(1, 0, 1);
        assert_eq!(rig.issued_ids(), [0]);
    }
}

#[test]
fn clearing_more_than_the_limit_is_malformed() {
    let mut rig = rig_with(BlockConfig {
        sectors: 1 << 20,
        ..config()
    });
    for (sectors, status) in [(CLEAR_LIMIT_SECTORS, NONE), (CLEAR_LIMIT_SECTORS + 1, 1)] {
        let given = segment(0, sectors, 0);
        rig.submit(0, (VIRTIO_BLK_T_DISCARD, 0, &given, 0));
        assert_eq!(rig.status(0), status);
    }
    assert_eq!(rig.issued_ids(), [0]);
}

#[test]
fn the_largest_request_is_taken() {
    let mut rig = rig();
    let data: Vec<u8> = (0..REQUEST_LIMIT_BYTES).map(|byte| byte as u8).collect();
    rig.write(0, 0, &data);
    rig.read(1, 8192, REQUEST_LIMIT_BYTES / 512);
    let issued = rig.issued();
    assert_eq!(issued[0], (0, write_of(0, &data)));
    assert_eq!(issued[1], (1, read_of(8192, REQUEST_LIMIT_BYTES / 512)));
    rig.done(1, DiskAnswer::Done(&data));
    assert_eq!(rig.data(1, data.len()), data);
}

#[test]
fn v5_2_6_2_a_read_only_disk_is_not_changed() {
    let mut rig = rig_with(BlockConfig {
        read_only: true,
        ..config()
    });
    let given = segment(0, 8, 0);
    let cases: [(Asked<'_>, u8); 4] = [
        ((VIRTIO_BLK_T_OUT, 0, &[0; 512], 0), 1),
        ((VIRTIO_BLK_T_DISCARD, 0, &given, 0), 1),
        ((VIRTIO_BLK_T_WRITE_ZEROES, 0, &given, 0), 1),
        // There is nothing that could be lost.
        ((VIRTIO_BLK_T_FLUSH, 0, &[], 0), 0),
    ];
    for (asked, status) in cases {
        rig.submit(0, asked);
        assert_eq!((rig.status(0), rig.issued()), (status, vec![]), "{asked:?}");
    }
    rig.read(0, 0, 1);
    assert_eq!(rig.issued(), [(0, read_of(0, 1))]);
}

#[test]
fn what_is_written_is_what_was_there_at_the_notification() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    // This one waits, and is not read again when it is issued.
    rig.write(1, 0, &[2; 512]);
    for slot in [0, 1] {
        let [_, _, data] = Rig::places(slot);
        rig.memory
            .write_slice(&[0xFF; 512], GuestAddress(data))
            .unwrap();
    }
    assert_eq!(rig.issued(), [(0, write_of(0, &[1; 512]))]);
    rig.done(0, DiskAnswer::Done(&[]));
    assert_eq!(rig.issued(), [(1, write_of(0, &[2; 512]))]);
}

#[test]
fn names_that_are_not_under_way_are_ignored() {
    let mut rig = rig();
    rig.write(0, 0, &[1; 512]);
    rig.write(1, 0, &[2; 512]);
    rig.issued();
    let before = rig.disk.clone();
    // Waiting, not there yet, never.
    for unknown in [1, 2, u64::MAX] {
        assert_eq!(rig.disk.device().request(unknown), None);
        rig.done(unknown, DiskAnswer::Done(&[]));
        assert_eq!(rig.disk, before);
    }
    rig.done(0, DiskAnswer::Done(&[]));
    assert_eq!((rig.used_count(), rig.issued_ids()), (1, vec![1]));
    rig.done(0, DiskAnswer::Done(&[]));
    assert_eq!((rig.used_count(), rig.issued_ids()), (1, vec![]), "twice");
}
