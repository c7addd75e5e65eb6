//! The logging channel: what a primary tells its backup, and how.
//!
//! In: [`Entry`] values from the primary's inputs. Out: the same entries, in order, at the
//! backup; acknowledgements the other way. The protocol core ([`protocol`]) is pure: it has no
//! socket, thread or clock. [`codec`] gives its messages their bytes, [`transport`] carries them over
//! TCP and UDP, [`log_file`] keeps them in a file.

pub mod codec;
pub mod entry;
pub mod event_kind;
pub mod identity;
pub mod log_file;
pub mod protocol;
pub mod statistics;
pub mod transport;

pub use entry::{
    Digest, DiskOutcome, EndReason, Entry, Event, NotAPosition, OutputKind, PageRange, Position,
};
pub use event_kind::EventKind;
