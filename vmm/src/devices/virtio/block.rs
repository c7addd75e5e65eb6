//! virtio-blk (virtio 1.2 §5.2): a disk, with one queue of requests.
//!
//! In: notifications of the queue, and answers from the disk, each at its entry's position. Out: requests as effects; what is written is copied out of guest
//! memory in the notification itself. Always: guest memory is touched in a notification and at an answer alone; requests under way at once do not
//! conflict ([`DiskOperation::conflicts_with`]), so their order on the disk does not matter; what is kept of them is bounded ([`table`]).
//!
//! ```text
//!              ring ── room in the table ──► parse ──► malformed, unknown, GET_ID: answered at once
//!                                              │
//!                              conflicts with an earlier one?
//!                               no │                   │ yes
//!                                  ▼                   ▼
//!     Effect::Disk ◄──────────── issued ◄─────────── waiting ── reset ──► gone
//!                                  │  the last conflicting one is answered
//!                           ┌──────┴──────┐
//!                         answer        reset
//!                           ▼             ▼
//!      data, status, used ring        abandoned ── answer ──► gone; guest memory is not touched
//! ```
//!
//! An abandoned request may still be under way on the disk, so it holds back what conflicts with it, and its answer comes like any other.
//!
//! A flush waits for nothing: it covers the writes that were completed before it was submitted (§5.2.6.2), and those are not in the table any more.
//!
//! At an answer, what waited for it is issued first, in order; then chains are taken from the ring that had found the table full. After a ring fault, or without
//! its queue, the device does nothing but forget what is answered, until the driver resets it.

pub mod request;
pub mod table;
#[cfg(test)]
mod tests;

use logging_channel::codec::MAX_PAYLOAD_BYTES;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

use super::buffers::Buffers;
use super::mmio::{Served, Transport, VirtioDevice};
use super::queue::{RingFault, Virtqueue};
use crate::effect::{DiskOperation, DiskRequest, Effect, SECTOR_BYTES};
use crate::machine::GuestMemory;
use request::{Parsed, STATUS_BYTES};
use table::{Outstanding, Progress, RequestTable};

/// The largest segment of a request's data, bytes: a page.
pub const SEGMENT_LIMIT_BYTES: u32 = 4096;
/// Segments of a request's data, at most: with header and status they are half a queue.
pub const SEGMENT_LIMIT: u32 = 126;
/// The most that a request reads or writes, bytes: it and its log entry fit one frame of the log.
pub const REQUEST_LIMIT_BYTES: u32 = SEGMENT_LIMIT_BYTES * SEGMENT_LIMIT;
/// The most that a request discards or zeroes, sectors: 32 MiB, little enough for a host that has to write the zeroes.
pub const CLEAR_LIMIT_SECTORS: u32 = 65_536;
/// What discarded ranges should begin and end at, sectors: the block of most file systems.
const DISCARD_ALIGNMENT_SECTORS: u32 = 8;
/// The most that [`BlockConfig::id`] holds, bytes (§5.2.6).
pub const ID_LIMIT_BYTES: usize = 20;
/// The largest disk, sectors: its bytes can be counted.
pub const DISK_LIMIT_SECTORS: u64 = u64::MAX / SECTOR_BYTES;

const REQUEST_QUEUE: usize = 0;

/// Room for everything else in a frame.
const _: () = assert!(REQUEST_LIMIT_BYTES as usize + 4096 <= MAX_PAYLOAD_BYTES);

/// A disk as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// Its size, sectors: at most [`DISK_LIMIT_SECTORS`].
    pub sectors: u64,
    /// The guest may not change it.
    pub read_only: bool,
    /// What the guest gets for GET_ID: ASCII, at most [`ID_LIMIT_BYTES`].
    pub id: String,
}

/// How a request ended, as the guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAnswer<'a> {
    /// It is done: what was read, nothing for all else.
    Done(&'a [u8]),
    /// The disk could not.
    Failed,
    /// The disk knows no such request.
    Unsupported,
}

/// The disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which one, counted from 0.
    disk: u8,
    config: BlockConfig,
    table: RequestTable,
}

impl Block {
    /// Disk number `disk`, with nothing under way.
    ///
    /// # Panics
    /// If the disk is larger than [`DISK_LIMIT_SECTORS`].
    #[must_use]
    pub fn new(disk: u8, config: BlockConfig) -> Self {
        assert!(
            config.sectors <= DISK_LIMIT_SECTORS,
            "a disk of {} sectors",
            config.sectors
        );
        Self {
            disk,
            config,
            table: RequestTable::default(),
        }
    }

    /// What the disk was asked to do and has not answered: of requests that were issued, abandoned ones too.
    #[must_use]
    pub fn request(&self, id: u64) -> Option<&DiskOperation> {
        self.table.issued(id).map(|request| &request.operation)
    }

    /// All requests that were issued and not answered, in order.
    pub fn requests(&self) -> impl Iterator<Item = DiskRequest> {
        let issued = self.table.iter();
        let issued = issued.filter(|request| request.progress != Progress::Waiting);
        issued.map(|request| request.to_disk(self.disk))
    }

    /// For a digest of the state: from here on data is represented by its digest, and this disk is good for nothing else.
    pub fn forget_data(&mut self) {
        self.table.forget_data();
    }

