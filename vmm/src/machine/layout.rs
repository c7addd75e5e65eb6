//! Where things are in the machine: ports, addresses and interrupt lines.
//!
//! Guests (`guest-images/`) and devices share these numbers; most are the PC's own.

/// First 8259: command and data port; the second is at [`PIC_SLAVE_PORT`].
pub const PIC_MASTER_PORT: u16 = 0x20;
/// Second 8259, on the first one's IRQ 2.
pub const PIC_SLAVE_PORT: u16 = 0xA0;
/// Edge/level control registers, one byte for each 8259.
pub const PIC_ELCR_PORT: u16 = 0x4D0;
/// 8254 counters 0 to 2 and its control word, four ports.
pub const PIT_PORT: u16 = 0x40;
/// System control port B: gate and output of PIT counter 2.
pub const PIT_SPEAKER_PORT: u16 = 0x61;
/// i8042 data port; its command and status port is [`I8042_COMMAND_PORT`].
pub const I8042_DATA_PORT: u16 = 0x60;
/// i8042 command and status port. Command 0xFE resets the machine.
pub const I8042_COMMAND_PORT: u16 = 0x64;
/// MC146818 real-time clock: index port; data port follows.
pub const RTC_PORT: u16 = 0x70;
/// PCI reset control register: writing 0x06 or 0x0E resets the machine.
pub const RESET_PORT: u16 = 0xCF9;
/// First serial port (16550), eight ports.
pub const SERIAL_PORT: u16 = 0x3F8;
/// ACPI power-management timer, 32 bits wide, 3.579545 MHz.
pub const PM_TIMER_PORT: u16 = 0x608;
/// What the loader makes of `rdtsc`: `in eax, 0xEE`.
pub const RDTSC_PORT: u16 = 0xEE;
/// What the loader makes of `rdtscp`: `in eax, 0xEF; nop`.
pub const RDTSCP_PORT: u16 = 0xEF;

/// PIT counter 0.
pub const TIMER_IRQ: u8 = 0;
/// First serial port.
pub const SERIAL_IRQ: u8 = 4;
/// Real-time clock.
pub const RTC_IRQ: u8 = 8;
/// virtio-net. Lines 8 to 15 have priority over 3 to 7 on a PC.
pub const NET_IRQ: u8 = 10;
/// virtio-rng.
pub const RNG_IRQ: u8 = 11;
/// virtio-blk, one for each disk: lines that nothing else in the machine has.
pub const DISK_IRQS: [u8; MAX_DISKS] = [14, 15, 9, 5];

/// Guest memory ends here at the latest; device memory begins.
pub const MMIO_START: u64 = 0xD000_0000;
/// Bytes from one virtio-mmio device to the next.
pub const MMIO_STRIDE: u64 = 0x1000;
/// virtio-net's register file.
pub const NET_MMIO: u64 = MMIO_START;
/// virtio-rng's register file.
pub const RNG_MMIO: u64 = MMIO_START + MMIO_STRIDE;
/// Disks of a machine, at most.
pub const MAX_DISKS: usize = 4;

/// virtio-blk's register file, of disk number `disk`: after virtio-rng's.
#[must_use]
pub const fn disk_mmio(disk: usize) -> u64 {
    RNG_MMIO + (1 + disk as u64) * MMIO_STRIDE
}

/// Frequency of the machine's time-stamp counter as the guest reads it, hertz.
pub const TSC_HZ: u64 = 1_000_000_000;
