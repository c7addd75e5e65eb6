//! The arbiter: atomic test-and-set on a *term*, so that of two replicas that have lost sight of
//! each other exactly one goes live.
//!
//! In flows a claim, "I, `identity`, take the term from t to t+1"; out flows `Won` or `Lost`.
//! What always holds:
//!
//! - each term is won by one identity at most, whatever is killed, cut or switched off;
//! - an answer is on stable storage before it is given;
//! - asking again with the same identity gives the same answer, so a lost answer costs nothing;
//! - without an answer ([`ArbiterError::Unreachable`]) nobody has been told to go live.
//!
//! ```text
//!   replica ── Arbiter::claim ──┬─ file:PATH ──────────────────────────┐
//!                               └─ tcp:HOST:PORT ── wire ── server ────┤
//!                                                                      ▼
//!            core::State::claim ◀── Store (lock, load, decide, save, fdatasync) ── flag file
//! ```
//!
//! [`core`](crate::State) decides and does nothing else; [`Store`] makes its decisions atomic and
//! lasting; [`serve`] lends one store to hosts that share no disk; [`serve_fencing`] is the same
//! beside storage that obeys the term ([`Fence`]); [`Arbiter`] is what a replica holds. There is no authentication: whoever can write the file or reach the port can claim, so
//! both belong on a trusted network.

mod address;
mod arbiter;
mod block;
mod core;
mod deadline;
mod error;
mod fence;
mod file;
mod flag_file;
mod random;
mod server;
mod store;
mod tcp;
mod wire;

pub use self::address::Address;
pub use self::arbiter::Arbiter;
pub use self::core::{Identity, Outcome, State, TermExhausted};
pub use self::error::ArbiterError;
pub use self::fence::{Fence, FencedStore};
pub use self::file::FileArbiter;
pub use self::server::{serve, serve_fencing};
pub use self::store::Store;
pub use self::tcp::TcpArbiter;
