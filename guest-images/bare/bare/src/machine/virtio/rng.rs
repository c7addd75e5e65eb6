//! virtio-rng (virtio 1.2 §5.4): one request at a time.

use super::mmio::Transport;
use super::queue::{Direction, Queue, Rings};
use crate::machine::{Global, interrupts};

/// The entropy device's registers.
const BASE: usize = 0xD000_1000;
const DEVICE_ID: u32 = 4;
const QUEUE: u32 = 0;

/// Bytes of one request.
pub const REQUEST: usize = 64;

static RINGS: Global<Rings<1>> = Global::new(Rings::new());
static BUFFER: Global<[[u8; REQUEST]; 1]> = Global::new([[0; REQUEST]]);

/// The entropy device.
pub struct Rng {
    transport: Transport,
    queue: Queue<1>,
    buffer: &'static mut [[u8; REQUEST]; 1],
}

impl Rng {
    /// Brings the device up and its interrupt line; `None` where there is none.
    pub fn open() -> Option<Self> {
        let transport = Transport::open(BASE, DEVICE_ID, 0)?;
        let buffer = BUFFER.take();
        let queue = Queue::new(&RINGS, Direction::FromDevice, buffer);
        transport.add_queue(QUEUE, &queue);
        transport.start();
        interrupts::unmask(interrupts::RNG);
        Some(Self {
            transport,
            queue,
            buffer,
        })
    }

    /// Up to [`REQUEST`] random bytes, at least one; sleeps until the device has them.
    pub fn read(&mut self) -> &[u8] {
        self.queue.offer(0, REQUEST);
        if self.queue.publish() {
            self.transport.notify(QUEUE);
        }
        loop {
            if let Some((_, length)) = self.queue.collect() {
                self.transport.acknowledge();
                return &self.buffer[0][..length.min(REQUEST)];
            }
            interrupts::wait();
            self.transport.acknowledge();
        }
    }
}
