//! Every system call that is not KVM's: taps, the console, clocks, the events file.
//!
//! The machine hands out effects as values and takes inputs as values; this is where they meet the
//! world. Nothing here knows about guests, logs or peers.

pub mod clock;
pub mod console;
pub mod disk;
mod error;
pub mod events;
pub mod perf;
pub mod survey;
pub mod tap;

pub use clock::{MonotonicClock, unix_time_s};
pub use console::{Console, ConsoleOutput, RawTerminal, Typed};
pub use error::{HostError, with_causes};
pub use events::{Event, EventSink, Role, StampedEvent};
pub use tap::{MacAddress, Tap, rarp_announcement};

/// Tells the user a line, on standard error. That nobody reads it there must not stop a guest.
pub fn say(text: &str) {
    use std::io::Write;
    // In one write: lines of several processes do not mix.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
