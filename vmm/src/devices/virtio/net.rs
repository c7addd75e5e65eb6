//! virtio-net (virtio 1.2 §5.1): one receive and one transmit queue, no offloads.
//!
//! In: frames from the world, at their entry's position; notifications of the transmit queue. Out:
//! frames as effects, copied out of guest memory in the notification itself. Always: a
//! frame is at most [`FRAME_LIMIT_BYTES`] long; what does not fit the rings is dropped the same way on
//! every replica.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP};

use super::mmio::{Served, Transport, VirtioDevice};
use super::queue::{Chain, RingFault, Virtqueue};
use crate::effect::Effect;
use crate::machine::GuestMemory;

/// `struct virtio_net_hdr_v1`, before every frame in the rings (§5.1.6).
const HEADER_BYTES: usize = 12;
/// Where `num_buffers` lies in the header.
const NUM_BUFFERS_OFFSET: usize = 10;
/// An Ethernet header; shorter frames are not sent.
const FRAME_MIN_BYTES: usize = 14;
/// A longer frame is not sent (the log's limit for a frame).
pub const FRAME_LIMIT_BYTES: usize = 65_562;
/// The largest frame that the world sends: 1,500 bytes and an Ethernet header.
pub const RECEIVE_FRAME_BYTES: usize = 1_514;

const RECEIVE_QUEUE: usize = 0;
const TRANSMIT_QUEUE: usize = 1;

/// The network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    mac: [u8; 6],
}

impl Net {
    /// A card with this address. The link is always up.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> Self {
        Self { mac }
    }

    /// Sends all frames that the driver has queued.
    fn transmit(
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault> {
        // What is offered now bounds the work: the guest does not run meanwhile, but a ring that
        // overlaps the used ring would refill itself.
        let offered = queue.offered(memory)?;
        for _ in 0..offered {
            let Some(chain) = queue.pop(memory)? else {
                break;
            };
            outbox.extend(frame_of(&chain, memory)?.map(Effect::SendFrame));
            queue.push_used(chain.head, 0, memory)?;
        }
        Ok(Served {
            interrupt: offered > 0 && queue.wants_interrupt(memory)?,
        })
    }
}

/// The frame that a transmit chain holds, unless it is too short or too long to send.
fn frame_of(chain: &Chain, memory: &GuestMemory) -> Result<Option<Vec<u8>>, RingFault> {
    let sendable =
        (HEADER_BYTES + FRAME_MIN_BYTES) as u64..=(HEADER_BYTES + FRAME_LIMIT_BYTES) as u64;
    if !sendable.contains(&chain.readable_bytes()?) {
        return Ok(None);
    }
    Ok(Some(chain.read(memory)?.split_off(HEADER_BYTES)))
}

impl VirtioDevice for Net {
    const DEVICE_ID: u32 = VIRTIO_ID_NET;
    const QUEUES: usize = 2;

    fn features(&self) -> u64 {
        1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS
    }

    /// `struct virtio_net_config` (§5.1.4): address and status.
    fn config(&self) -> Vec<u8> {
        let mut config = self.mac.to_vec();
        config.extend((VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
        config
    }

    fn notified(
        &mut self,
        index: usize,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault> {
        if index == TRANSMIT_QUEUE {
            return Self::transmit(queue, memory, outbox);
        }
        // Receive buffers wait for frames; a broken one is reported now.
        if let Some(chain) = queue.peek(memory)? {
            chain.writable_bytes()?;
        }
        Ok(Served { interrupt: false })
    }
}

impl Transport<Net> {
    /// Whether the receive ring takes a frame of [`RECEIVE_FRAME_BYTES`] now.
    #[must_use]
    pub fn has_receive_room(&self, memory: &GuestMemory) -> bool {
        let chain = self
            .live_queue(RECEIVE_QUEUE)
            .and_then(|queue| queue.peek(memory).ok()?);
        let room = chain.and_then(|chain| chain.writable_bytes().ok());
        room.is_some_and(|room| room >= (HEADER_BYTES + RECEIVE_FRAME_BYTES) as u64)
    }

    /// Puts `frame` into the receive ring. It is dropped if the ring is empty, and if it does not
    /// fit the next buffer, which then stays.
    pub fn receive(&mut self, frame: &[u8], memory: &GuestMemory) {
        self.serve(RECEIVE_QUEUE, |_, queue| receive(queue, frame, memory));
    }
}

fn receive(queue: &mut Virtqueue, frame: &[u8], memory: &GuestMemory) -> Result<Served, RingFault> {
    let dropped = Served { interrupt: false };
    let Some(chain) = queue.peek(memory)? else {
        return Ok(dropped);
    };
    if chain.writable_bytes()? < (HEADER_BYTES + frame.len()) as u64 {
        return Ok(dropped);
    }
    let Some(chain) = queue.pop(memory)? else {
        return Ok(dropped);
    };
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[NUM_BUFFERS_OFFSET] = 1;
    bytes.extend_from_slice(frame);
    let written = chain.write(&bytes, memory)?;
    queue.push_used(chain.head, written, memory)?;
    Ok(Served {
        interrupt: queue.wants_interrupt(memory)?,
    })
}
