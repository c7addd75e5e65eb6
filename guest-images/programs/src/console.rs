//! Lines on the guest's console.

use std::io::Write;

/// Prints `lockstep: {text}` as one line, with one system call. A console that fails is no reason
/// to stop serving.
pub fn say(text: &str) {
    let line = format!("lockstep: {text}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
