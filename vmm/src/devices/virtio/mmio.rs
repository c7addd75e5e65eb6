//! The MMIO transport, version 2 (virtio 1.2 §4.2), around any [`VirtioDevice`].
//!
//! In: register accesses. Out: calls to the device when its queues are notified, and the level of the
//! interrupt line ([`Transport::interrupt`]): up while InterruptStatus is not 0.
//!
//! The status register (§2.1, §3.1.1). A driver only adds bits; each step needs the one before:
//!
//! ```text
//!   0 ─→ ACKNOWLEDGE ─→ DRIVER ─→ FEATURES_OK ─────→ DRIVER_OK ── ring fault ─→ NEEDS_RESET
//!   ↑                     features are negotiated ↑   queues work                   │
//!   │                     (kept clear if refused) queues are set up                 │
//!   └──────────────────────────── 0 written ────────────────────────────────────────┘
//! ```
//!
//! Registers are 32 bits wide and aligned; any other access to them reads 0 and writes nothing
//! (§4.2.2.2 leaves it open). The configuration space takes accesses of any width.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use super::queue::{RingFault, Virtqueue};
use crate::effect::Effect;
use crate::machine::GuestMemory;

/// "virt", the MagicValue register.
const MAGIC: u32 = 0x7472_6976;
/// The Version register of modern devices.
const VERSION: u32 = 2;
/// The VendorID register: "LSTP".
const VENDOR: u32 = 0x5054_534C;
/// Descriptors in each queue, at most.
pub const QUEUE_MAX_SIZE: u16 = 256;

/// What a device behind the transport did with its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Buffers were used and the driver wants to know.
    pub interrupt: bool,
}

/// A virtio device: configuration and queues. The transport does the rest.
pub trait VirtioDevice {
    /// virtio device type (virtio 1.2 §5).
    const DEVICE_ID: u32;
    /// Number of queues.
    const QUEUES: usize;
    /// Feature bits offered. VERSION_1 is the transport's.
    fn features(&self) -> u64;
    /// The configuration space, little endian.
    fn config(&self) -> Vec<u8>;
    /// The driver has new buffers in queue `index`. Effects go to `outbox`.
    ///
    /// # Errors
    /// The queue is not usable; the transport then asks the driver for a reset.
    fn notified(
        &mut self,
        index: usize,
        queue: &mut Virtqueue,
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) -> Result<Served, RingFault>;
    /// The driver has reset the device: what it asked for is none of its business any more.
    fn reset(&mut self) {}
}

/// Register file and queues of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transport<D> {
    device: D,
    queues: Vec<Virtqueue>,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    interrupt_status: u32,
}

impl<D: VirtioDevice> Transport<D> {
    /// A device after reset.
    #[must_use]
    pub fn new(device: D) -> Self {
        Self {
            device,
            queues: (0..D::QUEUES)
                .map(|_| Virtqueue::new(QUEUE_MAX_SIZE))
                .collect(),
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            interrupt_status: 0,
        }
    }

    /// The device itself.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device itself.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The level of the interrupt line.
    #[must_use]
    pub fn interrupt(&self) -> bool {
        self.interrupt_status != 0
    }

    /// The device's queue `index`, if the device is live and the queue enabled.
    #[must_use]
    pub fn live_queue(&self, index: usize) -> Option<&Virtqueue> {
        let queue = self.queues.get(index)?;
        (self.is_live() && queue.is_ready()).then_some(queue)
    }

