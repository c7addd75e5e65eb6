//! The first serial port: a 16550A (National Semiconductor PC16550D data sheet).
//!
//! In: register accesses and received bytes. Out: sent bytes, one by one, and the level of its
//! interrupt line. Sending takes no time: the transmitter is always empty.
//!
//! vm-superio's `Serial` was considered. It has no interrupt line, only a trigger at some events,
//! which an edge-triggered 8259 with level-true inputs cannot use to withdraw a request; reading
//! IIR clears receive interrupts too, pending receive and transmit interrupts together read
//! as "line status", and FCR, overrun and modem-status deltas are missing.
//!
//! The interrupt line is up while any enabled condition holds; IIR shows the first of them:
//!
//! ```text
//!   condition          begins                                ends
//!   line status        overrun                               LSR read
//!   received data      a byte in the FIFO (trigger level)    FIFO drained
//!   transmitter empty  THR written, or IER bit 1 set         IIR read that shows it, IER bit 1 cleared
//!   modem status       an input changed (loopback)           MSR read
//! ```
//!
//! A FIFO below its trigger level reads as "character timeout": the four character times after
//! which the chip says so have passed at once, as everything on this line.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Room for received bytes. A 16550A has 16; a driver cannot see the difference.
pub const RECEIVE_FIFO_BYTES: usize = 64;

const IER_RECEIVED: u8 = 0x01;
const IER_TRANSMITTER_EMPTY: u8 = 0x02;
const IER_LINE_STATUS: u8 = 0x04;
const IER_MODEM_STATUS: u8 = 0x08;

const IIR_NONE: u8 = 0x01;
const IIR_MODEM_STATUS: u8 = 0x00;
const IIR_TRANSMITTER_EMPTY: u8 = 0x02;
const IIR_RECEIVED: u8 = 0x04;
const IIR_LINE_STATUS: u8 = 0x06;
const IIR_TIMEOUT: u8 = 0x0C;
const IIR_FIFOS: u8 = 0xC0;

const FCR_ENABLE: u8 = 0x01;
const FCR_CLEAR_RECEIVER: u8 = 0x02;

const LCR_DIVISOR_ACCESS: u8 = 0x80;

const MCR_LOOPBACK: u8 = 0x10;

const LSR_DATA_READY: u8 = 0x01;
const LSR_OVERRUN: u8 = 0x02;
const LSR_TRANSMITTER_EMPTY: u8 = 0x60;

/// CTS, DSR and DCD: something is connected.
const MODEM_INPUTS: u8 = 0xB0;

/// A 16550A serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: [u8; 2],
    received: VecDeque<u8>,
    overrun: bool,
    transmitter_empty_pending: bool,
    /// Low half of MSR: what changed since it was last read.
    modem_deltas: u8,
}

impl Default for Serial {
    fn default() -> Self {
        Self::new()
    }
}

impl Serial {
    /// The port after reset, at 9600 baud for what it is worth.
    #[must_use]
    pub fn new() -> Self {
        Self {
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0x03,
            modem_control: 0,
            scratch: 0,
            divisor: [12, 0],
            received: VecDeque::new(),
            overrun: false,
            transmitter_empty_pending: false,
            modem_deltas: 0,
        }
    }

    /// The level of the interrupt line. MCR's OUT2, which gates it on a PC, is ignored.
    #[must_use]
    pub fn interrupt(&self) -> bool {
        self.identification() != IIR_NONE
    }

    /// Free bytes of the receive FIFO.
    #[must_use]
    pub fn input_room(&self) -> usize {
        RECEIVE_FIFO_BYTES - self.received.len()
    }

