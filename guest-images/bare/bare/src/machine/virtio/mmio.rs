//! A device's register file (virtio 1.2 §4.2.2) and the way to bring it up (§3.1.1).

use super::queue::Queue;
use crate::machine::paging;

const MAGIC: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SELECT: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SELECT: usize = 0x024;
const QUEUE_SELECT: usize = 0x030;
const QUEUE_SIZE_MAX: usize = 0x034;
const QUEUE_SIZE: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_ACK: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESCRIPTORS: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0A0;
const CONFIG: usize = 0x100;

/// "virt", little-endian.
const MAGIC_VALUE: u32 = 0x7472_6976;
/// Register layout 2: virtio 1.0 and later.
const MODERN: u32 = 2;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// Used buffer notification and configuration change notification.
const ALL_INTERRUPTS: u32 = 3;
/// The feature bit without which there is no modern device.
const VERSION_1: u64 = 1 << 32;

/// One device's registers.
pub struct Transport {
    base: usize,
}

impl Transport {
    /// Finds the device of kind `id` at `base` and negotiates `VERSION_1` and what the device
    /// has of `wanted`. `None`: there is no such device.
    pub fn open(base: usize, id: u32, wanted: u64) -> Option<Self> {
        paging::map_device(base as u64);
        let device = Self { base };
        if [MAGIC, VERSION, DEVICE_ID].map(|register| device.read(register))
            != [MAGIC_VALUE, MODERN, id]
        {
            return None;
        }
        device.write(STATUS, 0);
        device.write(STATUS, ACKNOWLEDGE);
        device.write(STATUS, ACKNOWLEDGE | DRIVER);
        let features = device.features() & (wanted | VERSION_1);
        for half in 0..2 {
            device.write(DRIVER_FEATURES_SELECT, half);
            device.write(DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        device.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        (device.read(STATUS) & FEATURES_OK != 0).then_some(device)
    }

    fn features(&self) -> u64 {
        let [low, high] = [0, 1].map(|half| {
            self.write(DEVICE_FEATURES_SELECT, half);
            u64::from(self.read(DEVICE_FEATURES))
        });
        high << 32 | low
    }

    /// Gives a queue to the device.
    ///
    /// # Panics
    /// If the device has no queue of that index and size.
    pub fn add_queue<const N: usize>(&self, index: u32, queue: &Queue<N>) {
        self.write(QUEUE_SELECT, index);
        assert!(self.read(QUEUE_SIZE_MAX) as usize >= N);
        self.write(QUEUE_SIZE, N as u32);
        let parts = queue.addresses();
        for (register, address) in [QUEUE_DESCRIPTORS, QUEUE_DRIVER, QUEUE_DEVICE]
            .into_iter()
            .zip(parts)
        {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(QUEUE_READY, 1);
    }

    /// Sets the device going.
    pub fn start(&self) {
        self.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// Tells the device to look at a queue.
    pub fn notify(&self, queue: u32) {
        self.write(QUEUE_NOTIFY, queue);
    }

    /// Takes back the device's interrupt.
    pub fn acknowledge(&self) {
        self.write(INTERRUPT_ACK, ALL_INTERRUPTS);
    }

    /// A byte of the device's configuration.
    pub fn config(&self, offset: usize) -> u8 {
        // SAFETY: as in `read`; configurations are read in bytes, which change in no device here (§2.5).
        unsafe {
            core::ptr::with_exposed_provenance::<u8>(self.base + CONFIG + offset).read_volatile()
        }
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: `open` has mapped the registers, and reading one has no effect on memory.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.base + register).read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as in `read`; the device writes only to the buffers its queues offer.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u32>(self.base + register)
                .write_volatile(value);
        };
    }
}
