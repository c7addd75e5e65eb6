//! A TCP responder (RFC 9293) for one service: it is called, never calls.
//!
//! ```text
//!                SYN                  ACK of our SYN            FIN
//!   Free ────────────────> SynReceived ───────────> Established ───> Closing
//!    ^   send SYN+ACK                                                   │ send FIN after the data
//!    └───────────── RST, too many retransmissions, ACK of our FIN ──────┘
//! ```
//!
//! What always holds:
//! - Data is consumed in order, each byte once, and acknowledged only if its answers stand in the
//!   send buffer; the advertised window is a part of the buffer's free room.
//! - An answer stays in the send buffer until it is acknowledged.
//!
//! Left out: reassembly (segments out of order are dropped and asked for again), congestion
//! control (a connection has at most the 16 KiB of its send buffer in flight), selective
//! acknowledgement, timestamps, window scaling, urgent data.

mod buffer;
mod connection;
mod listener;
mod output;
mod segment;
mod sequence;
#[cfg(test)]
mod tests;

pub use buffer::SendBuffer;
pub use listener::Listener;
pub use segment::Segment;

/// The port that is listened on.
pub const PORT: u16 = 7000;
/// Connections at a time.
pub const CONNECTIONS: usize = 4;
/// Data bytes of a segment in either direction: Ethernet's 1500 without headers.
pub const SEGMENT_MAX: u16 = 1460;
/// What a peer that names no maximum is sent at most (RFC 9293 §3.7.1).
const SEGMENT_DEFAULT: u16 = 536;
