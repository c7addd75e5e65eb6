//! The connections of one port.

use super::connection::{Connection, State, peer};
use super::output::reset;
use super::segment::{Segment, flag};
use super::sequence::Sequence;
use super::{CONNECTIONS, PORT};
use crate::hash::xorshift;
use crate::net::service::{Caller, Service};
use crate::net::{Address, Frame, Mac, Ticks};

/// A connection that was silent for this long makes room for a new one: 60 s.
const SILENCE: Ticks = 6000;

/// The service's port with its connections.
pub struct Listener<S> {
    mac: Mac,
    address: Address,
    /// State of the generator of initial sequence numbers.
    random: u64,
    service: S,
    connections: [Connection; CONNECTIONS],
    /// Connections that may have more to send, one bit each.
    busy: u32,
    /// When the timers were last looked at.
    ticked: Ticks,
}

impl<S: Service> Listener<S> {
    /// A port without connections.
    pub const fn new(service: S) -> Self {
        Self {
            mac: [0; 6],
            address: [0; 4],
            random: 0,
            service,
            connections: [const { Connection::new() }; CONNECTIONS],
            busy: 0,
            ticked: 0,
        }
    }

    /// Gives the port its host's addresses and a number nobody can guess.
    pub fn start(&mut self, mac: Mac, address: Address, seed: u64) {
        (self.mac, self.address) = (mac, address);
        // xorshift stands still at 0 alone.
        self.random = seed | 1;
    }

    /// The service.
    pub const fn service(&self) -> &S {
        &self.service
    }

    /// The service.
    pub const fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// Answers a request that was taken earlier, if its caller still waits.
    pub fn answer(&mut self, caller: Caller, answer: &[u8]) {
        let index = usize::from(caller.index);
        if let Some(connection) = self.connections.get_mut(index)
            && connection.answer(caller, answer)
        {
            self.busy |= 1 << index;
        }
    }

    /// Whether no connection waits for an answer or an acknowledgement.
    pub fn is_settled(&self) -> bool {
        self.connections.iter().all(Connection::is_settled)
    }

    /// Takes in a segment; returns the length of the frame that answers it at once, or 0.
    #[inline(always)]
    pub fn receive(&mut self, segment: &Segment, now: Ticks, reply: &mut Frame) -> usize {
        let from = peer(segment.address, segment.port);
        if segment.to_port == PORT
            && let Some(index) = self
                .connections
                .iter()
                .position(|connection| connection.peer == from)
        {
            let connection = &mut self.connections[index];
            if !connection.receive(index, segment, &mut self.service, now) {
                return reset(segment, self.mac, self.address, reply);
            }
            let length = connection.output(now, reply);
            if connection.has_unsent() {
                self.busy |= 1 << index;
            }
            return length;
        }
        self.receive_unconnected(segment, now, reply)
    }

    #[cold]
    fn receive_unconnected(&mut self, segment: &Segment, now: Ticks, reply: &mut Frame) -> usize {
        if segment.flags & flag::RST != 0 {
            return 0;
        }
        if segment.to_port != PORT || segment.flags & (flag::SYN | flag::ACK) != flag::SYN {
            return reset(segment, self.mac, self.address, reply);
        }
        // A SYN that finds no room is dropped: the peer tries again.
        let Some(index) = self.room(now) else {
            return 0;
        };
        self.random = xorshift(self.random);
        let start = Sequence((self.random >> 32) as u32);
        self.connections[index].open(segment, self.mac, self.address, start, now);
        self.connections[index].output(now, reply)
    }

    fn room(&self, now: Ticks) -> Option<usize> {
        let silence = |connection: &Connection| now.wrapping_sub(connection.heard);
        let free = self
            .connections
            .iter()
            .position(|connection| connection.state == State::Free);
        free.or_else(|| {
            let (index, longest) = self
                .connections
                .iter()
                .enumerate()
                .max_by_key(|(_, it)| silence(it))?;
            (silence(longest) >= SILENCE).then_some(index)
        })
    }

    /// The next frame that is due without a segment to answer; returns its length, or 0.
    pub fn poll(&mut self, now: Ticks, frame: &mut Frame) -> usize {
        if now != self.ticked {
            self.ticked = now;
            for (index, connection) in self.connections.iter_mut().enumerate() {
                connection.tick(now);
                self.busy |= u32::from(connection.probe) << index;
            }
        }
        while self.busy != 0 {
            let index = self.busy.trailing_zeros() as usize % CONNECTIONS;
            let length = self.connections[index].output(now, frame);
            if length > 0 {
                return length;
            }
            self.busy &= !(1 << index);
        }
        0
    }
}
