//! Disks in the machine: their lines, their names, and what of them is hashed.

use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
use virtio_bindings::virtio_mmio as register;
use vm_memory::Bytes;

use super::*;

const MEMORY_BYTES: usize = 0x20_0000;
const RINGS: u64 = 0x1000;
const HEADER: u64 = 0x8000;
const DATA: u64 = 0x1_0000;

/// A machine with four disks, and a driver that has nothing else.
struct Rig {
    devices: Devices,
    memory: GuestMemory,
    /// Requests of each disk so far.
    offered: [u16; MAX_DISKS],
}

fn rig() -> Rig {
    let config = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: MEMORY_BYTES as u64,
        disks: vec![
            BlockConfig {
                sectors: 1 << 20,
                ..disk(false)
            };
            MAX_DISKS
        ],
    };
    let mut rig = Rig {
        devices: Devices::new(&config),
        memory: GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap(),
        offered: [0; MAX_DISKS],
    };
    set_up_pic(&mut rig.devices);
    (0..MAX_DISKS).for_each(|disk| rig.bring_up(disk));
    rig
}

impl Rig {
    fn write(&mut self, disk: usize, register: u32, value: u32) {
        let address = disk_mmio(disk) + u64::from(register);
        self.devices
            .mmio_write(address, &value.to_le_bytes(), &self.memory);
    }

    /// Where the disk's descriptors and rings lie.
    fn rings(disk: usize) -> [u64; 3] {
        let start = RINGS + 0x1000 * disk as u64;
        [start, start + 0x400, start + 0x800]
    }

