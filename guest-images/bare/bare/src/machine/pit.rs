//! Counter 0 of the 8254, which drives IRQ 0.

use super::port;

/// Counter 0's data port.
const COUNTER: u16 = 0x40;
/// The control word's port.
const CONTROL: u16 = 0x43;
/// Control word: counter 0, low then high byte, mode 2 (rate generator), binary.
const RATE_GENERATOR: u8 = 0x34;
/// Control word: latch counter 0.
const LATCH: u8 = 0x00;
/// The 8254's input clock, hertz.
const INPUT_HZ: u64 = 1_193_182;

/// Ticks on IRQ 0 with about `hz` hertz (19 or more) from now on.
pub fn start(hz: u64) {
    let divisor = (INPUT_HZ / hz.max(1)).clamp(2, 0x1_0000);
    port::write_u8(CONTROL, RATE_GENERATOR);
    port::write_u8(COUNTER, divisor as u8);
    port::write_u8(COUNTER, (divisor >> 8) as u8);
}

/// What counter 0 stands at.
#[must_use]
pub fn count() -> u16 {
    port::write_u8(CONTROL, LATCH);
    u16::from_le_bytes([port::read_u8(COUNTER), port::read_u8(COUNTER)])
}
