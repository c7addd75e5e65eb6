//! The machine's devices: pure register models.
//!
//! In: port and MMIO accesses of the guest, guest time, and inputs from the log. Out: answers,
//! [`Effect`]s, the INTR line, and what the devices would take next ([`Wants`]).
//! Always: no device holds a file, a clock or a thread, so the state after a sequence of calls is a
//! function of that sequence; nothing that a guest writes makes one panic or work without bound.
//!
//! ```text
//!            port_read, port_write             mmio_read, mmio_write
//!                    │                                  │
//!     ┌──────┬───────┼───────┬────────┐            ┌────┴────┬─────────┐
//!    pit    rtc    serial  i8042   pm_timer       net       rng     disks     ← frame, entropy, disk_done
//!     │0     │8      │4 ↘                          │10       │11      │14, 15, 9, 5      ← tick, console_input
//!     └──────┴───────┤   console → Effect::Print   │→ Effect::SendFrame
//!                    │                             │         │        │→ Effect::Disk
//!                   pic ───────────────────────────┴─────────┴────────┘
//!                    └→ interrupt_pending, acknowledge_interrupt
//! ```

pub mod console;
pub mod i8042;
pub mod pic;
pub mod pit;
pub mod pm_timer;
mod ports;
pub mod rtc;
pub mod serial;
pub mod time;
pub mod virtio;

#[cfg(test)]
mod tests;

use logging_channel::codec::canonical_bytes;
use serde::{Deserialize, Serialize};

use crate::effect::{DiskOperation, DiskRequest, Effect};
use crate::machine::GuestMemory;
use crate::machine::layout::{
    DISK_IRQS, MAX_DISKS, MMIO_STRIDE, NET_IRQ, NET_MMIO, RNG_IRQ, RNG_MMIO, RTC_IRQ, SERIAL_IRQ,
    TIMER_IRQ, disk_mmio,
};
use console::Console;
use i8042::I8042;
use pic::PicPair;
use pit::Pit;
use ports::{Register, register_at};
use rtc::Rtc;
use serial::Serial;
use virtio::block::Block;
pub use virtio::block::{BlockConfig, DiskAnswer};
use virtio::mmio::Transport;
use virtio::net::Net;
use virtio::rng::Rng;

/// What the devices are built from: the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesConfig {
    /// What the real-time clock shows at guest time 0, seconds since 1970.
    pub unix_time_s: u64,
    /// Address of the network card; without one there is no card.
    pub mac: Option<[u8; 6]>,
    /// Guest memory, for the sizes in CMOS RAM.
    pub memory_bytes: u64,
    /// The disks, at most [`MAX_DISKS`], in order of their numbers.
    pub disks: Vec<BlockConfig>,
}

/// What the machine would take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// When a timer is due next, guest ns. It lies after the last tick.
    pub deadline_ns: Option<u64>,
    /// The receive ring has room for a frame of [`virtio::net::RECEIVE_FRAME_BYTES`].
    pub frame: bool,
    /// Free bytes of the serial port's receive FIFO.
    pub console_input_room: usize,
    /// Size of the oldest entropy request, 1 to [`virtio::rng::ENTROPY_LIMIT_BYTES`].
    pub entropy_bytes: Option<usize>,
}

/// All devices of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Devices {
    pic: PicPair,
    pit: Pit,
    rtc: Rtc,
    serial: Serial,
    console: Console,
    i8042: I8042,
    net: Option<Transport<Net>>,
    rng: Transport<Rng>,
    disks: Vec<Transport<Block>>,
    /// The latest guest time given to any device.
    now_ns: u64,
    /// Effects since [`Devices::take_effects`]. They belong to the exit that made them, not to the
    /// state: take them before the state is saved or hashed.
    #[serde(skip)]
    outbox: Vec<Effect>,
}

impl Devices {
    /// The devices of a machine that has just been switched on, at guest time 0.
    ///
    /// # Panics
    /// If there are more than [`MAX_DISKS`] disks, or one is larger than [`virtio::block::DISK_LIMIT_SECTORS`].
    #[must_use]
    pub fn new(config: &DevicesConfig) -> Self {
        let count = config.disks.len();
        assert!(count <= MAX_DISKS, "{count} disks");
        let disks = (0u8..).zip(&config.disks);
        Self {
            pic: PicPair::new(),
            pit: Pit::new(),
            rtc: Rtc::new(config.unix_time_s, config.memory_bytes),
            serial: Serial::new(),
            console: Console::default(),
            i8042: I8042::new(),
            net: config.mac.map(|mac| Transport::new(Net::new(mac))),
            rng: Transport::new(Rng::default()),
            disks: disks
                .map(|(disk, config)| Transport::new(Block::new(disk, config.clone())))
                .collect(),
            now_ns: 0,
            outbox: Vec::new(),
        }
    }

