//! What replicas say to each other. The codec gives these values their bytes.

use serde::{Deserialize, Serialize};

use crate::Entry;
use crate::identity::{BootChoices, Identity, Mismatch};

/// A message on the pair's TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Primary to backup, the first message.
    Hello {
        /// What the backup must have too.
        identity: Identity,
        /// What the backup adopts.
        boot: BootChoices,
        /// The term the pair works in: the primary has claimed it.
        term: u64,
        /// Random name of the pair: a stray datagram of another pair is told by it.
        session: u64,
        /// The primary's failure timeout, milliseconds. The backup never suspects sooner than
        /// this: the primary counts on it when it decides whether an output may still leave.
        failure_timeout_ms: u64,
    },
    /// Backup to primary: the pair is formed.
    Welcome,
    /// Backup to primary: no pair. The connection closes after it.
    Refuse {
        /// Every field in which the identities differ.
        mismatches: Vec<Mismatch>,
        /// The same in a sentence, or another reason.
        reason: String,
    },
    /// Primary to backup: the log goes on. The entries follow the ones before without a gap; there
    /// may be none when `released_through` alone has news.
    Entries {
        /// The next entries of the log.
        #[serde(with = "crate::codec::batch")]
        entries: Vec<Entry>,
        /// Every output with a sequence number up to this one has been released.
        released_through: u64,
    },
    /// Backup to primary: how far it is.
    Ack {
        /// Every entry up to this one has been received and will be replayed before the backup
        /// goes live.
        received: u64,
        /// Every entry up to this one has been replayed.
        executed: u64,
    },
    /// Primary to backup: the guest ended, every entry is acknowledged, every output released.
    Goodbye,
    /// Backup to primary: replay went another way; this backup is none any more. The connection closes after it.
    Diverged {
        /// Where and how.
        description: String,
    },
}

impl Message {
    /// The message's name, for errors and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Welcome => "Welcome",
            Self::Refuse { .. } => "Refuse",
            Self::Entries { .. } => "Entries",
            Self::Ack { .. } => "Ack",
            Self::Goodbye => "Goodbye",
            Self::Diverged { .. } => "Diverged",
        }
    }
}

/// Which replica of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Runs the guest and records.
    Primary,
    /// Replays.
    Backup,
}

impl Role {
    /// The other one.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// A sign of life, one small UDP datagram. It may be lost, repeated or late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who sends it.
    pub role: Role,
    /// The term the pair works in.
    pub term: u64,
    /// 1 for the sender's first heartbeat, then one more each time.
    pub counter: u64,
    /// The counter of the newest heartbeat the sender has heard from its peer, 0 before the first:
    /// it proves to the peer when it was last heard.
    pub heard: u64,
    /// The pair's random name, from [`Message::Hello`].
    pub session: u64,
}
