//! A split virtqueue (virtio 1.2 §2.7): of single-descriptor buffers, where descriptor i is buffer
//! i ([`Queue`]), or of chains, where a chain is named by its first descriptor ([`Chains`]).
//!
//! Driver and device never run at once here: the device looks at the rings while the processor has
//! exited, so that the compiler's order of loads and stores is all there is to keep.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::machine::Global;

/// Descriptor flag: the chain goes on.
const NEXT: u16 = 1;
/// Descriptor flag: the device writes to the buffer.
const DEVICE_WRITES: u16 = 2;
/// Available ring flag: no interrupt for used buffers, please.
const NO_INTERRUPT: u16 = 1;
/// Used ring flag: no notification for available buffers, please.
const NO_NOTIFY: u16 = 1;

#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
struct Available<const N: usize> {
    flags: u16,
    index: u16,
    ring: [u16; N],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct UsedElement {
    id: u32,
    length: u32,
}

#[repr(C, align(4))]
struct Used<const N: usize> {
    flags: u16,
    index: u16,
    ring: [UsedElement; N],
}

/// The memory that driver and device share. N is a power of two.
#[repr(C, align(16))]
pub struct Rings<const N: usize> {
    descriptors: [Descriptor; N],
    available: Available<N>,
    used: Used<N>,
}

impl<const N: usize> Rings<N> {
    /// Empty rings.
    pub const fn new() -> Self {
        assert!(N.is_power_of_two());
        Self {
            descriptors: [Descriptor {
                address: 0,
                length: 0,
                flags: 0,
                next: 0,
            }; N],
            available: Available {
                flags: 0,
                index: 0,
                ring: [0; N],
            },
            used: Used {
                flags: 0,
                index: 0,
                ring: [UsedElement { id: 0, length: 0 }; N],
            },
        }
    }
}

/// What the device does with a queue's buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It fills them, and interrupts when it has.
    FromDevice,
    /// It reads them, and says nothing about it.
    ToDevice,
}

/// The driver's end of a queue.
pub struct Queue<const N: usize> {
    rings: &'static mut Rings<N>,
    /// The available index, counting buffers that the device has not been told of yet.
    offered: u16,
    /// The used index up to which buffers have come back.
    collected: u16,
}

impl<const N: usize> Queue<N> {
    /// A queue over N buffers, none of them offered yet.
    pub fn new<const SIZE: usize>(
        rings: &'static Global<Rings<N>>,
        direction: Direction,
        buffers: &mut [[u8; SIZE]; N],
    ) -> Self {
        let rings = rings.take();
        let from_device = direction == Direction::FromDevice;
        for (descriptor, buffer) in rings.descriptors.iter_mut().zip(buffers) {
            descriptor.address = buffer.as_mut_ptr().expose_provenance() as u64;
            descriptor.length = SIZE as u32;
            descriptor.flags = if from_device { DEVICE_WRITES } else { 0 };
        }
        rings.available.flags = if from_device { 0 } else { NO_INTERRUPT };
        Self {
            rings,
            offered: 0,
            collected: 0,
        }
    }

    /// Guest-physical addresses of descriptor table, available ring and used ring.
    pub fn addresses(&self) -> [u64; 3] {
        let rings = &*self.rings;
        [
            (&raw const rings.descriptors).expose_provenance() as u64,
            (&raw const rings.available).expose_provenance() as u64,
            (&raw const rings.used).expose_provenance() as u64,
        ]
    }

    /// Offers the first `length` bytes of buffer `index`; the device hears of it on [`publish`](Self::publish).
    pub fn offer(&mut self, index: usize, length: usize) {
        self.rings.descriptors[index % N].length = length as u32;
        self.rings.available.ring[usize::from(self.offered) % N] = index as u16;
        self.offered = self.offered.wrapping_add(1);
    }

    /// Buffers offered and not yet published.
    pub fn unpublished(&self) -> u16 {
        self.offered.wrapping_sub(self.rings.available.index)
    }

    /// Shows the device what was offered. True: it wants to be notified.
    pub fn publish(&mut self) -> bool {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: a field of ours; volatile, for the device reads it.
        unsafe { (&raw mut self.rings.available.index).write_volatile(self.offered) };
        compiler_fence(Ordering::SeqCst);
        // SAFETY: a field of ours; volatile, for the device writes it.
        unsafe { (&raw const self.rings.used.flags).read_volatile() & NO_NOTIFY == 0 }
    }

    /// A buffer that the device has done with: its index, and how many bytes it wrote.
    pub fn collect(&mut self) -> Option<(usize, usize)> {
        // SAFETY: a field of ours; volatile, for the device writes it.
        let index = unsafe { (&raw const self.rings.used.index).read_volatile() };
        if index == self.collected {
            return None;
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the index is below N; volatile, for the device writes it.
        let element = unsafe {
            (&raw const self.rings.used.ring[usize::from(self.collected) % N]).read_volatile()
        };
        self.collected = self.collected.wrapping_add(1);
        Some((element.id as usize % N, element.length as usize))
    }
}

/// A part of a chain.
#[derive(Clone, Copy)]
pub struct Part {
    address: u64,
    length: u32,
    flags: u16,
}

impl Part {
    /// Memory that the device reads.
    pub fn to_device<T>(memory: *const T, length: usize) -> Self {
        Self {
            address: memory.expose_provenance() as u64,
            length: length as u32,
            flags: 0,
        }
    }

    /// Memory that the device writes.
    pub fn from_device<T>(memory: *mut T, length: usize) -> Self {
        Self {
            address: memory.expose_provenance() as u64,
            length: length as u32,
            flags: DEVICE_WRITES,
        }
    }
}

/// The driver's end of a queue of chains, whose device interrupts when it has done one.
pub struct Chains<const N: usize> {
    queue: Queue<N>,
}

impl<const N: usize> Chains<N> {
    /// A queue without chains.
    pub fn new(rings: &'static Global<Rings<N>>) -> Self {
        Self {
            queue: Queue {
                rings: rings.take(),
                offered: 0,
                collected: 0,
            },
        }
    }

    /// The queue itself.
    pub fn queue(&self) -> &Queue<N> {
        &self.queue
    }

    /// Offers a chain in the descriptors from `first` on, which must be ours; the device hears of it on
    /// [`publish`](Self::publish).
    pub fn offer(&mut self, first: usize, parts: &[Part]) {
        for (offset, part) in parts.iter().enumerate() {
            let index = first + offset;
            let goes_on = offset + 1 < parts.len();
            self.queue.rings.descriptors[index % N] = Descriptor {
                address: part.address,
                length: part.length,
                flags: part.flags | if goes_on { NEXT } else { 0 },
                next: (index + 1) as u16,
            };
        }
        let at = usize::from(self.queue.offered) % N;
        self.queue.rings.available.ring[at] = first as u16;
        self.queue.offered = self.queue.offered.wrapping_add(1);
    }

    /// See [`Queue::publish`].
    pub fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// The first descriptor of a chain that the device has done with.
    pub fn collect(&mut self) -> Option<usize> {
        self.queue.collect().map(|(first, _)| first)
    }
}
