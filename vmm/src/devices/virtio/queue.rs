//! One split virtqueue (virtio 1.2 §2.7): the `virtio-queue` crate's ring, checked and serialisable.
//!
//! In: descriptor chains that a guest may have filled with anything. Out: chains that are
//! well-formed, and used-ring entries. Always: one call does work for at most one chain of at
//! most the queue's size; a chain that breaks the rules of §2.7 is a [`RingFault`], after which the
//! transport stops the device until it is reset.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};

use super::buffers::Buffers;
use crate::machine::GuestMemory;

/// The guest broke the rules of the ring; the device cannot go on without a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// More chains are offered than the queue has descriptors (§2.7.13.3), or the ring is unreadable.
    #[error("The available ring is invalid")]
    AvailableRing,
    /// A chain is empty, loops, leaves the table or is longer than the queue (§2.7.5).
    #[error("A descriptor chain is malformed")]
    Chain,
    /// A buffer lies outside guest memory.
    #[error("A buffer lies outside guest memory")]
    Buffer,
    /// A device-readable buffer where a device-writable one belongs, or the reverse (§2.7.4.2).
    #[error("A buffer has the wrong direction")]
    Direction,
    /// The used ring cannot be written.
    #[error("The used ring is invalid")]
    UsedRing,
}

/// A descriptor chain whose buffers all lie in guest memory: first those that the device reads, then those that it writes (§2.7.4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The chain's name in the used ring.
    pub head: u16,
    /// For the device to read.
    pub readable: Buffers,
    /// For the device to write.
    pub writable: Buffers,
}

impl Chain {
    /// Total length if all buffers are for the device to read.
    pub fn readable_bytes(&self) -> Result<u64, RingFault> {
        match self.writable.is_empty() {
            true => Ok(self.readable.bytes()),
            false => Err(RingFault::Direction),
        }
    }

    /// Total length if all buffers are for the device to write.
    pub fn writable_bytes(&self) -> Result<u64, RingFault> {
        match self.readable.is_empty() {
            true => Ok(self.writable.bytes()),
            false => Err(RingFault::Direction),
        }
    }

    /// Copies the readable bytes out of guest memory. The caller has bounded their number.
    pub fn read(&self, memory: &GuestMemory) -> Result<Vec<u8>, RingFault> {
        let mut bytes = vec![0; self.readable.bytes() as usize];
        self.readable.read(0, &mut bytes, memory)?;
        Ok(bytes)
    }

    /// Copies as much of `bytes` as fits into the writable buffers; how much that was.
    pub fn write(&self, bytes: &[u8], memory: &GuestMemory) -> Result<u32, RingFault> {
        self.writable.write(0, bytes, memory)
    }
}

/// A split virtqueue.
#[derive(Debug)]
pub struct Virtqueue {
    ring: Queue,
}

/// Equal state. The crate's own comparison includes a counter for EVENT_IDX, which is not offered.
impl PartialEq for Virtqueue {
    fn eq(&self, other: &Self) -> bool {
        self.ring.state() == other.ring.state()
    }
}

impl Eq for Virtqueue {}

impl Virtqueue {
    /// A queue of at most `max_size` descriptors, a power of two.
    #[must_use]
    pub fn new(max_size: u16) -> Self {
        Self {
            ring: Queue::new(max_size).expect("queue sizes are constants and powers of two"),
        }
    }

    /// The largest size the driver may choose.
    #[must_use]
    pub fn max_size(&self) -> u16 {
        self.ring.max_size()
    }

