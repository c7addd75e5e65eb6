//! A client with its own TCP: it cuts its stream anew at each transmission, reads slowly, closes
//! its window, and checks what the server may never do.

use super::packet::{ACK, FIN, PSH, Packet, RST, SYN};
use crate::hash::xorshift;

/// Ticks until it repeats itself.
const TIMEOUT: u32 = 30;

/// A stream of pseudo-random numbers.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = xorshift(self.0);
        (self.0 >> 20) as usize % limit.max(1)
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    Closed,
}

pub struct Client {
    port: u16,
    random: Random,
    state: State,
    /// Everything it wants to say. A FIN follows.
    requests: Vec<u8>,
    /// Everything it has read, in order.
    pub answers: Vec<u8>,
    /// Received in order, not read yet.
    unread: Vec<u8>,
    read_limit: usize,
    /// Number of its own SYN.
    start: u32,
    /// Bytes of `requests` that are acknowledged; one more stands for the FIN.
    acked: usize,
    /// Bytes sent since the last timeout; ditto.
    sent: usize,
    /// Bytes ever sent; ditto.
    sent_max: usize,
    /// Right edge of the server's window, as an offset like `acked`; it must never come back.
    window_edge: usize,
    /// Number of the server's SYN.
    server_start: u32,
    /// Bytes received in order; one more if the FIN was.
    received: usize,
    server_fin: bool,
    /// Every byte the server has ever sent, by offset: a repetition must be the same.
    stream: Vec<Option<u8>>,
    last_sent: Option<u32>,
    /// Right edge of its own window: offset up to which the server may send.
    allowed: usize,
}

