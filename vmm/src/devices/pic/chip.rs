//! One 8259A. See the parent module for the state diagram.

use serde::{Deserialize, Serialize};

/// The vector of a spurious interrupt ends in this line.
const SPURIOUS_LINE: u8 = 7;

/// Which command word the data port takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    /// Nothing was written since power-on, no request leaves the chip.
    PowerOn,
    Icw2,
    Icw3,
    Icw4,
    Ready,
}

/// What a read of the command port shows (OCW3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Shown {
    Requests,
    InService,
}

/// One 8259A interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chip {
    step: Step,
    /// ICW1 bit 1: there is no ICW3.
    single: bool,
    /// ICW1 bit 0: ICW4 follows.
    icw4_follows: bool,
    /// ICW2: upper five bits of the vector.
    vector_base: u8,
    /// ICW3, as written; the wiring of a PC is fixed.
    cascade_lines: u8,
    /// ICW4 bit 1.
    auto_eoi: bool,
    /// ICW4 bit 4.
    special_fully_nested: bool,
    /// Levels of the eight inputs.
    levels: u8,
    /// IRR.
    requests: u8,
    /// ISR.
    in_service: u8,
    /// IMR.
    mask: u8,
    /// Lines with level trigger.
    elcr: u8,
    /// The lines that ELCR may change.
    elcr_mask: u8,
    /// Lines to which slaves are wired: level-sensitive.
    slaves: u8,
    /// The line with the lowest priority; the next one has the highest.
    lowest: u8,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    /// OCW3 bit 2: the next read is a poll.
    poll: bool,
    shown: Shown,
}

impl Chip {
    pub(super) fn new(elcr_mask: u8, slaves: u8) -> Self {
        Self {
            step: Step::PowerOn,
            single: false,
            icw4_follows: false,
            vector_base: 0,
            cascade_lines: 0,
            auto_eoi: false,
            special_fully_nested: false,
            levels: 0,
            requests: 0,
            in_service: 0,
            mask: 0,
            elcr: 0,
            elcr_mask,
            slaves,
            lowest: 7,
            rotate_on_auto_eoi: false,
            special_mask: false,
            poll: false,
            shown: Shown::Requests,
        }
    }

    /// Input `line` (0 to 7) is at `level`.
    pub(super) fn set_line(&mut self, line: u8, level: bool) {
        let bit = 1 << (line & 7);
        let rises = level && self.levels & bit == 0;
        if level {
            self.levels |= bit;
        } else {
            self.levels &= !bit;
            self.requests &= !bit;
        }
        if rises || (level && self.level_triggered() & bit != 0) {
            self.requests |= bit;
        }
    }

