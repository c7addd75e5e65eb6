//! Disks of a whole machine: what their entries do, and requests under way in a saved state.

use logging_channel::codec::{canonical_bytes, from_canonical_bytes};
use virtio_bindings::virtio_mmio as register;

use super::*;
use crate::{devices::BlockConfig, engine::soft::SoftEngine};

const DESCRIPTORS: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x1_1000;
const USED: u64 = 0x1_2000;
const HEADER: u64 = 0x1_3000;
const STATUS: u64 = 0x1_3800;
const DATA: u64 = 0x1_4000;

/// A machine whose guest has asked for sector 3 of its disk.
fn machine() -> Machine<SoftEngine> {
    let memory = allocate_memory(MIN_MEMORY_BYTES).expect("4 MiB");
    let disk = BlockConfig {
        sectors: 64,
        read_only: false,
        id: "disk".to_owned(),
    };
    let devices = DevicesConfig {
        unix_time_s: 0,
        mac: None,
        memory_bytes: MIN_MEMORY_BYTES,
        disks: vec![disk],
    };
    let state = boot::begin_at(&memory, 0).expect("tables fit");
    let engine = SoftEngine::new(&memory).expect("a processor");
    let mut machine = Machine::new(engine, memory, &devices, &state).expect("a machine");
    let chain = [
        (HEADER, 16, 1, 1),
        (DATA, 512, 3, 2),
        (STATUS, 1u32, 2u16, 0u16),
    ];
    let mut table = Vec::new();
    for (address, length, flags, next) in chain {
        table.extend(address.to_le_bytes());
        table.extend(length.to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend(next.to_le_bytes());
    }
    let header = (3u128 << 64).to_le_bytes();
    for (address, bytes) in [
        (DESCRIPTORS, &table[..]),
        (AVAILABLE, &[0, 0, 1, 0]),
        (HEADER, &header),
        (STATUS, &[0xEE]),
    ] {
        assert!(machine.put_pages(address, bytes));
    }
    for (register, value) in [
        (register::VIRTIO_MMIO_STATUS, 3),
        (register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
        (register::VIRTIO_MMIO_DRIVER_FEATURES, 1),
        (register::VIRTIO_MMIO_STATUS, 11),
        (register::VIRTIO_MMIO_QUEUE_NUM, 16),
        (register::VIRTIO_MMIO_QUEUE_DESC_LOW, DESCRIPTORS as u32),
        (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAILABLE as u32),
        (register::VIRTIO_MMIO_QUEUE_USED_LOW, USED as u32),
        (register::VIRTIO_MMIO_QUEUE_READY, 1),
        (register::VIRTIO_MMIO_STATUS, 15),
        (register::VIRTIO_MMIO_QUEUE_NOTIFY, 0),
    ] {
        let address = layout::disk_mmio(0) + u64::from(register);
        let value: u32 = value;
        let memory = machine.memory.clone();
        machine
            .devices
            .mmio_write(address, &value.to_le_bytes(), &memory);
    }
    machine
}

fn operation() -> DiskOperation {
    DiskOperation::Read {
        sector: 3,
        bytes: 512,
    }
}

fn ended(outcome: DiskOutcome) -> Event {
    Event::Disk {
        disk: 0,
        request: 0,
        outcome,
    }
}

fn byte(machine: &Machine<SoftEngine>, address: u64) -> u8 {
    let byte = machine.memory.read_obj(GuestAddress(address));
    byte.expect("in memory")
}

#[test]
fn an_entry_ends_its_request() {
    let done = DiskOutcome::Done {
        bytes: vec![7; 512].into(),
    };
    let outcomes = [
        (done, 0, 7),
        (DiskOutcome::Failed, 1, 0),
        (DiskOutcome::Unsupported, 2, 0),
    ];
    for (outcome, status, data) in outcomes {
        let mut machine = machine();
        let request = DiskRequest {
            disk: 0,
            id: 0,
            operation: operation(),
        };
        assert_eq!(machine.take_effects(), [Effect::Disk(request.clone())]);
        let situation: &dyn Situation = &machine;
        assert_eq!(situation.disk_requests(), [request]);
        assert_eq!(situation.disk_request(0, 0), Some(operation()));
        assert_eq!(situation.disk_request(0, 1), None);
        assert_eq!(situation.disk_request(1, 0), None);
        machine.apply(&ended(outcome));
        assert_eq!(Situation::disk_request(&machine, 0, 0), None);
        assert_eq!(byte(&machine, STATUS), status);
        assert_eq!(byte(&machine, DATA + 511), data);
        assert_eq!(byte(&machine, USED + 2), 1);
    }
}

#[test]
fn an_entry_without_its_bytes_does_nothing() {
    let mut machine = machine();
    machine.take_effects();
    machine.apply(&ended(DiskOutcome::DoneApart { checksum: 0 }));
    assert_eq!(Situation::disk_request(&machine, 0, 0), Some(operation()));
    assert_eq!(byte(&machine, STATUS), 0xEE);
}

#[test]
fn a_restored_machine_waits_for_the_same_requests() {
    let mut machine = machine();
    machine.take_effects();
    let state = canonical_bytes(&machine.save().expect("a state"));
    let state = from_canonical_bytes(&state).expect("what was saved");
    let memory = machine.memory.clone();
    let engine = SoftEngine::new(&memory).expect("a processor");
    let mut restored = Machine::restore(engine, memory, state).expect("this version's");
    assert_eq!(restored.devices, machine.devices);
    restored.apply(&ended(DiskOutcome::Done {
        bytes: vec![9; 512].into(),
    }));
    assert_eq!(byte(&restored, STATUS), 0);
    assert_eq!(byte(&restored, DATA), 9);
    assert_eq!(restored.devices.disk_requests(), []);
}
