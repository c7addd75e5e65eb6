//! Everything that can go wrong between a claim and its answer.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::TermExhausted;

/// Why the arbiter gave no answer.
///
/// After any of these nobody may go live on the strength of the claim. A claim that ended in
/// [`ArbiterError::Unreachable`] may nevertheless have been carried out: ask again with the same
/// identity, and the answer that was lost is given again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArbiterError {
    /// The text does not name an arbiter.
    #[error("Cannot use {given:?} as an arbiter: {reason}. Write file:PATH or tcp:HOST:PORT")]
    Address {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// No answer, for now. The only error after which asking again is worth while.
    #[error(
        "No answer from arbiter {address}: {reason}. Ask again; until it answers nobody goes live"
    )]
    Unreachable {
        /// The arbiter, as in [`crate::Address`].
        address: String,
        /// What was waited for, or what failed.
        reason: String,
    },

    /// The state file exists and cannot be believed. It is never repaired by guessing.
    #[error(
        "Arbiter state file {} is corrupt: {reason}. Its term is lost. Stop every replica that \
         uses it, make sure that none of them is live, then remove the file; the next start makes \
         a new one at term 0",
        path.display()
    )]
    Corrupt {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The state file was there and is gone. A new one would start again at term 0, which could
    /// let a second replica go live.
    #[error(
        "Arbiter state file {} has disappeared. Put it back or remount its disk; if it is lost, \
         stop every replica that uses it and start anew",
        path.display()
    )]
    Missing {
        /// The state file.
        path: PathBuf,
    },

    /// The host refused an operation on the state file.
    #[error("Cannot {action} arbiter state file {}. Check the path, its permissions and its disk", path.display())]
    StateFile {
        /// What was tried.
        action: &'static str,
        /// The state file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },

    /// The term cannot be raised any further.
    #[error(transparent)]
    TermExhausted(#[from] TermExhausted),

    /// The server answered that it cannot decide.
    #[error("Arbiter {address} refuses: {detail}")]
    Refused {
        /// The arbiter, as in [`crate::Address`].
        address: String,
        /// The server's own words.
        detail: String,
    },

    /// Whatever answers at this address does not speak the arbiter's protocol.
    #[error(
        "Arbiter {address} gives an invalid answer: {reason}. Check that the address is that of `lockstep arbiter`, of the same version"
    )]
    Protocol {
        /// The arbiter, as in [`crate::Address`].
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },

    /// The server's listening socket failed.
    #[error("The arbiter cannot accept connections. Restart it; its state is safe")]
    Listen(#[source] io::Error),

    /// The host gave no random bytes for an identity.
    #[error(
        "Cannot read random bytes from the host for an identity. Check that getrandom is allowed here"
    )]
    Random(#[source] io::Error),
}

impl ArbiterError {
    /// Whether asking again, later, may help.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// An error of the host on the state file: `Unreachable` where it means that the disk is away,
    /// `StateFile` where asking again would not help.
    pub(crate) fn state_file(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_away(&source) {
            return Self::Unreachable {
                address: file_address(path),
                reason: format!("cannot {action} the state file: {source}"),
            };
        }
        let path = path.to_owned();
        Self::StateFile {
            action,
            path,
            source,
        }
    }

    /// The message with those of its sources, for the far end of a connection.
    pub(crate) fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

/// How a state file is called as an arbiter.
pub(crate) fn file_address(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// Errors by which a shared disk says that it cannot be reached just now.
fn is_away(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const AWAY: [Errno; 9] = [
        Errno::IO,
        Errno::STALE,
        Errno::TIMEDOUT,
        Errno::REMOTEIO,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::NODEV,
        Errno::NOLCK,
    ];
    let code = error.raw_os_error();
    AWAY.iter().any(|errno| code == Some(errno.raw_os_error()))
}