    fn bring_up(&mut self, disk: usize) {
        let [descriptors, available, used] = Self::rings(disk);
        for (register, value) in [
            (register::VIRTIO_MMIO_STATUS, 3),
            (register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
            (register::VIRTIO_MMIO_DRIVER_FEATURES, 1),
            (register::VIRTIO_MMIO_STATUS, 11),
            (register::VIRTIO_MMIO_QUEUE_NUM, 16),
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors as u32),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, available as u32),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, used as u32),
            (register::VIRTIO_MMIO_QUEUE_READY, 1),
            (register::VIRTIO_MMIO_STATUS, 15),
        ] {
            self.write(disk, register, value);
        }
    }

    /// Asks for a transfer of `bytes` at `sector`; what is written is what lies at [`DATA`].
    fn submit(&mut self, disk: usize, kind: u32, sector: u64, bytes: u32) {
        let [descriptors, available, _] = Self::rings(disk);
        let direction = if kind == VIRTIO_BLK_T_IN { 2 } else { 0 };
        let chain: [(u64, u32, u16, u16); 3] = [
            (HEADER, 16, 1, 1),
            (DATA, bytes, 1 | direction, 2),
            (HEADER + 16, 1, 2, 0),
        ];
        let mut table = Vec::new();
        for (address, length, flags, next) in chain {
            table.extend(address.to_le_bytes());
            table.extend(length.to_le_bytes());
            table.extend(flags.to_le_bytes());
            table.extend(next.to_le_bytes());
        }
        let mut header = u64::from(kind).to_le_bytes().to_vec();
        header.extend(sector.to_le_bytes());
        let slot = available + 4 + 2 * u64::from(self.offered[disk] % 16);
        self.offered[disk] += 1;
        let index = self.offered[disk].to_le_bytes();
        for (address, bytes) in [
            (descriptors, &table[..]),
            (HEADER, &header),
            (slot, &[0, 0]),
            (available + 2, &index),
        ] {
            let written = self.memory.write_slice(bytes, GuestAddress(address));
            written.expect("memory");
        }
        self.write(disk, register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    fn fill(&self, byte: u8, bytes: usize) {
        let filled = self
            .memory
            .write_slice(&vec![byte; bytes], GuestAddress(DATA));
        filled.expect("memory");
    }

    /// Its state's digest, and how many bytes were hashed for it.
    fn digest(&mut self) -> (blake3::Hash, u64) {
        self.devices.take_effects();
        let mut hasher = blake3::Hasher::new();
        self.devices.digest_into(&mut hasher);
        (hasher.finalize(), hasher.count())
    }
}

#[test]
fn each_disk_has_its_line_and_its_requests() {
    // IRQs 14, 15, 9 and 5, in the order of their priority: 9, 14, 15, 5.
    let vectors = [0x3E, 0x3F, 0x39, 0x35];
    for (disk, vector) in vectors.into_iter().enumerate() {
        let mut rig = rig();
        rig.submit(disk, VIRTIO_BLK_T_IN, 8, 512);
        let operation = DiskOperation::Read {
            sector: 8,
            bytes: 512,
        };
        let request = DiskRequest {
            disk: disk as u8,
            id: 0,
            operation: operation.clone(),
        };
        let effects = rig.devices.take_effects();
        assert_eq!(effects, [Effect::Disk(request.clone())]);
        assert_eq!(rig.devices.disk_requests(), [request]);
        for other in 0..=MAX_DISKS as u8 {
            let known = rig.devices.disk_request(other, 0);
            assert_eq!(known, (usize::from(other) == disk).then_some(&operation));
            if usize::from(other) != disk {
                let before = rig.devices.clone();
                rig.devices
                    .disk_done(other, 0, DiskAnswer::Failed, &rig.memory);
                assert_eq!(rig.devices, before);
            }
        }
        assert!(!rig.devices.interrupt_pending());
        let bytes = [6; 512];
        let answer = DiskAnswer::Done(&bytes);
        rig.devices.disk_done(disk as u8, 0, answer, &rig.memory);
        assert!(rig.devices.other_interrupt_pending());
        assert_eq!(rig.devices.acknowledge_interrupt(), vector);
        assert_eq!(rig.devices.disk_requests(), []);
    }
}

#[test]
fn requests_are_told_in_order_of_disk_and_name() {
    let mut rig = rig();
    for (disk, sector) in [(2, 0), (0, 0), (2, 8), (0, 0), (1, 0)] {
        rig.submit(disk, VIRTIO_BLK_T_OUT, sector, 512);
    }
    let requests = rig.devices.disk_requests();
    let names = requests.iter().map(|request| (request.disk, request.id));
    // The second one of disk 0 waits for the first.
    assert_eq!(names.collect::<Vec<_>>(), [(0, 0), (1, 0), (2, 0), (2, 1)]);
}

#[test]
fn a_digest_tells_data_apart_and_does_not_hash_it_again() {
    let large = virtio::block::REQUEST_LIMIT_BYTES;
    let course = |bytes: [u8; 3]| {
        let mut rig = rig();
        for (index, byte) in (0..).zip(bytes) {
            rig.fill(byte, large as usize);
            // The last one waits for the first.
            let sector = [0, 2048, 0][index];
            rig.submit(3, VIRTIO_BLK_T_OUT, sector, large);
        }
        // What is in memory is hashed elsewhere.
        rig.fill(0, large as usize);
        rig.digest()
    };
    let (first, count) = course([1, 2, 3]);
    assert_eq!(course([1, 2, 3]).0, first);
    for other in [[9, 2, 3], [1, 9, 3], [1, 2, 9]] {
        assert_ne!(course(other).0, first, "{other:?}");
    }
    assert!(count < 4096, "{count} bytes were hashed");
    let mut idle = rig();
    assert_ne!(idle.digest().0, first);
}

#[test]
fn a_digest_tells_apart_how_far_a_request_is() {
    let mut rig = rig();
    let mut seen = vec![rig.digest().0];
    rig.submit(0, VIRTIO_BLK_T_OUT, 0, 512);
    seen.push(rig.digest().0);
    rig.submit(0, VIRTIO_BLK_T_OUT, 0, 512);
    seen.push(rig.digest().0);
    rig.devices
        .disk_done(0, 0, DiskAnswer::Done(&[]), &rig.memory);
    seen.push(rig.digest().0);
    rig.write(0, register::VIRTIO_MMIO_STATUS, 0);
    seen.push(rig.digest().0);
    rig.devices
        .disk_done(0, 1, DiskAnswer::Done(&[]), &rig.memory);
    seen.push(rig.digest().0);
    for (index, digest) in seen.iter().enumerate() {
        assert!(!seen[..index].contains(digest), "step {index}");
    }
}

#[test]
fn hashing_leaves_the_data_where_it_is() {
    let mut rig = rig();
    rig.fill(5, 512);
    rig.submit(0, VIRTIO_BLK_T_OUT, 0, 512);
    let before = rig.devices.disk_requests();
    rig.digest();
    assert_eq!(rig.devices.disk_requests(), before);
    assert_eq!(before[0].operation.data(), [5; 512]);
}

#[test]
#[should_panic(expected = "5 disks")]
fn a_machine_has_four_disks_at_most() {
    let config = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: 1 << 20,
        disks: vec![disk(false); MAX_DISKS + 1],
    };
    let _ = Devices::new(&config);
}
