//! virtio-net (virtio 1.2 §5.1) without offloads: frames in, frames out.

use super::mmio::Transport;
use super::queue::{Direction, Queue, Rings};
use crate::machine::Global;
use crate::net::{FRAME_MAX, Frame};

/// The network device's registers.
const BASE: usize = 0xD000_0000;
const DEVICE_ID: u32 = 1;
/// Feature: the device knows its MAC address.
const FEATURE_MAC: u64 = 1 << 5;
const RECEIVE_QUEUE: u32 = 0;
const TRANSMIT_QUEUE: u32 = 1;
/// Bytes of the header before each frame; all zero without offloads (§5.1.6).
const HEADER: usize = 12;
const BUFFER: usize = HEADER + FRAME_MAX;

const RECEIVE_BUFFERS: usize = 32;
const TRANSMIT_BUFFERS: usize = 16;
/// Received buffers go back in batches of this size: each batch is one notification, an exit.
const RECEIVE_BATCH: u16 = 8;

struct Buffers {
    receive: [[u8; BUFFER]; RECEIVE_BUFFERS],
    transmit: [[u8; BUFFER]; TRANSMIT_BUFFERS],
}

static BUFFERS: Global<Buffers> = Global::new(Buffers {
    receive: [[0; BUFFER]; RECEIVE_BUFFERS],
    transmit: [[0; BUFFER]; TRANSMIT_BUFFERS],
});
static RECEIVE_RINGS: Global<Rings<RECEIVE_BUFFERS>> = Global::new(Rings::new());
static TRANSMIT_RINGS: Global<Rings<TRANSMIT_BUFFERS>> = Global::new(Rings::new());

/// The network device.
pub struct Net {
    transport: Transport,
    receive: Queue<RECEIVE_BUFFERS>,
    transmit: Queue<TRANSMIT_BUFFERS>,
    /// Transmit buffers that are ours, one bit each.
    free: u32,
    /// Somebody found no free transmit buffer.
    starved: bool,
    buffers: &'static mut Buffers,
}

impl Net {
    /// Brings the device up; `None` where there is none.
    pub fn open() -> Option<Self> {
        let transport = Transport::open(BASE, DEVICE_ID, FEATURE_MAC)?;
        let buffers = BUFFERS.take();
        let mut receive = Queue::new(&RECEIVE_RINGS, Direction::FromDevice, &mut buffers.receive);
        let transmit = Queue::new(&TRANSMIT_RINGS, Direction::ToDevice, &mut buffers.transmit);
        transport.add_queue(RECEIVE_QUEUE, &receive);
        transport.add_queue(TRANSMIT_QUEUE, &transmit);
        transport.start();
        for index in 0..RECEIVE_BUFFERS {
            receive.offer(index, BUFFER);
        }
        receive.publish();
        transport.notify(RECEIVE_QUEUE);
        Some(Self {
            transport,
            receive,
            transmit,
            free: (1 << TRANSMIT_BUFFERS) - 1,
            starved: false,
            buffers,
        })
    }

    /// The device's own address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        core::array::from_fn(|offset| self.transport.config(offset))
    }

    /// Takes back the interrupt. To be called before the queues are looked at.
    pub fn acknowledge(&self) {
        self.transport.acknowledge();
    }

    /// Hands the next received frame to `answer` together with room for a frame, and sends as many
    /// bytes of that as `answer` says. False: no frame, or no room until the device has sent some.
    pub fn receive(&mut self, answer: impl FnOnce(&[u8], &mut Frame) -> usize) -> bool {
        let Some(free) = self.free_buffer() else {
            return false;
        };
        let Some((index, length)) = self.receive.collect() else {
            return false;
        };
        let received = self.buffers.receive[index]
            .get(HEADER..length)
            .unwrap_or_default();
        let length = answer(received, room(&mut self.buffers.transmit[free]));
        self.offer(free, length);
        self.receive.offer(index, BUFFER);
        true
    }

    /// Has `fill` write a frame and sends as many bytes of it as it says. False: it had nothing to
    /// send, or there is no room.
    pub fn transmit(&mut self, fill: impl FnOnce(&mut Frame) -> usize) -> bool {
        let Some(free) = self.free_buffer() else {
            return false;
        };
        let length = fill(room(&mut self.buffers.transmit[free]));
        self.offer(free, length);
        length > 0
    }

    /// Sets off what was sent since the last time, and gives received buffers back. The queues'
    /// only access to the device: everything else is memory. True: there was no room for
    /// something, and now there may be.
    pub fn flush(&mut self) -> bool {
        if self.receive.unpublished() >= RECEIVE_BATCH && self.receive.publish() {
            self.transport.notify(RECEIVE_QUEUE);
        }
        let starved = core::mem::take(&mut self.starved);
        if self.transmit.unpublished() == 0 {
            return false;
        }
        if self.transmit.publish() {
            self.transport.notify(TRANSMIT_QUEUE);
        }
        starved
    }

    fn offer(&mut self, index: usize, length: usize) {
        if length > 0 {
            self.free &= !(1 << index);
            self.transmit.offer(index, HEADER + length);
        }
    }

    fn free_buffer(&mut self) -> Option<usize> {
        while let Some((index, _)) = self.transmit.collect() {
            self.free |= 1 << index;
        }
        self.starved |= self.free == 0;
        (self.free != 0).then(|| self.free.trailing_zeros() as usize % TRANSMIT_BUFFERS)
    }
}

fn room(buffer: &mut [u8; BUFFER]) -> &mut Frame {
    buffer
        .last_chunk_mut()
        .expect("a buffer is a header and a frame")
}
