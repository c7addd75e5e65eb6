//! The first serial port (16550): text out by polling, bytes in by polling or interrupt.

use super::port;
use crate::text::{Decimal, hex};

/// Receive and transmit buffer.
const DATA: u16 = 0x3F8;
/// Interrupt enable register.
const INTERRUPT_ENABLE: u16 = DATA + 1;
/// FIFO control register (write).
const FIFO_CONTROL: u16 = DATA + 2;
/// Line status register.
const LINE_STATUS: u16 = DATA + 5;
/// FIFO control: FIFOs on, both cleared.
const FIFO_ON: u8 = 0x07;
/// Interrupt enable: received data available.
const RECEIVED: u8 = 0x01;
/// Line status: a byte has been received.
const DATA_READY: u8 = 0x01;
/// Line status: the transmit FIFO is empty.
const TRANSMIT_EMPTY: u8 = 0x20;
/// Bytes the transmit FIFO takes once it is empty.
const FIFO_SIZE: usize = 16;

/// Switches the FIFOs on.
pub fn init() {
    port::write_u8(FIFO_CONTROL, FIFO_ON);
}

/// Raises IRQ 4 for each received byte from now on.
pub fn enable_receive_interrupt() {
    port::write_u8(INTERRUPT_ENABLE, RECEIVED);
}

/// The next received byte, if there is one.
#[must_use]
pub fn receive() -> Option<u8> {
    (port::read_u8(LINE_STATUS) & DATA_READY != 0).then(|| port::read_u8(DATA))
}

/// Sends bytes, asking for room once per FIFO.
pub fn send(bytes: &[u8]) {
    for chunk in bytes.chunks(FIFO_SIZE) {
        while port::read_u8(LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
        for &byte in chunk {
            port::write_u8(DATA, byte);
        }
    }
}

/// A line of text on the serial port, sent as it is written: `Line.text("n=").decimal(5).end()`.
#[derive(Clone, Copy)]
pub struct Line;

impl Line {
    /// Text as it stands.
    #[must_use = "a line wants an end"]
    pub fn text(self, text: &str) -> Self {
        send(text.as_bytes());
        self
    }

    /// A decimal number.
    #[must_use = "a line wants an end"]
    pub fn decimal(self, number: u64) -> Self {
        send(Decimal::new(number).as_bytes());
        self
    }

    /// A number as 16 hexadecimal digits.
    #[must_use = "a line wants an end"]
    pub fn hex(self, number: u64) -> Self {
        send(&hex(number));
        self
    }

    /// Ends the line.
    pub fn end(self) {
        send(b"\n");
    }
}
