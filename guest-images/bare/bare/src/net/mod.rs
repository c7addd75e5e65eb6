//! A small Internet host: ARP, ICMP echo, UDP echo and a TCP service, without memory management,
//! clock or device: a received frame and the time go in, a frame to send comes out.
//!
//! Written for a processor on which every instruction is dear and block moves are cheap: headers
//! are checked as fixed arrays, sums go by 64-bit words, copies by `rep movsb`.

mod arp;
mod bytes;
mod checksum;
mod echo;
mod service;
mod stack;
mod tcp;

pub use service::{ANSWER_MAX, Caller, Counter, Reception, Service};
pub use stack::Stack;
pub use tcp::SendBuffer;

/// Longest Ethernet frame, without its check sequence.
pub const FRAME_MAX: usize = 1514;
/// Room for a frame.
pub type Frame = [u8; FRAME_MAX];
/// An Ethernet address.
pub type Mac = [u8; 6];
/// An IPv4 address.
pub type Address = [u8; 4];
/// Time in ticks of 10 ms; wraps.
pub type Ticks = u32;

/// Bytes of Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of Ethernet and IPv4 headers (without options).
const IPV4: usize = ETHERNET + 20;
