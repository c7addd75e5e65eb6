//! The logging channel: what a primary tells its backup, and how.
//!
//! In: [`Entry`] values from the primary's inputs. Out: the same entries, in order, at the
//! backup; acknowledgements the other way. The protocol core ([`protocol`]) is pure: it has no
//! socket, thread or clock. [`transport`] carries its messages over TCP and UDP.

pub mod codec;
pub mod entry;
pub mod identity;
pub mod protocol;
pub mod transport;

pub use entry::{Digest, EndReason, Entry, Event, OutputKind, Position};
