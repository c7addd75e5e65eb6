//! What the user is told, in the order in which it happens.

use std::fmt;
use std::time::Duration;

use crate::identity::Mismatch;

/// Why a peer was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Its connection ended.
    ConnectionClosed,
    /// Nothing was heard for the failure timeout.
    Silence {
        /// How long, as far as this replica can prove.
        lasted: Duration,
    },
    /// It broke the protocol.
    Protocol(String),
    /// It is a backup that says that its replay went another way: where and how.
    Diverged(String),
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionClosed => f.write_str("its connection closed"),
            Self::Silence { lasted } => write!(f, "it was silent for {} ms", lasted.as_millis()),
            Self::Protocol(what) => write!(f, "it broke the protocol: {what}"),
            Self::Diverged(description) => write!(f, "it is no copy any more: {description}"),
        }
    }
}

/// The arbiter's answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The term is the claimant's.
    Won {
        /// The term claimed: one more than the expected term.
        term: u64,
    },
    /// The term is not the claimant's, for ever.
    Lost {
        /// The arbiter's current term.
        term: u64,
    },
    /// No answer: not known to be won, not known to be lost.
    Unreachable,
}

/// Something the user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Primary and backup agree and the guest starts.
    PairFormed {
        /// The term the pair works in.
        term: u64,
    },
    /// The backup refused the primary: there is no pair.
    Refused {
        /// Every field in which the identities differ.
        mismatches: Vec<Mismatch>,
        /// The reason in a sentence.
        reason: String,
    },
    /// The peer is suspected. This replica no longer listens to it.
    PeerLost {
        /// Why.
        why: LossReason,
    },
    /// Backup: no more entries will come; those received are replayed to the end.
    Draining {
        /// Entries received and not yet replayed.
        entries: u64,
    },
    /// The arbiter is asked for a term.
    Claiming {
        /// The term asked for.
        term: u64,
    },
    /// The arbiter cannot be reached. The guest waits, the claim is made again and again.
    WaitingForArbiter,
    /// The arbiter gave this replica the term.
    ClaimWon {
        /// The term.
        term: u64,
    },
    /// Another replica has the term.
    ClaimLost {
        /// The arbiter's current term.
        term: u64,
    },
    /// This replica runs the guest alone.
    Live {
        /// In this term.
        term: u64,
    },
    /// The backup's guest did something else than the primary's. It never goes live.
    Diverged {
        /// Where and how.
        description: String,
    },
    /// How far the backup is behind.
    Lag {
        /// Entries appended and not yet replayed.
        entries: u64,
        /// Age of the oldest of them.
        time: Duration,
    },
    /// The primary's vCPU is slowed so that the backup can catch up.
    Paced {
        /// Share of time that it sleeps, percent; 0 when it is let go.
        sleep_percent: u8,
    },
    /// The guest ended and nothing is left to do.
    Finished,
    /// This replica stopped for good without going live.
    Halted {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PairFormed { term } => write!(f, "pair formed in term {term}"),
            Self::Refused { reason, .. } => write!(f, "pair refused: {reason}"),
            Self::PeerLost { why } => write!(f, "peer lost: {why}"),
            Self::Draining { entries } => write!(f, "replaying the last {entries} entries"),
            Self::Claiming { term } => write!(f, "claiming term {term}"),
            Self::WaitingForArbiter => {
                f.write_str("arbiter unreachable: the guest waits until it answers")
            }
            Self::ClaimWon { term } => write!(f, "claim won: term {term}"),
            Self::ClaimLost { term } => write!(f, "claim lost: the arbiter is in term {term}"),
            Self::Live { term } => write!(f, "live, alone and unprotected, in term {term}"),
            Self::Diverged { description } => write!(f, "diverged: {description}"),
            Self::Lag { entries, time } => {
                write!(f, "backup lags {entries} entries, {} ms", time.as_millis())
            }
            Self::Paced { sleep_percent } => write!(f, "vCPU sleeps {sleep_percent}% of the time"),
            Self::Finished => f.write_str("finished"),
            Self::Halted { reason } => write!(f, "halted: {reason}"),
        }
    }
}
