//! Disks as the host has them: files, block devices, servers.
//!
//! In: [`DiskRequest`]s, from any thread; submitting never waits. Out: a [`DiskCompletion`] for each, once, in any order, to a [`DiskSink`]; and
//! [`DiskEvent`]s for the user. What always holds: nothing is changed on a disk before it was granted ([`Grant`]), and nothing but what was submitted;
//! requests under way at the same time do not conflict, as the machine's disks see to that, so doing one twice does no harm.

pub mod copy;
pub mod file;
pub mod nbd;

use arbiter::Identity;
use logging_channel::{DiskOutcome, Event};

use crate::effect::DiskRequest;

/// How a request ended.
#[derive(Debug)]
pub struct DiskCompletion {
    /// [`DiskRequest::disk`].
    pub disk: u8,
    /// [`DiskRequest::id`].
    pub request: u64,
    /// What was read, empty for a request that reads nothing.
    pub result: Result<Vec<u8>, DiskError>,
}

/// The completion as the machine's input.
impl From<DiskCompletion> for Event {
    fn from(completion: DiskCompletion) -> Self {
        Self::Disk {
            disk: completion.disk,
            request: completion.request,
            outcome: match completion.result {
                Ok(bytes) => DiskOutcome::Done {
                    bytes: bytes.into(),
                },
                Err(DiskError::Unsupported) => DiskOutcome::Unsupported,
                Err(DiskError::Failed(_)) => DiskOutcome::Failed,
            },
        }
    }
}

/// Why a disk did not do what it was asked for. The guest is told of an I/O error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The storage knows no such request.
    #[error("The storage cannot do that")]
    Unsupported,
    /// The storage failed. The user was told by a [`DiskEvent`].
    #[error("{0}")]
    Failed(String),
}

/// What the user is told about a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskEvent {
    /// A request failed.
    #[error("disk {disk} ({place}): {what} failed: {error}")]
    Failed {
        /// Which disk.
        disk: u8,
        /// Its path or address.
        place: String,
        /// What was tried, such as `a write of 4096 bytes at byte 512`.
        what: String,
        /// The host's answer, in words; names a full disk and a short image as such.
        error: String,
    },
    /// The server does not answer: requests wait.
    #[error("disk {disk} ({place}): the server is gone ({error}), requests wait")]
    Waiting {
        /// Which disk.
        disk: u8,
        /// Its address.
        place: String,
        /// How that was noticed.
        error: String,
    },
    /// The server answers again: the requests that waited go on.
    #[error("disk {disk} ({place}): the server is back")]
    Back {
        /// Which disk.
        disk: u8,
        /// Its address.
        place: String,
    },
    /// The server was gone for too long: what waited has failed, and the guest sees I/O errors until it is back.
    #[error(
        "disk {disk} ({place}): the server has been gone for {seconds} s, the guest gets I/O errors"
    )]
    GivenUp {
        /// Which disk.
        disk: u8,
        /// Its address.
        place: String,
        /// For how long.
        seconds: u64,
    },
    /// The server serves another term: this replica is not live any more and must stop at once. Nothing completes any more.
    #[error(
        "disk {disk} ({place}): the server has moved on to term {term}, this replica is cut off"
    )]
    CutOff {
        /// Which disk.
        disk: u8,
        /// Its address.
        place: String,
        /// The server's term.
        term: u64,
    },
}

impl DiskEvent {
    /// A word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "failed",
            Self::Waiting { .. } => "waiting",
            Self::Back { .. } => "back",
            Self::GivenUp { .. } => "given-up",
            Self::CutOff { .. } => "cut-off",
        }
    }
}

/// Where completions and events go. Called on the disk's own threads; returns at once.
pub trait DiskSink: Send + Sync {
    /// A request ended.
    fn complete(&self, completion: DiskCompletion);
    /// The user should know.
    fn tell(&self, event: DiskEvent);
}

/// The right to change a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// None: reads alone.
    ReadOnly,
    /// A machine alone: nobody else may use the disk.
    Alone {
        /// This run of the machine.
        identity: Identity,
    },
    /// The live replica of a pair.
    Live {
        /// The term it has won.
        term: u64,
        /// In whose name.
        identity: Identity,
    },
}

/// A disk of the host. Dropping it stops its threads; what is under way then may or may not be done.
pub trait HostDisk: Send + Sync {
    /// Its size, sectors. Constant.
    fn sectors(&self) -> u64;
    /// Takes a request. Never waits. The completion comes through the sink, once.
    fn submit(&self, request: DiskRequest);
    /// From now on the disk may be changed, or not. What is under way goes on, under the new grant where the storage has to be asked anew. May wait for the storage.
    ///
    /// # Errors
    /// Somebody else has the disk, or the server serves another term: in words for the user.
    fn grant(&self, grant: Grant) -> Result<(), String>;
    /// Waits until nothing that was submitted is under way.
    fn settle(&self);
}
