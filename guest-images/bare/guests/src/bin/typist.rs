//! Reads lines from the serial port by interrupt and prints each one backwards. `quit` ends it.
//!
//! Prints `ready` when it listens. A line ends with CR or LF; empty ones are passed over, and
//! what goes beyond 256 bytes is dropped.

#![no_std]
#![no_main]

use bare::machine::interrupts;
use bare::machine::serial::{self, Line};
use bare::options::Options;

const LINE_MAX: usize = 256;

bare::guest!(main);

fn main(_: Options) {
    serial::init();
    interrupts::unmask(interrupts::SERIAL);
    serial::enable_receive_interrupt();
    Line.text("ready").end();
    let mut line = [0; LINE_MAX];
    let mut length = 0;
    loop {
        while let Some(byte) = serial::receive() {
            if byte != b'\n' && byte != b'\r' {
                if let Some(slot) = line.get_mut(length) {
                    *slot = byte;
                    length += 1;
                }
                continue;
            }
            let typed = &mut line[..length];
            length = 0;
            if typed == b"quit" {
                Line.text("typist end").end();
                return;
            }
            if !typed.is_empty() {
                typed.reverse();
                serial::send(typed);
                serial::send(b"\n");
            }
        }
        interrupts::wait();
    }
}