    /// Whether the driver has enabled the queue.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ring.ready()
    }

    /// Back to the state after [`Self::new`].
    pub fn reset(&mut self) {
        self.ring.reset();
    }

    /// QueueNum: ignored unless a power of two within the maximum (§2.7).
    pub fn set_size(&mut self, size: u32) {
        if let Ok(size) = u16::try_from(size) {
            self.ring.set_size(size);
        }
    }

    /// QueueReady: a queue whose rings do not lie in guest memory stays not ready.
    pub fn set_ready(&mut self, ready: bool, memory: &GuestMemory) {
        self.ring.set_ready(ready);
        let usable = self.ring.is_valid(memory) && self.ring.avail_ring() != 0;
        self.ring.set_ready(ready && usable);
    }

    /// Half of the descriptor table's address. Misaligned addresses are ignored.
    pub fn set_descriptors(&mut self, low: Option<u32>, high: Option<u32>) {
        self.ring.set_desc_table_address(low, high);
    }

    /// Half of the available ring's ("driver area") address.
    pub fn set_available(&mut self, low: Option<u32>, high: Option<u32>) {
        self.ring.set_avail_ring_address(low, high);
    }

    /// Half of the used ring's ("device area") address.
    pub fn set_used(&mut self, low: Option<u32>, high: Option<u32>) {
        self.ring.set_used_ring_address(low, high);
    }

    /// The next chain the driver offers, left in the ring. The queue is ready.
    pub fn peek(&self, memory: &GuestMemory) -> Result<Option<Chain>, RingFault> {
        self.clone().pop(memory)
    }

    /// How many chains the driver offers now: at most the queue's size.
    pub fn offered(&self, memory: &GuestMemory) -> Result<u16, RingFault> {
        if !self.ring.ready() {
            return Ok(0);
        }
        let available = self.ring.avail_idx(memory, Ordering::Acquire);
        let available = available.map_err(|_| RingFault::AvailableRing)?.0;
        let offered = available.wrapping_sub(self.ring.next_avail());
        if offered > self.ring.size() {
            Err(RingFault::AvailableRing)
        } else {
            Ok(offered)
        }
    }

    /// Takes the next chain the driver offers. The queue is ready.
    pub fn pop(&mut self, memory: &GuestMemory) -> Result<Option<Chain>, RingFault> {
        let limit = usize::from(self.ring.size());
        let mut offered = self
            .ring
            .iter(memory)
            .map_err(|_| RingFault::AvailableRing)?;
        let Some(chain) = offered.next() else {
            return Ok(None);
        };
        let head = chain.head_index();
        // One more than a well-formed chain can have: an indirect table, which the crate follows
        // whether or not the device offers them, must not be longer either (§2.7.5.3.1).
        collect_chain(head, chain.take(limit + 1), limit, memory).map(Some)
    }

    /// Returns a chain to the driver, with the number of bytes written to it.
    pub fn push_used(
        &mut self,
        head: u16,
        written_bytes: u32,
        memory: &GuestMemory,
    ) -> Result<(), RingFault> {
        self.ring
            .add_used(memory, head, written_bytes)
            .map_err(|_| RingFault::UsedRing)
    }

    /// Whether the driver wants an interrupt for used buffers (§2.7.7: `VIRTQ_AVAIL_F_NO_INTERRUPT`,
    /// which the crate leaves to us).
    pub fn wants_interrupt(&self, memory: &GuestMemory) -> Result<bool, RingFault> {
        let flags: u16 = memory
            .load(GuestAddress(self.ring.avail_ring()), Ordering::Acquire)
            .map_err(|_| RingFault::AvailableRing)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }
}

/// The crate ends a chain silently where it finds it broken: then the last descriptor still
/// names a next one.
fn collect_chain(
    head: u16,
    descriptors: impl Iterator<Item = Descriptor>,
    limit: usize,
    memory: &GuestMemory,
) -> Result<Chain, RingFault> {
    let (mut readable, mut writable) = (Buffers::default(), Buffers::default());
    let (mut seen, mut ended) = (0, false);
    for descriptor in descriptors {
        (seen, ended) = (seen + 1, !descriptor.has_next());
        let (address, length) = (descriptor.addr(), descriptor.len());
        let writes = descriptor.is_write_only();
        if length == 0 {
            continue;
        }
        let (buffers, access) = match writes {
            true => (&mut writable, Permissions::Write),
            false => (&mut readable, Permissions::Read),
        };
        if !GuestMemory::check_range(memory, address, length as usize, access) {
            return Err(RingFault::Buffer);
        }
        buffers.push(address.0, length);
        if !writes && !writable.is_empty() {
            return Err(RingFault::Direction);
        }
    }
    if !ended || seen > limit {
        return Err(RingFault::Chain);
    }
    Ok(Chain {
        head,
        readable,
        writable,
    })
}

impl Clone for Virtqueue {
    fn clone(&self) -> Self {
        Self::from_state(self.ring.state()).expect("a queue's own state is valid")
    }
}

impl Virtqueue {
    fn from_state(state: QueueState) -> Result<Self, virtio_queue::Error> {
        Queue::try_from(state).map(|ring| Self { ring })
    }
}

/// `virtio_queue::QueueState`, field by field, for serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "QueueState")]
struct QueueStateFields {
    max_size: u16,
    next_avail: u16,
    next_used: u16,
    event_idx_enabled: bool,
    size: u16,
    ready: bool,
    desc_table: u64,
    avail_ring: u64,
    used_ring: u64,
}

impl Serialize for Virtqueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        QueueStateFields::serialize(&self.ring.state(), serializer)
    }
}

impl<'de> Deserialize<'de> for Virtqueue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = QueueStateFields::deserialize(deserializer)?;
        Self::from_state(state).map_err(serde::de::Error::custom)
    }
}
