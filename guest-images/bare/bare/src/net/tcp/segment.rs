//! A received segment.

use super::sequence::Sequence;
use super::{SEGMENT_DEFAULT, SEGMENT_MAX};
use crate::net::bytes::{at, u16_at, u32_at};
use crate::net::checksum::Sum;
use crate::net::{Address, IPV4, Mac};

/// Bytes of Ethernet, IPv4 and TCP headers, all without options.
pub const HEADERS: usize = IPV4 + 20;
/// TCP's number in IPv4, as it enters the pseudo header.
pub const PROTOCOL: u16 = 6;

/// TCP flags.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Sequence numbers begin.
    pub const SYN: u8 = 0x02;
    /// The connection is no more.
    pub const RST: u8 = 0x04;
    /// Hand on what came so far.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// A segment for our address with a valid checksum.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Who sent the frame.
    pub mac: Mac,
    /// Who sent the packet.
    pub address: Address,
    /// The sender's port.
    pub port: u16,
    /// The port it is for.
    pub to_port: u16,
    /// Number of the first byte (or SYN).
    pub sequence: Sequence,
    /// Next number the sender expects from us, if [`flag::ACK`] is set.
    pub ack: Sequence,
    /// See [`flag`].
    pub flags: u8,
    /// Bytes the sender has room for, counted from `ack`.
    pub window: u16,
    /// Between header and data.
    pub options: &'a [u8],
    /// The data.
    pub data: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a segment from a frame that was cut to its IPv4 length. `None`: it is malformed or
    /// its checksum is wrong.
    #[inline(always)]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<HEADERS>()?;
        let sum = Sum::new()
            .number(PROTOCOL)
            .number((packet.len() - IPV4) as u16);
        // From the IPv4 addresses on: they are the rest of the pseudo header.
        let sum = sum.bytes(&at::<26, 28, HEADERS>(header)).bytes(rest);
        if sum.finish() != 0 {
            return None;
        }
        let options = (usize::from(header[46] >> 4) * 4).checked_sub(HEADERS - IPV4)?;
        let (options, data) = rest.split_at_checked(options)?;
        Some(Self {
            mac: at::<6, 6, HEADERS>(header),
            address: at::<26, 4, HEADERS>(header),
            port: u16_at::<34, HEADERS>(header),
            to_port: u16_at::<36, HEADERS>(header),
            sequence: Sequence(u32_at::<38, HEADERS>(header)),
            ack: Sequence(u32_at::<42, HEADERS>(header)),
            flags: header[47],
            window: u16_at::<48, HEADERS>(header),
            options,
            data,
        })
    }

    /// Sequence numbers the segment takes.
    pub fn length(&self) -> u32 {
        let flags = u32::from(self.flags & flag::SYN != 0) + u32::from(self.flags & flag::FIN != 0);
        self.data.len() as u32 + flags
    }

    /// The longest data the sender takes in a segment (its MSS option), within our own limits.
    pub fn segment_max(&self) -> u16 {
        let mut options = self.options;
        while let [kind, after @ ..] = options {
            options = match (kind, after) {
                (0, _) => break,
                (1, _) => after,
                (2, [4, high, low, ..]) => {
                    return u16::from_be_bytes([*high, *low]).clamp(64, SEGMENT_MAX);
                }
                (_, [length, ..]) => match options.get(usize::from(*length).max(2)..) {
                    Some(rest) => rest,
                    None => break,
                },
                _ => break,
            };
        }
        SEGMENT_DEFAULT
    }
}