    /// Bytes arrive; those beyond [`Self::input_room`] are lost to an overrun.
    pub fn receive(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.input_room() == 0 {
                self.overrun = true;
                return;
            }
            self.received.push_back(*byte);
        }
    }

    /// Reads register `index` (0 to 7).
    pub fn read(&mut self, index: u16) -> u8 {
        match index & 7 {
            0 | 1 if self.divisor_access() => self.divisor[usize::from(index & 1)],
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.interrupt_enable,
            2 => self.read_identification(),
            3 => self.line_control,
            4 => self.modem_control,
            5 => self.read_line_status(),
            6 => self.read_modem_status(),
            _ => self.scratch,
        }
    }

    /// Writes register `index` (0 to 7); the byte that leaves on the line, if any.
    pub fn write(&mut self, index: u16, value: u8) -> Option<u8> {
        match index & 7 {
            0 | 1 if self.divisor_access() => self.divisor[usize::from(index & 1)] = value,
            0 => return self.transmit(value),
            1 => self.write_interrupt_enable(value),
            2 => self.write_fifo_control(value),
            3 => self.line_control = value,
            4 => self.write_modem_control(value),
            5 | 6 => {}
            _ => self.scratch = value,
        }
        None
    }

    fn divisor_access(&self) -> bool {
        self.line_control & LCR_DIVISOR_ACCESS != 0
    }

    fn loopback(&self) -> bool {
        self.modem_control & MCR_LOOPBACK != 0
    }

    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.transmitter_empty_pending = self.interrupt_enable & IER_TRANSMITTER_EMPTY != 0;
        if self.loopback() {
            self.receive(&[byte]);
            return None;
        }
        Some(byte)
    }

    /// Setting bit 1 while the transmitter is empty interrupts at once (data sheet, "IIR").
    fn write_interrupt_enable(&mut self, value: u8) {
        let newly = value & !self.interrupt_enable;
        self.interrupt_enable = value & 0x0F;
        if newly & IER_TRANSMITTER_EMPTY != 0 {
            self.transmitter_empty_pending = true;
        } else if value & IER_TRANSMITTER_EMPTY == 0 {
            self.transmitter_empty_pending = false;
        }
    }

    fn write_fifo_control(&mut self, value: u8) {
        let toggled = (value ^ self.fifo_control) & FCR_ENABLE != 0;
        if toggled || value & FCR_CLEAR_RECEIVER != 0 {
            self.received.clear();
        }
        let enabled = value & FCR_ENABLE != 0;
        self.fifo_control = if enabled { value & 0xC1 } else { 0 };
    }

    fn write_modem_control(&mut self, value: u8) {
        let before = self.modem_inputs();
        self.modem_control = value & 0x1F;
        let changed = (before ^ self.modem_inputs()) >> 4;
        // The ring indicator's delta marks its trailing edge alone.
        let ring_ended = before & 0x40 != 0 && self.modem_inputs() & 0x40 == 0;
        self.modem_deltas |= changed & 0x0B;
        if ring_ended {
            self.modem_deltas |= 0x04;
        }
    }

    /// MSR's upper half: in loopback MCR's RTS, DTR, OUT1 and OUT2 as CTS, DSR, RI and DCD.
    fn modem_inputs(&self) -> u8 {
        if !self.loopback() {
            return MODEM_INPUTS;
        }
        let control = self.modem_control;
        (control & 0x02) << 3 | (control & 0x01) << 5 | (control & 0x0C) << 4
    }

    fn read_modem_status(&mut self) -> u8 {
        self.modem_inputs() | std::mem::take(&mut self.modem_deltas)
    }

    fn read_line_status(&mut self) -> u8 {
        let mut status = LSR_TRANSMITTER_EMPTY;
        if !self.received.is_empty() {
            status |= LSR_DATA_READY;
        }
        if std::mem::take(&mut self.overrun) {
            status |= LSR_OVERRUN;
        }
        status
    }

    fn read_identification(&mut self) -> u8 {
        let shown = self.identification();
        if shown == IIR_TRANSMITTER_EMPTY {
            self.transmitter_empty_pending = false;
        }
        let fifos = if self.fifo_control & FCR_ENABLE != 0 {
            IIR_FIFOS
        } else {
            0
        };
        shown | fifos
    }

    /// The enabled condition of the highest priority (data sheet, table "interrupt control
    /// functions").
    fn identification(&self) -> u8 {
        let enabled = |bit: u8| self.interrupt_enable & bit != 0;
        if self.overrun && enabled(IER_LINE_STATUS) {
            IIR_LINE_STATUS
        } else if !self.received.is_empty() && enabled(IER_RECEIVED) {
            self.received_identification()
        } else if self.transmitter_empty_pending && enabled(IER_TRANSMITTER_EMPTY) {
            IIR_TRANSMITTER_EMPTY
        } else if self.modem_deltas != 0 && enabled(IER_MODEM_STATUS) {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        }
    }

    fn received_identification(&self) -> u8 {
        let trigger = match self.fifo_control >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        };
        let fifo = self.fifo_control & FCR_ENABLE != 0;
        if fifo && self.received.len() < trigger {
            IIR_TIMEOUT
        } else {
            IIR_RECEIVED
        }
    }
}
