//! The keyboard controller without a keyboard, and the machine's other reset ports.
//!
//! In: commands. Out: [`I8042::reset_requested`]. Enough of the controller answers (self tests,
//! command byte, output port) that a driver that probes it finishes at once.
//!
//! vm-superio's `I8042Device` knows command 0xFE alone, and reports it through a trigger
//! object; a flag is all that a pure machine needs.

use serde::{Deserialize, Serialize};

/// Status: a byte waits in the output buffer.
const STATUS_OUTPUT_FULL: u8 = 0x01;
/// Status: the self test passed.
const STATUS_SYSTEM: u8 = 0x04;
/// Status: the last write went to the command port.
const STATUS_COMMAND: u8 = 0x08;
/// Status: the keyboard is not locked.
const STATUS_UNLOCKED: u8 = 0x10;
/// Status: the byte in the output buffer came from the auxiliary port.
const STATUS_AUXILIARY: u8 = 0x20;

/// Output port bit 0: 0 holds the processor in reset.
const OUTPUT_NO_RESET: u8 = 0x01;
/// Output port bit 1: address line 20 is not masked; it never is here.
const OUTPUT_A20: u8 = 0x02;
/// Command byte: system flag, both ports disabled.
const COMMAND_BYTE_AT_RESET: u8 = 0x34;

/// A command that takes a byte on the data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Nothing,
    WriteCommandByte,
    WriteOutputPort,
    /// 0xD2, 0xD3: the byte comes back in the output buffer.
    Loop {
        auxiliary: bool,
    },
    /// 0xD4: to the auxiliary device, which does not exist.
    Discard,
}

/// Keyboard controller, port 0x92 and port 0xCF9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct I8042 {
    command_byte: u8,
    pending: Pending,
    /// The output buffer: the byte and whether it came from the auxiliary port.
    output: Option<(u8, bool)>,
    last_was_command: bool,
    /// Bits of port 0xCF9 other than the reset itself.
    reset_control: u8,
    reset_requested: bool,
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

impl I8042 {
    /// The controller after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            command_byte: COMMAND_BYTE_AT_RESET,
            pending: Pending::Nothing,
            output: None,
            last_was_command: false,
            reset_control: 0,
            reset_requested: false,
        }
    }

    /// Whether the guest has asked for a reset, by any of the ports here. It stays so.
    #[must_use]
    pub fn reset_requested(&self) -> bool {
        self.reset_requested
    }

    /// Port 0x64: the input buffer is always empty.
    #[must_use]
    pub fn read_status(&self) -> u8 {
        let mut status = STATUS_SYSTEM | STATUS_UNLOCKED;
        if let Some((_, auxiliary)) = self.output {
            status |= STATUS_OUTPUT_FULL | if auxiliary { STATUS_AUXILIARY } else { 0 };
        }
        if self.last_was_command {
            status |= STATUS_COMMAND;
        }
        status
    }

    /// Port 0x60.
    pub fn read_data(&mut self) -> u8 {
        self.output.take().map_or(0, |(byte, _)| byte)
    }

    /// Port 0x64.
    pub fn write_command(&mut self, command: u8) {
        self.last_was_command = true;
        self.pending = Pending::Nothing;
        match command {
            0x20 => self.answer(self.command_byte),
            0x60 => self.pending = Pending::WriteCommandByte,
            0xA7 => self.command_byte |= 0x20,
            0xA8 => self.command_byte &= !0x20,
            // No auxiliary device: its clock line is stuck low.
            0xA9 => self.answer(0x01),
            0xAA => self.answer(0x55),
            0xAB => self.answer(0x00),
            0xAD => self.command_byte |= 0x10,
            0xAE => self.command_byte &= !0x10,
            0xD0 => self.answer(OUTPUT_NO_RESET | OUTPUT_A20),
            0xD1 => self.pending = Pending::WriteOutputPort,
            0xD2 => self.pending = Pending::Loop { auxiliary: false },
            0xD3 => self.pending = Pending::Loop { auxiliary: true },
            0xD4 => self.pending = Pending::Discard,
            // Pulse the output port's low bits where the command has zeros: bit 0 is reset.
            0xF0..=0xFF if command & 1 == 0 => self.reset_requested = true,
            _ => {}
        }
    }

    /// Port 0x60. Without a pending command the byte is for the keyboard, which does not exist.
    pub fn write_data(&mut self, value: u8) {
        self.last_was_command = false;
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::WriteCommandByte => self.command_byte = value,
            Pending::WriteOutputPort => self.reset_requested |= value & OUTPUT_NO_RESET == 0,
            Pending::Loop { auxiliary } => self.output = Some((value, auxiliary)),
            Pending::Discard | Pending::Nothing => {}
        }
    }

    /// Port 0x92: A20 is always on, bit 0 reads as 0.
    #[must_use]
    pub fn read_fast_a20(&self) -> u8 {
        0x02
    }

    /// Port 0x92: bit 0 resets.
    pub fn write_fast_a20(&mut self, value: u8) {
        self.reset_requested |= value & 1 != 0;
    }

    /// Port 0xCF9.
    #[must_use]
    pub fn read_reset_control(&self) -> u8 {
        self.reset_control
    }

    /// Port 0xCF9 (Intel ICH9 §13.7.5): bit 2 resets, bits 1 and 3 say how hard.
    pub fn write_reset_control(&mut self, value: u8) {
        self.reset_control = value & 0x0A;
        self.reset_requested |= value & 0x04 != 0;
    }

    fn answer(&mut self, byte: u8) {
        self.output = Some((byte, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(command: u8) -> u8 {
        let mut controller = I8042::new();
        controller.write_command(command);
        assert_eq!(controller.read_status() & STATUS_OUTPUT_FULL, 1);
        let answer = controller.read_data();
        assert_eq!(controller.read_status() & STATUS_OUTPUT_FULL, 0);
        answer
    }

    #[test]
    fn self_tests_pass() {
        assert_eq!(ask(0xAA), 0x55);
        assert_eq!(ask(0xAB), 0x00);
    }

    #[test]
    fn input_buffer_is_never_full_so_that_kb_wait_ends() {
        assert_eq!(I8042::new().read_status() & 0x02, 0);
    }

    #[test]
    fn command_byte_reads_back() {
        let mut controller = I8042::new();
        controller.write_command(0x60);
        controller.write_data(0x47);
        controller.write_command(0x20);
        assert_eq!(controller.read_data(), 0x47);
    }

    #[test]
    fn every_way_to_reset() {
        let ways: [fn(&mut I8042); 5] = [
            |controller| controller.write_command(0xFE),
            |controller| {
                controller.write_command(0xD1);
                controller.write_data(0xFE);
            },
            |controller| controller.write_fast_a20(0x03),
            |controller| controller.write_reset_control(0x06),
            |controller| controller.write_reset_control(0x0E),
        ];
        for reset in ways {
            let mut controller = I8042::new();
            assert!(!controller.reset_requested());
            reset(&mut controller);
            assert!(controller.reset_requested());
        }
    }

    #[test]
    fn what_does_not_reset() {
        let mut controller = I8042::new();
        controller.write_command(0xFF);
        controller.write_command(0xD1);
        controller.write_data(0x03);
        controller.write_fast_a20(0x02);
        controller.write_reset_control(0x02);
        assert!(!controller.reset_requested());
        assert_eq!(controller.read_reset_control(), 0x02);
    }
}
