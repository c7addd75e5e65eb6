use virtio_bindings::virtio_mmio::*;

use super::super::net::Net;
use super::super::test_ring::{Ring, VERSION_1, guest_memory, negotiate, read, write};
use super::*;

const MAC: u64 = 1 << 5;

fn card() -> Transport<Net> {
    Transport::new(Net::new([0x52, 0x54, 0, 1, 2, 3]))
}

fn status(card: &Transport<Net>) -> u32 {
    read(card, VIRTIO_MMIO_STATUS)
}

#[test]
fn v4_2_2_identification() {
    let card = card();
    assert_eq!(read(&card, VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(read(&card, VIRTIO_MMIO_VERSION), 2);
    assert_eq!(read(&card, VIRTIO_MMIO_DEVICE_ID), 1);
    assert_eq!(read(&card, VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
    assert_eq!(read(&card, VIRTIO_MMIO_CONFIG_GENERATION), 0);
}

#[test]
fn v4_2_2_2_only_aligned_words_reach_registers() {
    let (mut card, memory) = (card(), guest_memory());
    for (offset, length) in [(0u64, 1usize), (0, 2), (0, 8), (1, 4), (2, 4)] {
        let mut data = vec![0xAA; length];
        card.read(offset, &mut data);
        assert!(data.iter().all(|byte| *byte == 0));
    }
    card.write(VIRTIO_MMIO_STATUS.into(), &[1], &memory, &mut Vec::new());
    card.write(
        VIRTIO_MMIO_STATUS.into(),
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &memory,
        &mut Vec::new(),
    );
    assert_eq!(status(&card), 0);
}

#[test]
fn v4_2_2_2_configuration_takes_any_width() {
    let card = card();
    let config = u64::from(VIRTIO_MMIO_CONFIG);
    let mut data = [0; 8];
    card.read(config, &mut data);
    assert_eq!(data, [0x52, 0x54, 0, 1, 2, 3, 1, 0]);
    let mut data = [0xFF; 2];
    card.read(config + 4, &mut data);
    assert_eq!(data, [2, 3]);
    let mut data = [0xFF; 4];
    card.read(config + 6, &mut data);
    assert_eq!(data, [1, 0, 0, 0]);
    card.read(config + 0xE00, &mut data);
    assert_eq!(data, [0; 4]);
}

#[test]
fn v2_2_features_come_in_halves() {
    let (mut card, memory) = (card(), guest_memory());
    assert_eq!(
        u64::from(read(&card, VIRTIO_MMIO_DEVICE_FEATURES)),
        MAC | 1 << 16
    );
    write(&mut card, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_DEVICE_FEATURES), 1);
    write(&mut card, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

#[test]
fn v3_1_1_initialisation() {
    let (mut card, memory) = (card(), guest_memory());
    negotiate(&mut card, VERSION_1 | MAC, &memory);
    assert_eq!(status(&card), 11);
    Ring::new(0x1_0000).enable(&mut card, 0, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 15, &memory);
    assert_eq!(status(&card), 15);
    assert!(card.live_queue(0).is_some());
    assert!(card.live_queue(1).is_none());
}

#[test]
fn v6_1_features_without_version_1_or_not_offered_are_refused() {
    let memory = guest_memory();
    for features in [0, MAC, VERSION_1 | 1 << 28, VERSION_1 | 1 << 63] {
        let mut card = card();
        negotiate(&mut card, features, &memory);
        assert_eq!(status(&card), 3);
        write(&mut card, VIRTIO_MMIO_STATUS, 15, &memory);
        assert_eq!(status(&card), 3);
    }
}

#[test]
fn v2_1_steps_cannot_be_skipped_nor_bits_taken_back() {
    let (mut card, memory) = (card(), guest_memory());
    write(&mut card, VIRTIO_MMIO_STATUS, 4, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 2, &memory);
    assert_eq!(status(&card), 0);
    write(&mut card, VIRTIO_MMIO_STATUS, 3, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 1, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 64, &memory);
    assert_eq!(status(&card), 3);
    write(&mut card, VIRTIO_MMIO_STATUS, 128, &memory);
    assert_eq!(status(&card), 0x83);
}

#[test]
fn v2_2_features_are_fixed_by_features_ok() {
    let (mut card, memory) = (card(), guest_memory());
    negotiate(&mut card, VERSION_1, &memory);
    write(&mut card, VIRTIO_MMIO_DRIVER_FEATURES, 0, &memory);
    assert_eq!(card.driver_features, VERSION_1);
}

#[test]
fn v4_2_3_2_queue_set_up() {
    let (mut card, memory) = (card(), guest_memory());
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
    // Not before FEATURES_OK.
    write(&mut card, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1_0000, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_READY, 1, &memory);
    assert_eq!(card, self::card());
    negotiate(&mut card, VERSION_1, &memory);
    Ring::new(0x1_0000).enable(&mut card, 1, &memory);
    // A ready queue keeps its addresses.
    let before = card.clone();
    write(&mut card, VIRTIO_MMIO_QUEUE_USED_LOW, 0x10, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_NUM, 8, &memory);
    assert_eq!(card, before);
    write(&mut card, VIRTIO_MMIO_QUEUE_READY, 0, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_READY), 0);
    // A queue that does not exist.
    write(&mut card, VIRTIO_MMIO_QUEUE_SEL, 2, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_READY, 1, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn v2_7_a_queue_outside_memory_does_not_become_ready() {
    let (mut card, memory) = (card(), guest_memory());
    negotiate(&mut card, VERSION_1, &memory);
    // Rings at address 0, then beyond the end.
    write(&mut card, VIRTIO_MMIO_QUEUE_READY, 1, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_READY), 0);
    write(&mut card, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1000, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_USED_HIGH, u32::MAX, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_READY, 1, &memory);
    assert_eq!(read(&card, VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn v2_1_2_a_ring_fault_needs_a_reset() {
    let (mut card, memory) = (card(), guest_memory());
    negotiate(&mut card, VERSION_1, &memory);
    let ring = Ring::new(0x1_0000);
    ring.enable(&mut card, 1, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 15, &memory);
    ring.set_available_index(17, &memory);
    write(&mut card, VIRTIO_MMIO_QUEUE_NOTIFY, 1, &memory);
    assert_eq!(status(&card), 0x4F);
    assert_eq!(read(&card, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    assert!(card.interrupt());
    assert!(card.live_queue(1).is_none());
    write(&mut card, VIRTIO_MMIO_INTERRUPT_ACK, 2, &memory);
    assert!(!card.interrupt());
    write(&mut card, VIRTIO_MMIO_STATUS, 0, &memory);
    assert_eq!(card, self::card());
}

#[test]
fn snapshots_restore_exactly() {
    let (mut card, memory) = (card(), guest_memory());
    negotiate(&mut card, VERSION_1, &memory);
    Ring::new(0x1_0000).enable(&mut card, 1, &memory);
    let text = serde_json::to_string(&card).unwrap();
    let restored: Transport<Net> = serde_json::from_str(&text).unwrap();
    assert_eq!(restored, card);
}
