//! What the server tells of itself.

use arbiter::Identity;

/// Something that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Somebody may write now.
    #[error("{export}: term {term} writes, held by {identity}")]
    Bound {
        /// To which export.
        export: String,
        /// In which term.
        term: u64,
        /// In whose name.
        identity: Identity,
    },
    /// Somebody may not write any more: the term moved on, or the same client connected anew.
    #[error("{export}: a connection of term {term} was cut off in term {now}")]
    CutOff {
        /// From which export.
        export: String,
        /// The term that it was bound to.
        term: u64,
        /// The server's.
        now: u64,
    },
    /// Somebody who may not write wanted to.
    #[error("{identity} wanted to write in term {asked}, this is term {term}")]
    Refused {
        /// Who.
        identity: Identity,
        /// The term that it believes in.
        asked: u64,
        /// The server's.
        term: u64,
    },
    /// The host failed to do something with an image.
    #[error("{export}: {what} failed: {error}")]
    Failed {
        /// Of which export.
        export: String,
        /// What was tried, such as `a write of 4096 bytes at byte 512`.
        what: String,
        /// The host's words.
        error: String,
    },
}