    /// Whether an access to this port depends on the time (give `Event::Time` before it). It is a
    /// function of the devices' state, so every replica answers alike.
    #[must_use]
    pub fn port_needs_time(&self, port: u16, write: bool) -> bool {
        match register_at(port) {
            Some(Register::Pit(index)) => write || self.pit.read_needs_time(index),
            Some(Register::RtcData) => self.rtc.needs_time(write),
            Some(Register::Speaker) => true,
            Some(Register::PmTimer(_)) => !write,
            _ => false,
        }
    }

    /// Reads `width` bytes (1, 2 or 4) at `port`. Ports where nothing answers read all ones; an access
    /// wider than its registers is split into bytes, as the ISA bus does. `now_ns` is the last known
    /// guest time where [`Self::port_needs_time`] is false.
    pub fn port_read(&mut self, port: u16, width: u8, now_ns: u64) -> u32 {
        let now_ns = self.advance(now_ns);
        let mut bytes = [0xFF; 4];
        for (byte, register) in bytes.iter_mut().zip(registers(port, width)) {
            if let Some(register) = register {
                *byte = self.read_register(register, now_ns);
            }
        }
        self.drive_lines();
        let unused_bits = 32 - 8 * u32::from(width.clamp(1, 4));
        u32::from_le_bytes(bytes) & (u32::MAX >> unused_bits)
    }

    /// Writes the low `width` bytes (1, 2 or 4) of `value` at `port`.
    pub fn port_write(&mut self, port: u16, width: u8, value: u32, now_ns: u64) {
        let now_ns = self.advance(now_ns);
        for (byte, register) in value.to_le_bytes().into_iter().zip(registers(port, width)) {
            if let Some(register) = register {
                self.write_register(register, byte, now_ns);
            }
        }
        self.drive_lines();
    }

    fn read_register(&mut self, register: Register, now_ns: u64) -> u8 {
        match register {
            Register::PicCommand(which) => self.pic.read(which, false),
            Register::PicData(which) => self.pic.read(which, true),
            Register::Elcr(which) => self.pic.elcr(which),
            Register::Pit(index) => self.pit.read(index, now_ns),
            Register::Speaker => self.pit.read_speaker(now_ns),
            Register::RtcIndex => 0xFF,
            Register::RtcData => self.rtc.read(now_ns),
            Register::I8042Data => self.i8042.read_data(),
            Register::I8042Command => self.i8042.read_status(),
            Register::FastA20 => self.i8042.read_fast_a20(),
            Register::ResetControl => self.i8042.read_reset_control(),
            Register::Serial(index) => self.serial.read(index),
            Register::PmTimer(index) => pm_timer::read(index, now_ns),
        }
    }

    fn write_register(&mut self, register: Register, value: u8, now_ns: u64) {
        match register {
            Register::PicCommand(which) => self.pic.write(which, false, value),
            Register::PicData(which) => self.pic.write(which, true, value),
            Register::Elcr(which) => self.pic.set_elcr(which, value),
            Register::Pit(index) => self.pit.write(index, value, now_ns),
            Register::Speaker => self.pit.write_speaker(value, now_ns),
            Register::RtcIndex => self.rtc.select(value),
            Register::RtcData => self.rtc.write(value, now_ns),
            Register::I8042Data => self.i8042.write_data(value),
            Register::I8042Command => self.i8042.write_command(value),
            Register::FastA20 => self.i8042.write_fast_a20(value),
            Register::ResetControl => self.i8042.write_reset_control(value),
            Register::Serial(index) => self.write_serial(index, value),
            Register::PmTimer(_) => {}
        }
    }

    fn write_serial(&mut self, index: u16, value: u8) {
        if let Some(sent) = self.serial.write(index, value) {
            self.outbox
                .extend(self.console.push(sent).map(Effect::Print));
        }
    }