    /// Takes what the ring offers, as far as the table has room.
    fn take(
        &mut self,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Used, RingFault> {
        let mut used = Used::Nothing;
        // What is offered now bounds the work: the guest does not run meanwhile, but a ring that
        // overlaps the used ring would refill itself.
        for _ in 0..queue.offered(memory)? {
            if !self.table.has_room() {
                break;
            }
            let Some(chain) = queue.pop(memory)? else {
                break;
            };
            match request::parse(&chain, &self.config, memory)? {
                Parsed::Operation(operation) => {
                    let issued = self
                        .table
                        .add(self.disk, operation, chain.head, chain.writable);
                    outbox.extend(issued.map(Effect::Disk));
                }
                Parsed::Answer { status, data } => {
                    give(queue, chain.head, &chain.writable, (status, &data), memory)?;
                    used = Used::Something;
                }
            }
        }
        Ok(used)
    }

    /// Tells the guest how a request ended; then goes on with what waited.
    fn answered(
        &mut self,
        request: &Outstanding,
        answer: DiskAnswer<'_>,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault> {
        let mut used = Used::Nothing;
        if request.progress == Progress::Issued {
            let answer = status_and_data(&request.operation, answer);
            give(queue, request.head, &request.writable, answer, memory)?;
            used = Used::Something;
        }
        outbox.extend(self.table.issue_ready(self.disk).map(Effect::Disk));
        if self.take(queue, memory, outbox)? == Used::Something {
            used = Used::Something;
        }
        served(used, queue, memory)
    }
}

/// Whether buffers were returned to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Used {
    Nothing,
    Something,
}

fn served(used: Used, queue: &Virtqueue, memory: &GuestMemory) -> Result<Served, RingFault> {
    Ok(Served {
        interrupt: used == Used::Something && queue.wants_interrupt(memory)?,
    })
}

/// The status byte and what goes before it. A disk that read more or less than it was asked to has failed.
fn status_and_data<'a>(operation: &DiskOperation, answer: DiskAnswer<'a>) -> (u8, &'a [u8]) {
    match answer {
        DiskAnswer::Done(bytes) if bytes.len() as u64 == operation.read_bytes() => {
            (VIRTIO_BLK_S_OK as u8, bytes)
        }
        DiskAnswer::Done(_) | DiskAnswer::Failed => (VIRTIO_BLK_S_IOERR as u8, &[]),
        DiskAnswer::Unsupported => (VIRTIO_BLK_S_UNSUPP as u8, &[]),
    }
}

/// Returns a chain with data at its beginning and the status in its last byte, which `writable` has.
fn give(
    queue: &mut Virtqueue,
    head: u16,
    writable: &Buffers,
    (status, data): (u8, &[u8]),
    memory: &GuestMemory,
) -> Result<(), RingFault> {
    let status_at = writable.bytes().saturating_sub(STATUS_BYTES);
    let mut written = writable.write(0, data, memory)?;
    let status = writable.write(status_at, &[status], memory)?;
    // §2.7.8.2: the length is that of what was written from the beginning on, without a gap.
    if u64::from(written) == status_at {
        written += status;
    }
    queue.push_used(head, written, memory)
}

impl VirtioDevice for Block {
    const DEVICE_ID: u32 = VIRTIO_ID_BLOCK;
    const QUEUES: usize = 1;

    fn features(&self) -> u64 {
        let always = 1 << VIRTIO_BLK_F_SIZE_MAX
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        let access = match self.config.read_only {
            true => 1 << VIRTIO_BLK_F_RO,
            false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
        };
        always | access
    }

    /// `struct virtio_blk_config` (§5.2.4) up to `write_zeroes_may_unmap` and what fills its word.
    fn config(&self) -> Vec<u8> {
        let clear_sectors = match self.config.read_only {
            true => 0,
            false => CLEAR_LIMIT_SECTORS,
        };
        let one = u32::from(clear_sectors > 0);
        let mut config = self.config.sectors.to_le_bytes().to_vec();
        config.extend(SEGMENT_LIMIT_BYTES.to_le_bytes());
        config.extend(SEGMENT_LIMIT.to_le_bytes());
        // Geometry: not offered.
        config.extend([0; 4]);
        config.extend((SECTOR_BYTES as u32).to_le_bytes());
        // Topology, writeback, num_queues: not offered.
        config.extend([0; 12]);
        // Discard: sectors, segments, alignment; write zeroes: sectors, segments, may unmap.
        let words = [
            clear_sectors,
            one,
            DISCARD_ALIGNMENT_SECTORS * one,
            clear_sectors,
            one,
            one,
        ];
        config.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        config
    }

    fn notified(
        &mut self,
        _index: usize,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault> {
        let used = self.take(queue, memory, outbox)?;
        served(used, queue, memory)
    }

    fn reset(&mut self) {
        self.table.abandon();
    }
}

impl Transport<Block> {
    /// A request ended. One that is not under way is nobody's: nothing happens.
    pub fn done(
        &mut self,
        request: u64,
        answer: DiskAnswer<'_>,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) {
        let Some(request) = self.device_mut().table.finish(request) else {
            return;
        };
        self.serve(REQUEST_QUEUE, |device, queue| {
            device.answered(&request, answer, queue, memory, outbox)
        });
    }
}