impl Client {
    pub fn new(port: u16, requests: Vec<u8>, read_limit: usize, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        // Half of the streams wrap early on.
        let high = if random.percent(50) { 0xFFFF_F000 } else { 0 };
        let start = random.below(usize::MAX) as u32 | high;
        Self {
            port,
            random,
            state: State::Connecting,
            requests,
            answers: Vec::new(),
            unread: Vec::new(),
            read_limit,
            start,
            acked: 0,
            sent: 0,
            sent_max: 0,
            window_edge: 0,
            server_start: 0,
            received: 0,
            server_fin: false,
            stream: Vec::new(),
            last_sent: None,
            allowed: 0,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether both directions are closed and everything was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Closed && self.server_fin && self.unread.is_empty()
    }

    pub fn receive(&mut self, packet: &Packet) -> Vec<Packet> {
        if packet.has(RST) {
            // Late frames find the server's end gone.
            assert!(
                self.state == State::Closed && self.server_fin,
                "reset: {packet:?}"
            );
            return Vec::new();
        }
        if self.state == State::Connecting {
            if !packet.has(SYN | ACK) || packet.ack != self.start.wrapping_add(1) {
                return Vec::new();
            }
            assert_eq!(packet.options, [2, 4, 5, 0xB4]);
            self.server_start = packet.sequence;
            self.state = State::Open;
            self.window_edge = packet.window.into();
            self.last_sent = None;
            return vec![self.packet(ACK, self.sent_max, &[])];
        }
        if packet.has(SYN) {
            // A late SYN of ours may have opened it anew once all was over; our ACK sets it right.
            assert!(packet.sequence == self.server_start || self.state == State::Closed);
            return vec![self.packet(ACK, self.sent_max, &[])];
        }
        assert!(packet.has(ACK));
        self.take_ack(packet);
        if self.take_data(packet) {
            vec![self.packet(ACK, self.sent_max, &[])]
        } else {
            Vec::new()
        }
    }

    fn take_ack(&mut self, packet: &Packet) {
        let acked = packet.ack.wrapping_sub(self.start).wrapping_sub(1) as usize;
        assert!(
            acked <= self.requests.len() + 1,
            "acknowledged what was never sent"
        );
        if acked < self.acked {
            return;
        }
        // The window's edge may seem to come back only by reordering.
        self.window_edge = self.window_edge.max(acked + usize::from(packet.window));
        if acked > self.acked {
            self.last_sent = None;
        }
        self.acked = acked;
        self.sent = self.sent.max(acked);
        if acked == self.requests.len() + 1 {
            self.state = State::Closed;
        }
    }

    /// True: an answer is due.
    fn take_data(&mut self, packet: &Packet) -> bool {
        let offset = packet
            .sequence
            .wrapping_sub(self.server_start)
            .wrapping_sub(1) as usize;
        assert!(
            packet.data.len() <= 536,
            "longer than the maximum this client named"
        );
        let end = offset + packet.data.len();
        // One byte beyond is a probe's right.
        assert!(end <= self.allowed + 1, "beyond the window");
        self.stream.resize(self.stream.len().max(end), None);
        for (known, &byte) in self.stream[offset..end].iter_mut().zip(&packet.data) {
            assert_eq!(*known.get_or_insert(byte), byte, "repeated differently");
        }
        if offset > self.received {
            return !packet.data.is_empty() || packet.has(FIN);
        }
        let room = self.read_limit - self.unread.len();
        let new = packet
            .data
            .get(self.received - offset..)
            .unwrap_or_default();
        let taken = &new[..new.len().min(room)];
        self.unread.extend(taken);
        self.received += taken.len();
        if packet.has(FIN) && self.received == end && !self.server_fin {
            self.server_fin = true;
            self.received += 1;
        }
        !packet.data.is_empty() || packet.has(FIN)
    }

    /// What the client does as time passes.
    pub fn tick(&mut self, now: u32) -> Vec<Packet> {
        let mut packets = Vec::new();
        let was_closed = self.room() == 0;
        let read = self.random.below(self.unread.len() + 1);
        self.answers.extend(self.unread.drain(..read));
        if self.state == State::Connecting {
            if self.is_due(now) {
                packets.push(self.syn());
            }
            return packets;
        }
        if was_closed && self.room() > 0 {
            packets.push(self.packet(ACK, self.sent_max, &[]));
        }
        if self.is_due(now) {
            self.sent = self.acked;
        }
        while self.state == State::Open && self.sent <= self.requests.len() && packets.len() < 4 {
            let edge = self
                .requests
                .len()
                .min(self.window_edge.max(self.acked + 1));
            let length = (1 + self.random.below(600)).min(edge.saturating_sub(self.sent));
            let fin = self.sent + length == self.requests.len();
            if length == 0 && !fin || self.random.percent(20) {
                break;
            }
            let data = self.requests[self.sent..self.sent + length].to_vec();
            let flags = ACK | if length > 0 { PSH } else { 0 } | if fin { FIN } else { 0 };
            packets.push(self.packet(flags, self.sent, &data));
            self.sent += length + usize::from(fin);
            self.sent_max = self.sent_max.max(self.sent);
            self.last_sent = Some(now);
        }
        packets
    }

    fn is_due(&mut self, now: u32) -> bool {
        let due = self.last_sent.is_none_or(|sent| now - sent >= TIMEOUT);
        if due {
            self.last_sent = Some(now);
        }
        due
    }

    fn room(&self) -> usize {
        self.read_limit - self.unread.len()
    }

    fn syn(&mut self) -> Packet {
        // NOP, NOP, SACK permitted, then a small maximum segment size.
        let options = vec![1, 1, 4, 2, 2, 4, 2, 24];
        self.allowed = self.room();
        let (from_port, to_port) = (self.port, 7000);
        Packet {
            from_port,
            to_port,
            sequence: self.start,
            flags: SYN,
            window: self.room() as u16,
            options,
            ..Packet::default()
        }
    }

    fn packet(&mut self, flags: u8, offset: usize, data: &[u8]) -> Packet {
        let fin = usize::from(self.server_fin);
        self.allowed = self.allowed.max(self.received - fin + self.room());
        Packet {
            from_port: self.port,
            to_port: 7000,
            sequence: self.start.wrapping_add(1).wrapping_add(offset as u32),
            ack: self
                .server_start
                .wrapping_add(1)
                .wrapping_add(self.received as u32),
            flags,
            window: self.room() as u16,
            options: Vec::new(),
            data: data.to_vec(),
        }
    }
}
