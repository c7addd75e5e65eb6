//! What the host refused.

use std::io;
use std::path::PathBuf;

/// What the host refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not a possible name for a network interface.
    #[error("{name:?} is no name for a tap: it needs 1 to 15 letters, digits, '-', '_' or '.'")]
    TapName {
        /// The name.
        name: String,
    },
    /// `/dev/net/tun` cannot be opened.
    #[error("Cannot open /dev/net/tun for tap {name}: {hint}")]
    TapDevice {
        /// The tap's name.
        name: String,
        /// What to do.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The tap cannot be attached to.
    #[error("Cannot attach to tap {name}: {hint}")]
    TapAttach {
        /// The tap's name.
        name: String,
        /// What to do.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The tap's link cannot be brought up.
    #[error(
        "Cannot bring tap {name} up: run as root, or do it beforehand with `ip link set {name} up`"
    )]
    TapUp {
        /// The tap's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The console's file cannot be opened.
    #[error(
        "Cannot open {path:?} for the guest's console: give a file in a folder that can be written to, `stdio` or `none`"
    )]
    ConsoleFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guest's console output cannot be written.
    #[error(
        "Cannot write the guest's console output to {target}: is the disk full, or the reader gone?"
    )]
    ConsoleWrite {
        /// File or standard output.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The terminal's mode cannot be changed.
    #[error(
        "Cannot set the terminal on standard input to raw mode: use `--console none` or a file"
    )]
    Terminal {
        /// Why.
        source: io::Error,
    },
    /// A thread for the console's input cannot be started.
    #[error("Cannot start the thread that reads standard input: is there a limit on processes?")]
    ConsoleThread {
        /// Why.
        source: io::Error,
    },
    /// The events file cannot be opened.
    #[error("Cannot open the events file {path:?}: give a file in a folder that can be written to")]
    EventsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An error and its causes in one line, as the command line shows them.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
