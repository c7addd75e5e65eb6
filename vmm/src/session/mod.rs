//! Sessions: how a machine, its inputs and the world are put together.
//!
//! - [`solo`]: live inputs, outputs at once; with a recorder also `record`.
//! - [`playback`]: inputs from a log file, no world.
//! - [`time_travel`]: a replay that goes to any position, forwards and backwards.
//! - [`primary`]: live inputs; every entry goes to the backup, every output waits for its acknowledgement.
//! - [`backup`]: inputs from the channel, outputs suppressed; [`go_live`] replaces `Logged` by `Live`.

pub mod backup;
pub mod bisect;
pub mod black_box;
pub mod claims;
pub mod disk_config;
pub mod disk_fault;
pub mod disk_spec;
pub mod disks;
pub mod divergence;
pub mod fault;
pub mod feed;
pub mod gate;
pub mod go_live;
pub mod link;
pub mod open_disks;
pub mod pipe;
pub mod playback;
pub mod primary;
pub mod read_ledger;
pub mod replica;
pub mod reports;
pub mod second_opinion;
pub mod setup;
pub mod solo;
pub mod time_travel;
pub mod vcpu;
pub mod world;

use std::{sync::Arc, time::Duration};

use arbiter::{Arbiter, ArbiterError};
use logging_channel::{
    log_file::LogError,
    protocol::{Limits, Timing},
    transport::TransportError,
};

use crate::host::{HostError, disk::copy::CopyError};
use black_box::BlackBoxOptions;
use fault::Fault;
use replica::{Ending, ReplicaError};
use reports::Reporter;
use setup::SetupError;

/// What a replica of a pair is given besides its machine.
#[derive(Clone)]
pub struct PairOptions {
    /// Who decides which replica is live.
    pub arbiter: Arc<Arbiter>,
    /// How long to wait for what.
    pub timing: Timing,
    /// How much may be under way.
    pub limits: Limits,
    /// How long an input waits for a live guest that does not exit; `None`: for ever.
    pub late_limit: Option<Duration>,
    /// How long a primary looks for its backup.
    pub connect_timeout: Duration,
    /// Where this replica's log is kept, if one is.
    pub log: Option<BlackBoxOptions>,
    /// A fault to put into the backup's machine, to show that it is found.
    pub fault: Option<Fault>,
    /// Where the user is told what happens.
    pub reporter: Reporter,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the guest's end.
    Ended(Ending),
    /// No pair was formed.
    Refused {
        /// Why.
        reason: String,
    },
    /// This replica may not go on.
    Halted {
        /// Why.
        reason: String,
    },
}

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
    /// See [`TransportError`].
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// See [`ArbiterError`].
    #[error(transparent)]
    Arbiter(#[from] ArbiterError),
    /// See [`CopyError`].
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`bisect::BisectError`].
    #[error(transparent)]
    Bisect(#[from] bisect::BisectError),
    /// Two pairs with the same arbiter state are started at once.
    #[error(
        "Somebody else took term {term} at the same moment: does another pair use this arbiter state? Give each pair its own"
    )]
    Contended {
        /// The arbiter's term now.
        term: u64,
    },
    /// The tap does not work any more.
    #[error("Cannot {doing} the tap; was it deleted?")]
    Tap {
        /// What was tried.
        doing: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// A disk cannot be used.
    #[error("Cannot use the disk: {0}")]
    Disk(String),
    /// The disks' server serves somebody else now.
    #[error("This replica may not go on: {0}")]
    CutOff(String),
    /// The user asked for it on the console.
    #[error("Quit from the console")]
    Quit,
}
