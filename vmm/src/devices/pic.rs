//! The PC's pair of 8259A interrupt controllers (Intel 8259A data sheet, 231468-003).
//!
//! In: the levels of sixteen interrupt lines, and the guest's commands. Out: the INTR line
//! ([`PicPair::interrupt_pending`]) and, at an INTA cycle, a vector.
//! Always: a line's request and its in-service bit change only here; nothing is lost to masking.
//!
//! Initialisation of one chip; it requests nothing before it is ready:
//!
//! ```text
//!             ICW1            ICW2           ICW3 (unless SNGL)    ICW4 (if IC4)
//!   any state ────→ wait ICW2 ────→ wait ICW3 ────→ wait ICW4 ────→ ready: OCW1 to OCW3
//! ```
//!
//! A request on an edge-triggered line follows the data sheet: it is latched by the rising edge,
//! and withdrawn when the line falls before the acknowledge cycle. Devices here hold their line up
//! until they are served, so nothing is lost, and a guest that polls a device dry gets no
//! stale interrupt.

mod chip;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use chip::Chip;

/// Where the slave's INT output goes on the master.
const CASCADE_LINE: u8 = 2;
/// Lines 0, 1 and 2 are always edge-triggered (Intel PIIX3 §2.5.13, ELCR1).
const MASTER_ELCR_MASK: u8 = 0xF8;
/// Lines 8 and 13 are always edge-triggered (Intel PIIX3 §2.5.13, ELCR2).
const SLAVE_ELCR_MASK: u8 = 0xDE;

/// Which of the two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Lines 0 to 7; its INT is the processor's INTR.
    Master,
    /// Lines 8 to 15; its INT is the master's line 2.
    Slave,
}

/// Both controllers, wired as in a PC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PicPair {
    master: Chip,
    slave: Chip,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// Both chips before initialisation.
    #[must_use]
    pub fn new() -> Self {
        Self {
            master: Chip::new(MASTER_ELCR_MASK, 1 << CASCADE_LINE),
            slave: Chip::new(SLAVE_ELCR_MASK, 0),
        }
    }

    /// A device drives interrupt line `line` (0 to 15, not 2) to `level`.
    pub fn set_irq(&mut self, line: u8, level: bool) {
        debug_assert!(line < 16 && line != CASCADE_LINE);
        match line {
            0..8 => self.master.set_line(line, level),
            _ => self.slave.set_line(line & 7, level),
        }
        self.cascade();
    }

    /// Reads a chip's command port (`data` false) or data port.
    pub fn read(&mut self, which: Which, data: bool) -> u8 {
        let value = self.chip(which).read(data);
        self.cascade();
        value
    }

    /// Writes a chip's command port (`data` false) or data port.
    pub fn write(&mut self, which: Which, data: bool, value: u8) {
        self.chip(which).write(data, value);
        self.cascade();
    }

    /// A chip's edge/level control register.
    #[must_use]
    pub fn elcr(&self, which: Which) -> u8 {
        match which {
            Which::Master => self.master.elcr(),
            Which::Slave => self.slave.elcr(),
        }
    }

    /// Sets a chip's edge/level control register.
    pub fn set_elcr(&mut self, which: Which, value: u8) {
        self.chip(which).set_elcr(value);
        self.cascade();
    }

    /// The level of INTR, the processor's interrupt line.
    #[must_use]
    pub fn interrupt_pending(&self) -> bool {
        self.master.requested_line().is_some()
    }

    /// Whether a line other than 0 has an unmasked request, served now or not.
    #[must_use]
    pub fn other_interrupt_pending(&self) -> bool {
        let master = self.master.unmasked_requests() & !1 & !(1 << CASCADE_LINE);
        let cascade_open = !self.master.is_masked(CASCADE_LINE);
        master != 0 || (cascade_open && self.slave.unmasked_requests() != 0)
    }

    /// Both INTA cycles: the vector of the highest request. Without any request, the spurious
    /// vector of line 7 (data sheet, "edge and level triggered modes").
    pub fn acknowledge(&mut self) -> u8 {
        let (line, vector) = self.master.acknowledge();
        let vector = if line == Some(CASCADE_LINE) {
            self.slave.acknowledge().1
        } else {
            vector
        };
        self.cascade();
        vector
    }

    fn chip(&mut self, which: Which) -> &mut Chip {
        match which {
            Which::Master => &mut self.master,
            Which::Slave => &mut self.slave,
        }
    }

    /// The slave's INT drives the master's line 2. The master takes it as a level: a second
    /// request that keeps INT up through an acknowledge cycle, where the chip itself would pulse
    /// INT, is not missed.
    fn cascade(&mut self) {
        self.master
            .set_line(CASCADE_LINE, self.slave.requested_line().is_some());
    }
}
