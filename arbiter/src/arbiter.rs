//! What a replica holds: either backend, behind the same two questions.

use std::time::Duration;

use crate::address::Address;
use crate::core::{Identity, Outcome, State};
use crate::error::ArbiterError;
use crate::file::FileArbiter;
use crate::tcp::TcpArbiter;

/// An arbiter, wherever it is. Cheap to clone; needs a tokio runtime with I/O and time enabled.
#[derive(Debug, Clone)]
pub enum Arbiter {
    /// `file:PATH`.
    File(FileArbiter),
    /// `tcp:HOST:PORT`.
    Tcp(TcpArbiter),
}

impl Arbiter {
    /// The arbiter at `address`. Touches neither disk nor network: that begins with the first question.
    pub fn new(address: Address) -> Self {
        match address {
            Address::File(path) => Self::File(FileArbiter::new(path)),
            Address::Tcp { host, port } => Self::Tcp(TcpArbiter::new(host, port)),
        }
    }

    /// Where this arbiter is.
    pub fn address(&self) -> Address {
        match self {
            Self::File(file) => Address::File(file.path().to_owned()),
            Self::Tcp(tcp) => tcp.address(),
        }
    }

    /// The current state.
    ///
    /// # Errors
    ///
    /// [`ArbiterError::Unreachable`] when no answer came within `timeout`; any other
    /// [`ArbiterError`] means that asking again will not help.
    pub async fn read(&self, timeout: Duration) -> Result<State, ArbiterError> {
        match self {
            Self::File(file) => file.read(timeout).await,
            Self::Tcp(tcp) => tcp.read(timeout).await,
        }
    }

    /// Claims, for `identity`, the term after `expected_term`. The answer is final and on stable
    /// storage; asking again with the same identity gives it again.
    ///
    /// # Errors
    ///
    /// [`ArbiterError::Unreachable`] when no answer came within `timeout`: the claim may then have
    /// been carried out or not, or be carried out a little later, so ask again, with the same
    /// identity, until there is an answer. Any other [`ArbiterError`] means that asking again will
    /// not help. After no error may the claimant go live.
    pub async fn claim(
        &self,
        expected_term: u64,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Outcome, ArbiterError> {
        match self {
            Self::File(file) => file.claim(expected_term, identity, timeout).await,
            Self::Tcp(tcp) => tcp.claim(expected_term, identity, timeout).await,
        }
    }
}
