use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_STATUS};
use vm_memory::{Bytes, GuestAddress};

use super::super::test_ring::{Ring, VERSION_1, WRITE, guest_memory, negotiate, read, write};
use super::*;

fn rig() -> (Transport<Rng>, GuestMemory, Ring) {
    let (mut rng, memory, ring) = (
        Transport::new(Rng::default()),
        guest_memory(),
        Ring::new(0x1_0000),
    );
    negotiate(&mut rng, VERSION_1, &memory);
    ring.enable(&mut rng, 0, &memory);
    write(&mut rng, VIRTIO_MMIO_STATUS, 15, &memory);
    (rng, memory, ring)
}

#[test]
fn v5_4_6_requests_wait_for_their_bytes() {
    let (mut rng, memory, mut ring) = rig();
    assert_eq!(rng.requested_bytes(&memory), None);
    ring.descriptor(0, (0x3_0000, 64, WRITE, 0), &memory);
    ring.descriptor(1, (0x3_1000, 0x1_0000, WRITE, 0), &memory);
    ring.offer(0, &memory);
    ring.offer(1, &memory);
    write(&mut rng, VIRTIO_MMIO_QUEUE_NOTIFY, 0, &memory);
    assert_eq!(ring.used_index(&memory), 0);
    assert_eq!(rng.requested_bytes(&memory), Some(64));
    rng.answer(&[7; 64], &memory);
    assert_eq!(ring.used_entry(0, &memory), (0, 64));
    assert!(rng.interrupt());
    assert_eq!(rng.requested_bytes(&memory), Some(ENTROPY_LIMIT_BYTES));
    // More than asked for is cut.
    rng.answer(&[8; 5000], &memory);
    assert_eq!(ring.used_entry(1, &memory), (1, 4096));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x3_1FFF)).unwrap(), 8);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x3_2000)).unwrap(), 0);
    assert_eq!(rng.requested_bytes(&memory), None);
}

#[test]
fn answers_without_a_request_or_without_bytes_do_nothing() {
    let (mut rng, memory, mut ring) = rig();
    rng.answer(&[1], &memory);
    ring.descriptor(0, (0x3_0000, 64, WRITE, 0), &memory);
    ring.offer(0, &memory);
    rng.answer(&[], &memory);
    assert_eq!(ring.used_index(&memory), 0);
    assert!(!rng.interrupt());
}

#[test]
fn requests_without_room_or_readable_need_a_reset() {
    for descriptor in [(0x3_0000, 0, WRITE, 0), (0x3_0000, 64, 0, 0)] {
        let (mut rng, memory, mut ring) = rig();
        ring.descriptor(0, descriptor, &memory);
        ring.offer(0, &memory);
        assert_eq!(rng.requested_bytes(&memory), None);
        write(&mut rng, VIRTIO_MMIO_QUEUE_NOTIFY, 0, &memory);
        assert_eq!(read(&rng, VIRTIO_MMIO_STATUS), 0x4F);
    }
}
