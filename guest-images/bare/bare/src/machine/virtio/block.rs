//! virtio-blk (virtio 1.2 §5.2): several requests at a time, each a chain of three descriptors.

use super::mmio::Transport;
use super::queue::{Chains, Part, Rings};
use crate::journal::record::{SECTOR, Sector};
use crate::journal::{Command, Operation, READ_SECTORS};
use crate::machine::{Global, interrupts};

/// The first disk's registers.
const BASE: usize = 0xD000_2000;
const DEVICE_ID: u32 = 2;
/// Feature: the device knows flushes.
const FEATURE_FLUSH: u64 = 1 << 9;
const QUEUE: u32 = 0;

/// Requests at a time.
const SLOTS: usize = 32;
/// Descriptors of a request: header, data, status.
const PARTS: usize = 3;
const DESCRIPTORS: usize = 128;
const _: () = assert!(SLOTS * PARTS <= DESCRIPTORS);

/// Request types and statuses (§5.2.6).
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const STATUS_OK: u8 = 0;
/// What no device writes.
const STATUS_NONE: u8 = 0xFF;

#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    header: Header,
    data: [u8; READ_SECTORS * SECTOR],
    status: u8,
    tag: u32,
    /// Bytes that the device is to write to `data`.
    reads: usize,
}

impl Slot {
    const EMPTY: Self = Self {
        header: Header {
            kind: 0,
            reserved: 0,
            sector: 0,
        },
        data: [0; READ_SECTORS * SECTOR],
        status: STATUS_NONE,
        tag: 0,
        reads: 0,
    };
}

static SLOTS_MEMORY: Global<[Slot; SLOTS]> = Global::new([Slot::EMPTY; SLOTS]);
static RINGS: Global<Rings<DESCRIPTORS>> = Global::new(Rings::new());

/// A disk.
pub struct Block {
    transport: Transport,
    queue: Chains<DESCRIPTORS>,
    slots: &'static mut [Slot; SLOTS],
    /// Slots that are ours, one bit each.
    free: u32,
}

impl Block {
    /// Brings the first disk up and its interrupt line; `None` where there is none.
    pub fn open() -> Option<Self> {
        let transport = Transport::open(BASE, DEVICE_ID, FEATURE_FLUSH)?;
        let queue = Chains::new(&RINGS);
        transport.add_queue(QUEUE, queue.queue());
        transport.start();
        interrupts::unmask(interrupts::DISK);
        Some(Self {
            transport,
            queue,
            slots: SLOTS_MEMORY.take(),
            free: u32::MAX,
        })
    }

    /// The disk's size, sectors: the first field of its configuration (§5.2.4).
    #[must_use]
    pub fn sectors(&self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|offset| self.transport.config(offset)))
    }

    /// Takes back the interrupt. To be called before the queue is looked at.
    pub fn acknowledge(&self) {
        self.transport.acknowledge();
    }

    /// Has `give` fill in data and say what to do with it, if there is room. False: no room, or
    /// nothing to do. The device hears of it on [`flush`](Self::flush).
    pub fn submit(&mut self, give: impl FnOnce(&mut Sector) -> Option<Command>) -> bool {
        if self.free == 0 {
            return false;
        }
        let index = self.free.trailing_zeros() as usize % SLOTS;
        let slot = &mut self.slots[index];
        let data = slot.data.first_chunk_mut().expect("a slot has sectors");
        let Some(command) = give(data) else {
            return false;
        };
        self.free &= !(1 << index);
        let (kind, sector, reads, writes) = match command.operation {
            Operation::Read { sector, sectors } => (READ, sector, sectors * SECTOR, 0),
            Operation::Write { sector } => (WRITE, sector, 0, SECTOR),
            Operation::Flush => (FLUSH, 0, 0, 0),
        };
        (slot.header.kind, slot.header.sector) = (kind, sector);
        (slot.status, slot.tag, slot.reads) = (STATUS_NONE, command.tag, reads);
        let header = Part::to_device(&raw const slot.header, size_of::<Header>());
        let status = Part::from_device(&raw mut slot.status, 1);
        let first = index * PARTS;
        match (reads, writes) {
            (0, 0) => self.queue.offer(first, &[header, status]),
            (0, _) => {
                let data = Part::to_device(&raw const slot.data, writes);
                self.queue.offer(first, &[header, data, status]);
            }
            _ => {
                let data = Part::from_device(&raw mut slot.data, reads);
                self.queue.offer(first, &[header, data, status]);
            }
        }
        true
    }

    /// Hands the next finished command to `done`: its tag and what was read, `None` if it failed.
    /// False: none is finished.
    pub fn collect(&mut self, done: impl FnOnce(u32, Option<&[u8]>)) -> bool {
        let Some(first) = self.queue.collect() else {
            return false;
        };
        let index = first / PARTS % SLOTS;
        let slot = &self.slots[index];
        // SAFETY: a field of ours; volatile, for the device writes it.
        let status = unsafe { (&raw const slot.status).read_volatile() };
        let read = (status == STATUS_OK).then(|| &slot.data[..slot.reads]);
        done(slot.tag, read);
        self.free |= 1 << index;
        true
    }

    /// Shows the device what was submitted since the last time.
    pub fn flush(&mut self) {
        if self.queue.queue().unpublished() > 0 && self.queue.publish() {
            self.transport.notify(QUEUE);
        }
    }
}
