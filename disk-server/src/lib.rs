//! The disk server: disk images over the NBD protocol, and the arbiter's term beside them, so that
//! only the holder of the term can write.
//!
//! In flow NBD connections and the arbiter's claims; out flow blocks of the images, and answers.
//! What always holds:
//!
//! - a connection writes only while the arbiter's state is the one that it is bound to;
//! - a claim is answered `Won` when all that older winners had under way has ended, and nothing of
//!   theirs can start any more;
//! - of two connections of one winner to one image the newer one alone is served, from the moment at
//!   which nothing of the older one is under way;
//! - an image is served by one process at a time, and a killed one lets go of it only when its last
//!   write has ended.
//!
//! ```text
//!   NBD client ─▶ server::handshake ──BIND──▶ Gate::attach ◀── Core ──▶ Gate::advance ◀─ FencedStore ◀─ claims
//!                        │                                      ▲
//!                        ▼                                      │ enter, leave
//!                 server::transmission ─▶ wire ─▶ Storage ──────┘
//! ```
//!
//! [`wire`] is the protocol as values; [`fence::Core`] decides who may do what, and does nothing
//! else; [`client`] is the other end's handshake. There is no authentication: whoever reaches the
//! port can read, and can bind as the holder whose identity it knows. It belongs on a trusted network.

pub mod client;
mod error;
pub mod fence;
mod image;
pub mod lock;
mod server;
mod storage;
pub mod wire;

pub use self::error::DiskServerError;
pub use self::image::Image;
pub use self::server::{Export, Notice, Server};
pub use self::storage::Storage;

/// The port that IANA gave to NBD.
pub const DEFAULT_PORT: u16 = 10809;
