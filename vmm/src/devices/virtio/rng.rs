//! virtio-rng (virtio 1.2 §5.4): a queue of buffers to fill with random bytes.
//!
//! In: random bytes, which are a logged input. Out: nothing but filled buffers. A request waits in the
//! ring until its bytes come.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::mmio::{Served, Transport, VirtioDevice};
use super::queue::{Chain, RingFault, Virtqueue};
use crate::effect::Effect;
use crate::machine::GuestMemory;

/// A request is answered with no more than this (§5.4.6.2: at least one byte is enough).
pub const ENTROPY_LIMIT_BYTES: usize = 4096;

const REQUEST_QUEUE: usize = 0;

/// The entropy device. It has no state of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng {}

impl VirtioDevice for Rng {
    const DEVICE_ID: u32 = VIRTIO_ID_RNG;
    const QUEUES: usize = 1;

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn notified(
        &mut self,
        _index: usize,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        _outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault> {
        oldest_request(queue, memory)?;
        Ok(Served { interrupt: false })
    }
}

impl Transport<Rng> {
    /// How many bytes the oldest request takes, 1 to [`ENTROPY_LIMIT_BYTES`]; `None` without one.
    #[must_use]
    pub fn requested_bytes(&self, memory: &GuestMemory) -> Option<usize> {
        let request = oldest_request(self.live_queue(REQUEST_QUEUE)?, memory).ok()?;
        request.map(|(_, bytes)| bytes)
    }

    /// Answers the oldest request with as much of `bytes` as it takes. Without a request, or
    /// without bytes, nothing happens.
    pub fn answer(&mut self, bytes: &[u8], memory: &GuestMemory) {
        if !bytes.is_empty() {
            self.serve(REQUEST_QUEUE, |_, queue| answer(queue, bytes, memory));
        }
    }
}

/// The oldest request and how many bytes it takes. One without room is a fault: it could
/// never be answered, and would block all after it.
fn oldest_request(
    queue: &Virtqueue,
    memory: &GuestMemory,
) -> Result<Option<(Chain, usize)>, RingFault> {
    let Some(chain) = queue.peek(memory)? else {
        return Ok(None);
    };
    match chain.writable_bytes()?.min(ENTROPY_LIMIT_BYTES as u64) as usize {
        0 => Err(RingFault::Chain),
        bytes => Ok(Some((chain, bytes))),
    }
}

fn answer(queue: &mut Virtqueue, bytes: &[u8], memory: &GuestMemory) -> Result<Served, RingFault> {
    let Some((chain, room)) = oldest_request(queue, memory)? else {
        return Ok(Served { interrupt: false });
    };
    queue.pop(memory)?;
    let written = chain.write(&bytes[..bytes.len().min(room)], memory)?;
    queue.push_used(chain.head, written, memory)?;
    // The next request, if it is broken, is reported now: nobody will ask for its bytes.
    oldest_request(queue, memory)?;
    Ok(Served {
        interrupt: queue.wants_interrupt(memory)?,
    })
}