    fn level_triggered(&self) -> u8 {
        self.elcr | self.slaves
    }

    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, value: u8) {
        self.elcr = value & self.elcr_mask;
        self.requests |= self.levels & self.elcr;
    }

    pub(super) fn is_masked(&self, line: u8) -> bool {
        self.mask & (1 << line) != 0
    }

    /// Requests that the mask lets through, of any priority.
    pub(super) fn unmasked_requests(&self) -> u8 {
        if self.step == Step::Ready {
            self.requests & !self.mask
        } else {
            0
        }
    }

    /// The line for which INT is up: the highest unmasked request, if it is above all in service
    /// ("fully nested mode", "special mask mode", "special fully nested mode").
    pub(super) fn requested_line(&self) -> Option<u8> {
        let line = self.highest(self.unmasked_requests())?;
        let mut blocking = self.in_service;
        if self.special_mask {
            blocking &= !self.mask;
        }
        if self.special_fully_nested {
            blocking &= !self.slaves;
        }
        match self.highest(blocking) {
            Some(served) if self.rank(served) <= self.rank(line) => None,
            _ => Some(line),
        }
    }

    /// 0 for the line with the highest priority, 7 for the lowest.
    fn rank(&self, line: u8) -> u8 {
        line.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    fn highest(&self, lines: u8) -> Option<u8> {
        (0..8)
            .filter(|line| lines & (1 << line) != 0)
            .min_by_key(|line| self.rank(*line))
    }

    /// An INTA cycle: the line served, if any, and the vector ("interrupt sequence").
    pub(super) fn acknowledge(&mut self) -> (Option<u8>, u8) {
        let line = self.requested_line();
        if let Some(line) = line {
            self.serve(line);
        }
        (line, self.vector_base | line.unwrap_or(SPURIOUS_LINE))
    }

    fn serve(&mut self, line: u8) {
        let bit = 1 << line;
        if self.level_triggered() & bit == 0 {
            self.requests &= !bit;
        }
        if !self.auto_eoi {
            self.in_service |= bit;
        } else if self.rotate_on_auto_eoi {
            self.lowest = line;
        }
    }

    pub(super) fn read(&mut self, data: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            return self.read_poll();
        }
        match (data, self.shown) {
            (true, _) => self.mask,
            (false, Shown::Requests) => self.requests,
            (false, Shown::InService) => self.in_service,
        }
    }

    /// "Poll command": the read acts as INTA and tells the line.
    fn read_poll(&mut self) -> u8 {
        match self.acknowledge() {
            (Some(line), _) => 0x80 | line,
            (None, _) => 0,
        }
    }

    pub(super) fn write(&mut self, data: bool, value: u8) {
        match (data, value) {
            (true, _) => self.write_data(value),
            (false, _) if value & 0x10 != 0 => self.write_icw1(value),
            (false, _) if value & 0x08 != 0 => self.write_ocw3(value),
            (false, _) => self.write_ocw2(value),
        }
    }

    /// "Initialization command words 1 and 2": what ICW1 clears. LTIM (bit 3) is ignored, as in
    /// every PC with edge/level control registers.
    fn write_icw1(&mut self, value: u8) {
        self.requests = self.levels & self.level_triggered();
        self.in_service = 0;
        self.mask = 0;
        self.lowest = 7;
        self.special_mask = false;
        self.rotate_on_auto_eoi = false;
        self.poll = false;
        self.shown = Shown::Requests;
        self.auto_eoi = false;
        self.special_fully_nested = false;
        self.single = value & 0x02 != 0;
        self.icw4_follows = value & 0x01 != 0;
        self.step = Step::Icw2;
    }

    fn write_data(&mut self, value: u8) {
        match self.step {
            Step::PowerOn | Step::Ready => self.mask = value,
            Step::Icw2 => {
                self.vector_base = value & 0xF8;
                self.step = if self.single {
                    self.after_icw3()
                } else {
                    Step::Icw3
                };
            }
            Step::Icw3 => {
                self.cascade_lines = value;
                self.step = self.after_icw3();
            }
            Step::Icw4 => {
                self.special_fully_nested = value & 0x10 != 0;
                self.auto_eoi = value & 0x02 != 0;
                self.step = Step::Ready;
            }
        }
    }

    fn after_icw3(&self) -> Step {
        if self.icw4_follows {
            Step::Icw4
        } else {
            Step::Ready
        }
    }

    /// "Operation control word 2": R, SL, EOI.
    fn write_ocw2(&mut self, value: u8) {
        let line = value & 7;
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            0b001 => {
                self.end_highest();
            }
            0b101 => {
                if let Some(ended) = self.end_highest() {
                    self.lowest = ended;
                }
            }
            0b011 => self.in_service &= !(1 << line),
            0b111 => {
                self.in_service &= !(1 << line);
                self.lowest = line;
            }
            0b110 => self.lowest = line,
            _ => {}
        }
    }

    /// Non-specific EOI. In special mask mode it leaves masked in-service bits alone.
    fn end_highest(&mut self) -> Option<u8> {
        let candidates = if self.special_mask {
            self.in_service & !self.mask
        } else {
            self.in_service
        };
        let line = self.highest(candidates)?;
        self.in_service &= !(1 << line);
        Some(line)
    }

    /// "Operation control word 3": special mask, poll, register to read.
    fn write_ocw3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 0x04 != 0;
        match value & 0x03 {
            0x02 => self.shown = Shown::Requests,
            0x03 => self.shown = Shown::InService,
            _ => {}
        }
    }
}