    /// Reads `data.len()` bytes at `address`; all ones where nothing answers.
    pub fn mmio_read(&mut self, address: u64, data: &mut [u8]) {
        let Some((window, offset)) = mmio_window(address, data.len()) else {
            return data.fill(0xFF);
        };
        match window {
            Window::Net => match &self.net {
                Some(net) => net.read(offset, data),
                None => data.fill(0xFF),
            },
            Window::Rng => self.rng.read(offset, data),
            Window::Disk(disk) => match self.disks.get(disk) {
                Some(disk) => disk.read(offset, data),
                None => data.fill(0xFF),
            },
        }
    }

    /// Writes `data` at `address`. A notification of a queue is served before this returns.
    pub fn mmio_write(&mut self, address: u64, data: &[u8], memory: &GuestMemory) {
        let Some((window, offset)) = mmio_window(address, data.len()) else {
            return;
        };
        let outbox = &mut self.outbox;
        match window {
            Window::Net => {
                if let Some(net) = &mut self.net {
                    net.write(offset, data, memory, outbox);
                }
            }
            Window::Rng => self.rng.write(offset, data, memory, outbox),
            Window::Disk(disk) => {
                if let Some(disk) = self.disks.get_mut(disk) {
                    disk.write(offset, data, memory, outbox);
                }
            }
        }
        self.drive_lines();
    }

    /// The effects of the calls since the last time, in order. Console bytes come in runs: see [`console`].
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.outbox)
    }

    /// Whether effects wait to be taken.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Ends the console's run of bytes. Called at points that are a function of the guest alone: HLT
    /// and the delivery of an interrupt.
    pub fn flush_console(&mut self) {
        self.outbox.extend(self.console.flush().map(Effect::Print));
    }

    /// What the machine would take now.
    #[must_use]
    pub fn wants(&self, memory: &GuestMemory) -> Wants {
        Wants {
            deadline_ns: self.deadline_ns(),
            frame: self.takes_frame(memory),
            console_input_room: self.console_input_room(),
            entropy_bytes: self.entropy_bytes(memory),
        }
    }

    /// [`Wants::deadline_ns`] alone.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        let deadlines = [self.pit.deadline_ns(), self.rtc.deadline_ns()];
        deadlines.into_iter().flatten().min()
    }

    /// [`Wants::frame`] alone; it reads the ring.
    #[must_use]
    pub fn takes_frame(&self, memory: &GuestMemory) -> bool {
        self.net
            .as_ref()
            .is_some_and(|net| net.has_receive_room(memory))
    }

    /// [`Wants::console_input_room`] alone.
    #[must_use]
    pub fn console_input_room(&self) -> usize {
        self.serial.input_room()
    }

    /// [`Wants::entropy_bytes`] alone; it reads the ring.
    #[must_use]
    pub fn entropy_bytes(&self, memory: &GuestMemory) -> Option<usize> {
        self.rng.requested_bytes(memory)
    }

    /// Fires the timers that are due by `now_ns`.
    pub fn tick(&mut self, now_ns: u64) {
        let now_ns = self.advance(now_ns);
        self.pit.tick(now_ns);
        self.rtc.tick(now_ns);
        self.drive_lines();
    }

    /// A frame enters the receive ring; it is dropped where there is no room for it.
    pub fn receive_frame(&mut self, bytes: &[u8], memory: &GuestMemory) {
        if let Some(net) = &mut self.net {
            net.receive(bytes, memory);
        }
        self.drive_lines();
    }

    /// Bytes enter the serial port's FIFO; what does not fit is lost to an overrun.
    pub fn console_input(&mut self, bytes: &[u8]) {
        self.serial.receive(bytes);
        self.drive_lines();
    }

    /// Random bytes answer the oldest entropy request.
    pub fn entropy(&mut self, bytes: &[u8], memory: &GuestMemory) {
        self.rng.answer(bytes, memory);
        self.drive_lines();
    }

    /// A request to a disk ended: what [`Self::disk_request`] does not know is ignored.
    pub fn disk_done(
        &mut self,
        disk: u8,
        request: u64,
        answer: DiskAnswer<'_>,
        memory: &GuestMemory,
    ) {
        if let Some(disk) = self.disks.get_mut(usize::from(disk)) {
            disk.done(request, answer, memory, &mut self.outbox);
        }
        self.drive_lines();
    }

    /// What a disk was asked to do and has not answered. The guest may have abandoned the request; its answer is awaited all the same.
    #[must_use]
    pub fn disk_request(&self, disk: u8, request: u64) -> Option<&DiskOperation> {
        let disk = self.disks.get(usize::from(disk))?;
        disk.device().request(request)
    }

    /// All that the disks were asked to do and have not answered, in order of disk and request: each [`Self::disk_request`] knows.
    #[must_use]
    pub fn disk_requests(&self) -> Vec<DiskRequest> {
        let requests = self.disks.iter().map(|disk| disk.device().requests());
        requests.flatten().collect()
    }

    /// The level of INTR, the processor's interrupt line.
    #[must_use]
    pub fn interrupt_pending(&self) -> bool {
        self.pic.interrupt_pending()
    }

    /// Whether a request other than the timer's is waiting, so that a timer that never rests
    /// need not starve the others.
    #[must_use]
    pub fn other_interrupt_pending(&self) -> bool {
        self.pic.other_interrupt_pending()
    }

    /// The processor's acknowledge cycle: the vector of the highest request. Where
    /// [`Self::interrupt_pending`] is false, the spurious vector.
    pub fn acknowledge_interrupt(&mut self) -> u8 {
        self.pic.acknowledge()
    }

    /// Whether the guest has asked for a reset. It stays so.
    #[must_use]
    pub fn reset_requested(&self) -> bool {
        self.i8042.reset_requested()
    }

    /// All state, for a snapshot.
    pub fn state(&self) -> impl Serialize {
        self
    }

    /// Hashes all state; of data on its way to a disk, its digest.
    ///
    /// # Panics
    /// If effects wait to be taken: they are no part of the state, and would be forgotten.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        assert!(
            self.outbox.is_empty(),
            "effects are taken before the state is hashed"
        );
        if self.disks.is_empty() {
            hasher.update(&canonical_bytes(self));
            return;
        }
        let mut light = self.clone();
        for disk in &mut light.disks {
            disk.device_mut().forget_data();
        }
        hasher.update(&canonical_bytes(&light));
    }

    /// Guest time never goes back, whatever is passed in.
    fn advance(&mut self, now_ns: u64) -> u64 {
        self.now_ns = self.now_ns.max(now_ns);
        self.now_ns
    }

    /// Brings the interrupt lines to the levels that the devices now have.
    fn drive_lines(&mut self) {
        if self.pit.take_edge() {
            self.pic.set_irq(TIMER_IRQ, false);
            self.pic.set_irq(TIMER_IRQ, true);
        }
        self.pic.set_irq(RTC_IRQ, self.rtc.interrupt());
        self.pic.set_irq(SERIAL_IRQ, self.serial.interrupt());
        self.pic
            .set_irq(NET_IRQ, self.net.as_ref().is_some_and(Transport::interrupt));
        self.pic.set_irq(RNG_IRQ, self.rng.interrupt());
        for (disk, irq) in self.disks.iter().zip(DISK_IRQS) {
            self.pic.set_irq(irq, disk.interrupt());
        }
    }
}

