use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_STATUS,
};
use vm_memory::{Bytes, GuestAddress};

use super::super::test_ring::{
    INDIRECT, MEMORY_BYTES, NEXT, Ring, VERSION_1, WRITE, guest_memory, negotiate, read, write,
};
use super::*;

struct Rig {
    card: Transport<Net>,
    memory: GuestMemory,
    receive: Ring,
    transmit: Ring,
}

fn rig() -> Rig {
    let (mut card, memory) = (Transport::new(Net::new([2, 0, 0, 0, 0, 1])), guest_memory());
    negotiate(&mut card, VERSION_1 | 1 << VIRTIO_NET_F_MAC, &memory);
    let (receive, transmit) = (Ring::new(0x1_0000), Ring::new(0x2_0000));
    receive.enable(&mut card, 0, &memory);
    transmit.enable(&mut card, 1, &memory);
    write(&mut card, VIRTIO_MMIO_STATUS, 15, &memory);
    Rig {
        card,
        memory,
        receive,
        transmit,
    }
}

impl Rig {
    fn notify(&mut self, queue: u32) -> Vec<Effect> {
        write(
            &mut self.card,
            VIRTIO_MMIO_QUEUE_NOTIFY,
            queue,
            &self.memory,
        )
    }

    fn needs_reset(&self) -> bool {
        read(&self.card, VIRTIO_MMIO_STATUS) & 0x40 != 0
    }

    /// Offers one chain on the transmit ring and notifies.
    fn send(&mut self, chain: &[(u64, u32, u16, u16)]) -> Vec<Effect> {
        for (index, descriptor) in chain.iter().enumerate() {
            self.transmit
                .descriptor(index as u16, *descriptor, &self.memory);
        }
        self.transmit.offer(0, &self.memory);
        self.notify(1)
    }
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|index| index as u8).collect()
}

#[test]
fn v5_1_6_2_a_frame_leaves_without_its_header() {
    let mut rig = rig();
    rig.memory
        .write_slice(&frame(60), GuestAddress(0x3_000C))
        .unwrap();
    let effects = rig.send(&[(0x3_0000, 72, 0, 0)]);
    assert_eq!(effects, [Effect::SendFrame(frame(60))]);
    assert_eq!(rig.transmit.used_index(&rig.memory), 1);
    assert_eq!(rig.transmit.used_entry(0, &rig.memory), (0, 0));
    assert!(rig.card.interrupt());
    write(&mut rig.card, VIRTIO_MMIO_INTERRUPT_ACK, 1, &rig.memory);
    assert!(!rig.card.interrupt());
}

#[test]
fn v2_7_4_1_the_driver_may_split_a_frame_anywhere() {
    let mut rig = rig();
    rig.memory
        .write_slice(&frame(100), GuestAddress(0x3_0000))
        .unwrap();
    let effects = rig.send(&[
        (0x3_0000, 5, NEXT, 1),
        (0, 0, NEXT, 2),
        (0x3_0005, 30, NEXT, 3),
        (0x3_0023, 65, 0, 0),
    ]);
    assert_eq!(effects, [Effect::SendFrame(frame(100)[12..].to_vec())]);
}

#[test]
fn frames_leave_in_order_and_later_stores_do_not_change_them() {
    let mut rig = rig();
    for index in 0..16u16 {
        let address = 0x3_0000 + 0x100 * u64::from(index);
        rig.memory
            .write_slice(&[index as u8; 72], GuestAddress(address))
            .unwrap();
        rig.transmit
            .descriptor(index, (address, 72, 0, 0), &rig.memory);
        rig.transmit.offer(index, &rig.memory);
    }
    let effects = rig.notify(1);
    rig.memory
        .write_slice(&[0xFF; 0x2000], GuestAddress(0x3_0000))
        .unwrap();
    let expected: Vec<_> = (0..16)
        .map(|index| Effect::SendFrame(vec![index; 60]))
        .collect();
    assert_eq!(effects, expected);
    assert_eq!(rig.transmit.used_index(&rig.memory), 16);
}

#[test]
fn v2_7_7_no_interrupt_for_a_driver_that_wants_none() {
    let mut rig = rig();
    rig.transmit.suppress_interrupts(&rig.memory);
    rig.send(&[(0x3_0000, 72, 0, 0)]);
    assert_eq!(rig.transmit.used_index(&rig.memory), 1);
    assert!(!rig.card.interrupt());
}

#[test]
fn a_notification_without_chains_does_nothing() {
    let mut rig = rig();
    let before = rig.card.clone();
    for queue in [0, 1, 2, u32::MAX] {
        assert_eq!(rig.notify(queue), []);
    }
    assert_eq!(rig.card, before);
}

#[test]
fn frames_too_short_or_too_long_are_dropped() {
    let limit = (HEADER_BYTES + FRAME_LIMIT_BYTES) as u32;
    for (length, sent) in [
        (0, 0),
        (25, 0),
        (26, 1),
        (limit, 1),
        (limit + 1, 0),
        (0x20_0000, 0),
    ] {
        let mut rig = rig();
        assert_eq!(
            rig.send(&[(0x10_0000, length, 0, 0)]).len(),
            sent,
            "{length} bytes"
        );
        assert_eq!(rig.transmit.used_index(&rig.memory), 1);
        assert!(!rig.needs_reset());
    }
}

