//! The disk with a driver that offers what it is told to.

mod requests;
mod reset;
mod ring;
mod waiting;

use virtio_bindings::virtio_blk::*;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_STATUS,
};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::virtio::test_ring::{
    INDIRECT, NEXT, Ring, VERSION_1, WRITE, guest_memory, negotiate, read, write,
};

/// Sectors of the disk: 8 MiB.
const SECTORS: u64 = 16_384;
/// Names of no request.
const NOBODY: [u64; 0] = [];
/// What a status byte holds before there is an answer.
const NONE: u8 = 0xEE;

/// A disk and its driver. The driver has four slots for requests, each with descriptors and memory of its own.
struct Rig {
    disk: Transport<Block>,
    memory: GuestMemory,
    ring: Ring,
    effects: Vec<Effect>,
}

fn config() -> BlockConfig {
    BlockConfig {
        sectors: SECTORS,
        read_only: false,
        id: "root".to_owned(),
    }
}

fn rig() -> Rig {
    rig_with(config())
}

fn rig_with(config: BlockConfig) -> Rig {
    let mut rig = Rig {
        disk: Transport::new(Block::new(1, config)),
        memory: guest_memory(),
        ring: Ring::new(0x1_0000),
        effects: Vec::new(),
    };
    rig.bring_up();
    rig
}

/// What a slot asks for: type, sector, bytes given, room for bytes.
type Asked<'a> = (u32, u64, &'a [u8], u32);

impl Rig {
    fn bring_up(&mut self) {
        negotiate(&mut self.disk, VERSION_1, &self.memory);
        self.ring = Ring::new(0x1_0000);
        self.ring.set_available_index(0, &self.memory);
        self.memory
            .write_obj(0u16, GuestAddress(0x1_2002))
            .expect("the used ring's index");
        self.ring.enable(&mut self.disk, 0, &self.memory);
        write(&mut self.disk, VIRTIO_MMIO_STATUS, 15, &self.memory);
    }

    /// Where a slot's header, status and data lie.
    fn places(slot: u16) -> [u64; 3] {
        let base = 0x8_0000 + 0xC_0000 * u64::from(slot);
        [base, base + 0x800, base + 0x1000]
    }

    /// Offers a request, without a notification.
    fn offer(&mut self, slot: u16, (kind, sector, given, room): Asked<'_>) {
        let [header, status, data] = Self::places(slot);
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(sector.to_le_bytes());
        for (address, bytes) in [(header, &bytes[..]), (status, &[NONE]), (data, given)] {
            self.memory
                .write_slice(bytes, GuestAddress(address))
                .expect("memory of the slot");
        }
        let first = 4 * slot;
        let descriptors = [
            (header, 16, NEXT, first + 1),
            (data, given.len() as u32, NEXT, first + 2),
            (data, room, NEXT | WRITE, first + 3),
            (status, 1, WRITE, 0),
        ];
        for (index, descriptor) in (first..).zip(descriptors) {
            self.ring.descriptor(index, descriptor, &self.memory);
        }
        self.ring.offer(first, &self.memory);
    }

    fn notify(&mut self) {
        let effects = write(&mut self.disk, VIRTIO_MMIO_QUEUE_NOTIFY, 0, &self.memory);
        self.effects.extend(effects);
    }

    fn submit(&mut self, slot: u16, asked: Asked<'_>) {
        self.offer(slot, asked);
        self.notify();
    }

    fn read(&mut self, slot: u16, sector: u64, sectors: u32) {
        self.submit(slot, (VIRTIO_BLK_T_IN, sector, &[], 512 * sectors));
    }

    fn write(&mut self, slot: u16, sector: u64, data: &[u8]) {
        self.submit(slot, (VIRTIO_BLK_T_OUT, sector, data, 0));
    }

    fn done(&mut self, request: u64, answer: DiskAnswer<'_>) {
        self.disk
            .done(request, answer, &self.memory, &mut self.effects);
    }

    /// What was issued since the last time.
    fn issued(&mut self) -> Vec<(u64, DiskOperation)> {
        let effects = std::mem::take(&mut self.effects);
        let requests = effects.into_iter().map(|effect| match effect {
            Effect::Disk(request) => {
                assert_eq!(request.disk, 1);
                (request.id, request.operation)
            }
            other => panic!("{other:?}"),
        });
        requests.collect()
    }

    fn issued_ids(&mut self) -> Vec<u64> {
        self.issued().into_iter().map(|(id, _)| id).collect()
    }

    /// What is in the table and issued.
    fn under_way(&self) -> Vec<u64> {
        let requests = self.disk.device().requests();
        requests.map(|request| request.id).collect()
    }

    fn status(&self, slot: u16) -> u8 {
        let [_, status, _] = Self::places(slot);
        self.memory.read_obj(GuestAddress(status)).expect("status")
    }

    fn data(&self, slot: u16, bytes: usize) -> Vec<u8> {
        let [_, _, data] = Self::places(slot);
        let mut read = vec![0; bytes];
        self.memory
            .read_slice(&mut read, GuestAddress(data))
            .expect("data");
        read
    }

    /// The last used entry: the slot and the length; how many there are.
    fn last_used(&self) -> (u16, u32, u16) {
        let count = self.ring.used_index(&self.memory);
        let (head, length) = self.ring.used_entry(count.wrapping_sub(1), &self.memory);
        (head as u16 / 4, length, count)
    }

    fn used_count(&self) -> u16 {
        self.ring.used_index(&self.memory)
    }

    fn needs_reset(&self) -> bool {
        read(&self.disk, VIRTIO_MMIO_STATUS) & 0x40 != 0
    }

    fn acknowledge(&mut self) {
        write(&mut self.disk, VIRTIO_MMIO_INTERRUPT_ACK, 3, &self.memory);
    }
}

fn read_of(sector: u64, sectors: u32) -> DiskOperation {
    DiskOperation::Read {
        sector,
        bytes: 512 * sectors,
    }
}

fn write_of(sector: u64, data: &[u8]) -> DiskOperation {
    DiskOperation::Write {
        sector,
        data: data.into(),
    }
}

/// `struct virtio_blk_discard_write_zeroes`.
fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}
