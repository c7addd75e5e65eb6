//! Sessions: how a machine, its inputs and the world are put together.
//!
//! - [`solo`]: live inputs, outputs at once; with a recorder also `record`.
//! - [`playback`]: inputs from a log file, no world.
//! - [`primary`]: live inputs; every entry goes to the backup, every output waits for its acknowledgement.
//! - [`backup`]: inputs from the channel, outputs suppressed; [`go_live`] replaces `Logged` by `Live`.

pub mod backup;
pub mod feed;
pub mod gate;
pub mod go_live;
pub mod pipe;
pub mod playback;
pub mod primary;
pub mod replica;
pub mod setup;
pub mod solo;
pub mod vcpu;
pub mod world;

use crate::host::HostError;
use replica::ReplicaError;
use setup::SetupError;

/// Why a session ended other than with its guest.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// See [`SetupError`].
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// See [`ReplicaError`].
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// See [`HostError`].
    #[error(transparent)]
    Host(#[from] HostError),
}
