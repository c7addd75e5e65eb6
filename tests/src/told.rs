//! One run of `lockstep`, and what it told in its events file.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Output},
};

use vmm::host::{Event, StampedEvent};

use crate::images;

/// Runs `lockstep` with these arguments to its end; its events file is in `folder`.
///
/// # Panics
/// If it cannot be run, or a line of the file is no event.
#[must_use]
pub fn run<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    folder: &Path,
) -> (Output, Vec<Event>) {
    let path = folder.join("told.events");
    // Of an earlier run: files of events are appended to.
    drop(std::fs::remove_file(&path));
    let output = Command::new(images::lockstep())
        .args(arguments)
        .arg("--events")
        .arg(&path)
        .output()
        .expect("lockstep runs");
    // Bad options are told before there is a file.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    let events = lines.map(|line| StampedEvent::parse(line).expect("an events line").event);
    (output, events.collect())
}