/// The registers that an access touches, one for each byte. Port 0xCF9 answers to byte accesses
/// alone: a 32-bit write to 0xCF8, PCI's address register, must not reset the machine.
fn registers(port: u16, width: u8) -> impl Iterator<Item = Option<Register>> {
    (0..u16::from(width.clamp(1, 4))).map(move |index| {
        let register = register_at(port.wrapping_add(index));
        register.filter(|register| *register != Register::ResetControl || width == 1)
    })
}

/// A device's stretch of MMIO addresses.
enum Window {
    Net,
    Rng,
    Disk(usize),
}

/// The window in which an access lies wholly, and its offset there.
fn mmio_window(address: u64, length: usize) -> Option<(Window, u64)> {
    let offset_in = |base: u64| {
        let offset = address.checked_sub(base)?;
        let end = offset.checked_add(length as u64)?;
        (end <= MMIO_STRIDE).then_some(offset)
    };
    let net = offset_in(NET_MMIO).map(|offset| (Window::Net, offset));
    let rng = || offset_in(RNG_MMIO).map(|offset| (Window::Rng, offset));
    let disk = || {
        let mut disks = 0..MAX_DISKS;
        disks.find_map(|disk| Some((Window::Disk(disk), offset_in(disk_mmio(disk))?)))
    };
    net.or_else(rng).or_else(disk)
}