#[test]
fn v2_7_broken_transmit_chains_need_a_reset() {
    let end = MEMORY_BYTES as u64;
    let broken: [&[(u64, u32, u16, u16)]; 9] = [
        // A loop, and a loop of empty buffers.
        &[(0x3_0000, 72, NEXT, 0)],
        &[(0, 0, NEXT, 1), (0, 0, NEXT, 0)],
        // A next descriptor outside the table.
        &[(0x3_0000, 72, NEXT, 16)],
        // Outside memory: wholly, in part, by overflow.
        &[(end, 72, 0, 0)],
        &[(end - 71, 72, 0, 0)],
        &[(u64::MAX - 10, 72, 0, 0)],
        // More than 2^32 bytes in total.
        &[(0, u32::MAX, NEXT, 1), (0, u32::MAX, 0, 0)],
        // Device-writable buffers.
        &[(0x3_0000, 72, WRITE, 0)],
        &[(0x3_0000, 72, NEXT, 1), (0x3_1000, 72, WRITE, 0)],
    ];
    for chain in broken {
        let mut rig = rig();
        assert_eq!(rig.send(chain), [], "{chain:x?}");
        assert!(rig.needs_reset(), "{chain:x?}");
        assert_eq!(rig.transmit.used_index(&rig.memory), 0);
        assert_eq!(rig.notify(1), []);
    }
}

#[test]
fn an_indirect_table_is_no_longer_than_the_queue() {
    let mut rig = rig();
    // 4,096 empty descriptors, each naming the next.
    for index in 0..4096u64 {
        rig.memory
            .write_obj(NEXT, GuestAddress(0x10_0000 + 16 * index + 12))
            .unwrap();
        rig.memory
            .write_obj(index as u16 + 1, GuestAddress(0x10_0000 + 16 * index + 14))
            .unwrap();
    }
    assert_eq!(rig.send(&[(0x10_0000, 65_536, INDIRECT, 0)]), []);
    assert!(rig.needs_reset());
}

#[test]
fn a_head_outside_the_table_needs_a_reset() {
    let mut rig = rig();
    rig.transmit.offer(16, &rig.memory);
    assert_eq!(rig.notify(1), []);
    assert!(rig.needs_reset());
}

#[test]
fn a_ring_that_overlaps_its_used_ring_ends() {
    let mut rig = rig();
    // The used ring's index is the available ring's: each used entry offers another chain.
    negotiate(&mut rig.card, VERSION_1, &rig.memory);
    rig.transmit.enable(&mut rig.card, 1, &rig.memory);
    let registers = [
        (0x44, 0),
        (0xA0, rig.transmit.base as u32 + 0x1000),
        (0x44, 1),
        (0x70, 15),
    ];
    for (register, value) in registers {
        write(&mut rig.card, register, value, &rig.memory);
    }
    rig.transmit.set_available_index(16, &rig.memory);
    assert!(rig.notify(1).len() <= 16);
}

#[test]
fn v5_1_6_4_a_received_frame_has_a_header_with_one_buffer() {
    let mut rig = rig();
    assert!(!rig.card.has_receive_room(&rig.memory));
    rig.receive
        .descriptor(3, (0x3_0000, 1530, WRITE, 0), &rig.memory);
    rig.receive.offer(3, &rig.memory);
    rig.notify(0);
    assert!(rig.card.has_receive_room(&rig.memory));
    rig.card.receive(&frame(60), &rig.memory);
    let mut bytes = [0xAA; 73];
    rig.memory
        .read_slice(&mut bytes, GuestAddress(0x3_0000))
        .unwrap();
    assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(bytes[12..72], frame(60));
    assert_eq!(rig.receive.used_entry(0, &rig.memory), (3, 72));
    assert!(rig.card.interrupt());
    assert!(!rig.card.has_receive_room(&rig.memory));
}

#[test]
fn a_received_frame_spreads_over_a_chain() {
    let mut rig = rig();
    rig.receive
        .descriptor(0, (0x3_0000, 12, WRITE | NEXT, 1), &rig.memory);
    rig.receive
        .descriptor(1, (0x3_1000, 1514, WRITE, 0), &rig.memory);
    rig.receive.offer(0, &rig.memory);
    assert!(rig.card.has_receive_room(&rig.memory));
    rig.card.receive(&frame(RECEIVE_FRAME_BYTES), &rig.memory);
    let mut bytes = vec![0; RECEIVE_FRAME_BYTES];
    rig.memory
        .read_slice(&mut bytes, GuestAddress(0x3_1000))
        .unwrap();
    assert_eq!(bytes, frame(RECEIVE_FRAME_BYTES));
    assert_eq!(rig.receive.used_entry(0, &rig.memory), (0, 1526));
}

#[test]
fn frames_without_room_are_dropped() {
    let mut rig = rig();
    let before = rig.card.clone();
    rig.card.receive(&frame(60), &rig.memory);
    assert_eq!(rig.card, before);
    rig.receive
        .descriptor(0, (0x3_0000, 71, WRITE, 0), &rig.memory);
    rig.receive.offer(0, &rig.memory);
    assert!(!rig.card.has_receive_room(&rig.memory));
    rig.card.receive(&frame(60), &rig.memory);
    rig.card.receive(&frame(FRAME_LIMIT_BYTES), &rig.memory);
    assert_eq!(rig.receive.used_index(&rig.memory), 0);
    rig.card.receive(&frame(59), &rig.memory);
    assert_eq!(rig.receive.used_index(&rig.memory), 1);
}

#[test]
fn v2_7_4_2_readable_receive_buffers_need_a_reset_at_once() {
    let mut rig = rig();
    rig.receive
        .descriptor(0, (0x3_0000, 1530, 0, 0), &rig.memory);
    rig.receive.offer(0, &rig.memory);
    rig.notify(0);
    assert!(rig.needs_reset());
}

#[test]
fn an_idle_card_drops_frames() {
    let memory = guest_memory();
    let mut card = Transport::new(Net::new([2, 0, 0, 0, 0, 1]));
    card.receive(&frame(60), &memory);
    assert!(!card.has_receive_room(&memory));
    assert!(!card.interrupt());
}
