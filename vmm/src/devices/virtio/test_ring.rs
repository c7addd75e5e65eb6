//! A driver's side of the transport and of one ring, for tests.

use virtio_bindings::virtio_mmio as register;
use vm_memory::{Bytes, GuestAddress};

use super::mmio::{Transport, VirtioDevice};
use crate::effect::Effect;
use crate::machine::GuestMemory;

pub(crate) const MEMORY_BYTES: usize = 0x40_0000;
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;
pub(crate) const VERSION_1: u64 = 1 << 32;

pub(crate) fn guest_memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
}

/// Writes a transport register; whatever effects that has.
pub(crate) fn write<D: VirtioDevice>(
    transport: &mut Transport<D>,
    register: u32,
    value: u32,
    memory: &GuestMemory,
) -> Vec<Effect> {
    let mut outbox = Vec::new();
    transport.write(register.into(), &value.to_le_bytes(), memory, &mut outbox);
    outbox
}

pub(crate) fn read<D: VirtioDevice>(transport: &Transport<D>, register: u32) -> u32 {
    let mut data = [0; 4];
    transport.read(register.into(), &mut data);
    u32::from_le_bytes(data)
}

/// Status up to FEATURES_OK, with `features`.
pub(crate) fn negotiate<D: VirtioDevice>(
    transport: &mut Transport<D>,
    features: u64,
    memory: &GuestMemory,
) {
    for status in [0, 1, 3] {
        write(transport, register::VIRTIO_MMIO_STATUS, status, memory);
    }
    for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
        write(
            transport,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL,
            select,
            memory,
        );
        write(
            transport,
            register::VIRTIO_MMIO_DRIVER_FEATURES,
            half,
            memory,
        );
    }
    write(transport, register::VIRTIO_MMIO_STATUS, 11, memory);
}

/// One ring in guest memory, as its driver sees it.
pub(crate) struct Ring {
    pub(crate) base: u64,
    size: u16,
    offered: u16,
}

impl Ring {
    /// A ring at `base`: 16 descriptors, then both rings.
    pub(crate) fn new(base: u64) -> Self {
        Self {
            base,
            size: 16,
            offered: 0,
        }
    }

    fn available(&self) -> u64 {
        self.base + 0x1000
    }

    fn used(&self) -> u64 {
        self.base + 0x2000
    }

    /// Sets queue `index` up and enables it.
    pub(crate) fn enable<D: VirtioDevice>(
        &self,
        transport: &mut Transport<D>,
        index: u32,
        memory: &GuestMemory,
    ) {
        write(transport, register::VIRTIO_MMIO_QUEUE_SEL, index, memory);
        let registers = [
            (register::VIRTIO_MMIO_QUEUE_NUM, self.size.into()),
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, self.base),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, self.available()),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, self.used()),
            (register::VIRTIO_MMIO_QUEUE_READY, 1),
        ];
        for (register, value) in registers {
            write(transport, register, value as u32, memory);
        }
        assert_eq!(read(transport, register::VIRTIO_MMIO_QUEUE_READY), 1);
    }

    pub(crate) fn descriptor(
        &self,
        index: u16,
        (address, length, flags, next): (u64, u32, u16, u16),
        memory: &GuestMemory,
    ) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        memory
            .write_slice(&bytes, GuestAddress(self.base + 16 * u64::from(index)))
            .unwrap();
    }

    /// Offers the chain that begins at `head`.
    pub(crate) fn offer(&mut self, head: u16, memory: &GuestMemory) {
        let slot = self.available() + 4 + 2 * u64::from(self.offered % self.size);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.offered = self.offered.wrapping_add(1);
        self.set_available_index(self.offered, memory);
    }

    pub(crate) fn set_available_index(&self, index: u16, memory: &GuestMemory) {
        memory
            .write_obj(index, GuestAddress(self.available() + 2))
            .unwrap();
    }

    pub(crate) fn suppress_interrupts(&self, memory: &GuestMemory) {
        memory
            .write_obj(1u16, GuestAddress(self.available()))
            .unwrap();
    }

    pub(crate) fn used_index(&self, memory: &GuestMemory) -> u16 {
        memory.read_obj(GuestAddress(self.used() + 2)).unwrap()
    }

    /// Head and length of used entry `index`.
    pub(crate) fn used_entry(&self, index: u16, memory: &GuestMemory) -> (u32, u32) {
        let entry = self.used() + 4 + 8 * u64::from(index % self.size);
        let head = memory.read_obj(GuestAddress(entry)).unwrap();
        let length = memory.read_obj(GuestAddress(entry + 4)).unwrap();
        (head, length)
    }
}