    /// Lets `work` use queue `index`, if [`Self::live_queue`]; then interrupts or stops as it turned out.
    pub fn serve(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut D, &mut Virtqueue) -> Result<Served, RingFault>,
    ) {
        if self.live_queue(index).is_none() {
            return;
        }
        match work(&mut self.device, &mut self.queues[index]) {
            Ok(Served { interrupt: true }) => self.interrupt_status |= VIRTIO_MMIO_INT_VRING,
            Ok(Served { interrupt: false }) => {}
            Err(_) => {
                // §2.1.2: tell the driver by a configuration change notification.
                self.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
                self.interrupt_status |= VIRTIO_MMIO_INT_CONFIG;
            }
        }
    }

    /// Reads `data.len()` bytes at `offset` into the register file.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = config_offset(offset) {
            let config = self.device.config();
            let bytes = config.get(offset..).unwrap_or(&[]);
            let length = bytes.len().min(data.len());
            data[..length].copy_from_slice(&bytes[..length]);
        } else if let (Some(register), Ok(data)) =
            (register_at(offset), <&mut [u8; 4]>::try_from(data))
        {
            *data = self.read_register(register).to_le_bytes();
        }
    }

    fn read_register(&self, offset: u32) -> u32 {
        let queue = self.selected_queue();
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => D::DEVICE_ID,
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.offered(), self.device_features_select)
            }
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => queue.map_or(0, |queue| queue.max_size().into()),
            register::VIRTIO_MMIO_QUEUE_READY => queue.map_or(0, |queue| queue.is_ready().into()),
            register::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt_status,
            register::VIRTIO_MMIO_STATUS => self.status,
            // §4.2.2: a shared memory region that does not exist has length and base of all ones.
            register::VIRTIO_MMIO_SHM_LEN_LOW
            | register::VIRTIO_MMIO_SHM_LEN_HIGH
            | register::VIRTIO_MMIO_SHM_BASE_LOW
            | register::VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            // ConfigGeneration too: no configuration here ever changes.
            _ => 0,
        }
    }

    /// Writes `data` at `offset` into the register file. Configuration spaces are read-only.
    pub fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        memory: &GuestMemory,
        outbox: &mut Vec<Effect>,
    ) {
        let (Some(register), Ok(bytes)) = (register_at(offset), <[u8; 4]>::try_from(data)) else {
            return;
        };
        let value = u32::from_le_bytes(bytes);
        match register {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.write_driver_features(value),
            register::VIRTIO_MMIO_QUEUE_SEL => self.queue_select = value,
            register::VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(value, memory, outbox),
            register::VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt_status &= !value,
            register::VIRTIO_MMIO_STATUS => self.write_status(value),
            _ => self.write_queue_register(register, value, memory),
        }
    }

    fn write_queue_register(&mut self, offset: u32, value: u32, memory: &GuestMemory) {
        let may_set_up =
            self.has(VIRTIO_CONFIG_S_FEATURES_OK) && !self.has(VIRTIO_CONFIG_S_DRIVER_OK);
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else {
            return;
        };
        if offset == register::VIRTIO_MMIO_QUEUE_READY {
            if may_set_up || value == 0 {
                queue.set_ready(value & 1 != 0, memory);
            }
            return;
        }
        if !may_set_up || queue.is_ready() {
            return;
        }
        match offset {
            register::VIRTIO_MMIO_QUEUE_NUM => queue.set_size(value),
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => queue.set_descriptors(Some(value), None),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.set_descriptors(None, Some(value)),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.set_available(Some(value), None),
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.set_available(None, Some(value)),
            register::VIRTIO_MMIO_QUEUE_USED_LOW => queue.set_used(Some(value), None),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => queue.set_used(None, Some(value)),
            _ => {}
        }
    }

    fn write_driver_features(&mut self, value: u32) {
        if !self.has(VIRTIO_CONFIG_S_DRIVER) || self.has(VIRTIO_CONFIG_S_FEATURES_OK) {
            return;
        }
        let (shift, keep) = match self.driver_features_select {
            0 => (0, !0xFFFF_FFFF),
            1 => (32, 0xFFFF_FFFF),
            _ => return,
        };
        self.driver_features = self.driver_features & keep | u64::from(value) << shift;
    }

    fn write_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        self.status |= value & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FAILED);
        if self.has(VIRTIO_CONFIG_S_ACKNOWLEDGE) {
            self.status |= value & VIRTIO_CONFIG_S_DRIVER;
        }
        if self.has(VIRTIO_CONFIG_S_DRIVER) && self.features_acceptable() {
            self.status |= value & VIRTIO_CONFIG_S_FEATURES_OK;
        }
        if self.has(VIRTIO_CONFIG_S_FEATURES_OK) {
            self.status |= value & VIRTIO_CONFIG_S_DRIVER_OK;
        }
    }

    /// §3.1.1, §6.1: only what was offered, and VERSION_1.
    fn features_acceptable(&self) -> bool {
        let offered = self.offered();
        self.driver_features & !offered == 0 && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn offered(&self) -> u64 {
        self.device.features() | 1 << VIRTIO_F_VERSION_1
    }

    /// §4.2.2.1: all registers and queues go back to the state after power-on.
    fn reset(&mut self) {
        self.device.reset();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        self.interrupt_status = 0;
    }

    fn notify(&mut self, index: u32, memory: &GuestMemory, outbox: &mut Vec<Effect>) {
        let index = index as usize;
        self.serve(index, |device, queue| {
            device.notified(index, queue, memory, outbox)
        });
    }

    fn selected_queue(&self) -> Option<&Virtqueue> {
        self.queues.get(self.queue_select as usize)
    }

    fn is_live(&self) -> bool {
        self.has(VIRTIO_CONFIG_S_DRIVER_OK)
            && !self.has(VIRTIO_CONFIG_S_NEEDS_RESET)
            && !self.has(VIRTIO_CONFIG_S_FAILED)
    }

    fn has(&self, bit: u32) -> bool {
        self.status & bit != 0
    }
}

/// The 32-bit half of feature bits that a select register names.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn register_at(offset: u64) -> Option<u32> {
    let offset = u32::try_from(offset).ok()?;
    (offset < register::VIRTIO_MMIO_CONFIG && offset % 4 == 0).then_some(offset)
}

fn config_offset(offset: u64) -> Option<usize> {
    usize::try_from(offset.checked_sub(register::VIRTIO_MMIO_CONFIG.into())?).ok()
}
