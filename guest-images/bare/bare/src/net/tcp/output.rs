//! The segments a connection sends.

use super::SEGMENT_MAX;
use super::connection::{Connection, State};
use super::segment::{HEADERS, PROTOCOL, Segment, flag};
use super::sequence::Sequence;
use crate::net::bytes::{at, copy, put};
use crate::net::checksum::Sum;
use crate::net::{Address, ETHERNET, Frame, IPV4, Mac, Ticks};

/// Bytes of TCP header without options, and their number of words where the header has it.
const HEADER: usize = HEADERS - IPV4;
const HEADER_WORDS: u8 = 5 << 4;
/// Ditto with the one option we send, the maximum segment size.
const SYN_HEADER: usize = HEADER + 4;
const SYN_HEADER_WORDS: u8 = 6 << 4;

/// What all segments to one peer have in common, laid out as it is sent.
pub struct Headers([u8; HEADERS]);

impl Headers {
    /// Of nobody.
    pub const NONE: Self = Self([0; HEADERS]);

    /// Of segments that answer `received`.
    pub fn new(received: &Segment, mac: Mac, address: Address) -> Self {
        let mut headers = [0; HEADERS];
        put::<0, 6, _>(&mut headers, received.mac);
        put::<6, 6, _>(&mut headers, mac);
        put::<12, 2, _>(&mut headers, [0x08, 0x00]);
        headers[14] = 0x45;
        // Never fragmented, so that no identification is needed (RFC 6864).
        put::<20, 2, _>(&mut headers, [0x40, 0x00]);
        headers[22] = 64;
        headers[23] = PROTOCOL as u8;
        put::<26, 4, _>(&mut headers, address);
        put::<30, 4, _>(&mut headers, received.address);
        put::<34, 2, _>(&mut headers, received.to_port.to_be_bytes());
        put::<36, 2, _>(&mut headers, received.port.to_be_bytes());
        headers[46] = HEADER_WORDS;
        Self(headers)
    }

    /// Writes the headers of a segment whose options and data already stand in `frame`, `length`
    /// bytes of TCP in all. Returns the frame's length.
    #[inline(always)]
    fn write(&self, frame: &mut Frame, header: Header, length: usize) -> usize {
        copy(&self.0, frame);
        put::<16, 2, _>(frame, ((IPV4 - ETHERNET + length) as u16).to_be_bytes());
        let sum = Sum::new().bytes(&at::<14, 20, _>(frame)).finish();
        put::<24, 2, _>(frame, sum.to_ne_bytes());
        put::<38, 4, _>(frame, header.sequence.0.to_be_bytes());
        put::<42, 4, _>(frame, header.ack.0.to_be_bytes());
        frame[46] = header.words;
        frame[47] = header.flags;
        put::<48, 2, _>(frame, header.window.to_be_bytes());
        let sum = Sum::new()
            .number(PROTOCOL)
            .number(length as u16)
            .bytes(&at::<26, 28, _>(frame));
        let sum = sum.bytes(&frame[HEADERS..IPV4 + length]);
        put::<50, 2, _>(frame, sum.finish().to_ne_bytes());
        IPV4 + length
    }
}

/// The fields that differ from one segment to the next.
#[derive(Clone, Copy)]
struct Header {
    sequence: Sequence,
    ack: Sequence,
    words: u8,
    flags: u8,
    window: u16,
}

/// Writes the reset that answers a segment without a connection (RFC 9293 §3.10.7.1).
pub fn reset(received: &Segment, mac: Mac, address: Address, frame: &mut Frame) -> usize {
    let (sequence, ack, flags) = if received.flags & flag::ACK != 0 {
        (received.ack, Sequence(0), flag::RST)
    } else {
        (
            Sequence(0),
            received.sequence + received.length(),
            flag::RST | flag::ACK,
        )
    };
    let header = Header {
        sequence,
        ack,
        words: HEADER_WORDS,
        flags,
        window: 0,
    };
    Headers::new(received, mac, address).write(frame, header, HEADER)
}

impl Connection {
    /// Writes the next segment that is due; returns the frame's length, or 0.
    #[inline(always)]
    pub fn output(&mut self, now: Ticks, frame: &mut Frame) -> usize {
        match self.state {
            State::Free => 0,
            State::SynReceived => self.output_syn(now, frame),
            State::Established | State::Closing => self.output_data(now, frame),
        }
    }

    fn output_syn(&mut self, now: Ticks, frame: &mut Frame) -> usize {
        if self.send_next != self.send_start {
            return 0;
        }
        self.send_next += 1;
        self.send_max = self.send_next;
        self.probe = false;
        self.arm(now);
        let [high, low] = SEGMENT_MAX.to_be_bytes();
        put::<HEADERS, 4, _>(frame, [2, 4, high, low]);
        let header = self.header(self.send_start, flag::SYN | flag::ACK, SYN_HEADER_WORDS);
        self.headers.write(frame, header, SYN_HEADER)
    }

    #[inline(always)]
    fn output_data(&mut self, now: Ticks, frame: &mut Frame) -> usize {
        let offset = self.send_next - (self.send_start + 1);
        // Negative behind our FIN.
        let unsent = (self.buffer.end().wrapping_sub(offset) as i32).max(0) as u32;
        let in_flight = self.send_next - self.send_unacked;
        let usable = self
            .send_window
            .saturating_sub(in_flight)
            .max(self.probe.into());
        let length = unsent.min(usable).min(self.segment_max.into());
        let fin = self.state == State::Closing
            && length == unsent
            && offset != self.buffer.end().wrapping_add(1);
        if length == 0 && !fin && !self.ack_now {
            if unsent > 0 {
                // The window is closed: probe it when the timer runs out.
                self.arm(now);
            }
            return 0;
        }
        let push = if length > 0 { flag::PSH } else { 0 };
        let flags = flag::ACK | push | if fin { flag::FIN } else { 0 };
        // A bare acknowledgement goes by what was sent once, lest a peer that has it answers it.
        let sequence = if length > 0 || fin {
            self.send_next
        } else {
            self.send_max
        };
        let header = self.header(sequence, flags, HEADER_WORDS);
        let length = length as usize;
        if length > 0 {
            self.buffer
                .copy_to(offset, &mut frame[HEADERS..HEADERS + length]);
        }
        self.sent(length as u32 + u32::from(fin), now);
        self.headers.write(frame, header, HEADER + length)
    }

    /// Counts what a segment takes of the sequence numbers.
    #[inline(always)]
    fn sent(&mut self, length: u32, now: Ticks) {
        self.ack_now = false;
        if length == 0 {
            return;
        }
        self.probe = false;
        self.send_next += length;
        if self.send_max.is_before(self.send_next) {
            self.send_max = self.send_next;
        }
        self.arm(now);
    }

    /// Header fields, with the window moved to what we have room for; it never moves back.
    #[inline(always)]
    fn header(&mut self, sequence: Sequence, flags: u8, words: u8) -> Header {
        let edge = self.receive_next + self.room();
        if self.receive_edge.is_before(edge) {
            self.receive_edge = edge;
        }
        let window = (self.receive_edge - self.receive_next) as u16;
        Header {
            sequence,
            ack: self.receive_next,
            words,
            flags,
            window,
        }
    }
}
