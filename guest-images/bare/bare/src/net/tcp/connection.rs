//! One connection: what a received segment does to it.

use super::SEGMENT_MAX;
use super::buffer::SendBuffer;
use super::output::Headers;
use super::segment::{Segment, flag};
use super::sequence::Sequence;
use crate::net::service::{Caller, Requests, Service};
use crate::net::{Address, Mac, Ticks};

/// Ticks until the first retransmission: 200 ms.
pub const TIMEOUT: Ticks = 20;
/// No timeout doubles further than this many times: 6.4 s.
const DOUBLINGS: u32 = 5;
/// Retransmissions without an answer after which a peer is given up: about 70 s.
const ATTEMPTS: u32 = 15;
/// Ditto for a connection that is not established yet: about 12 s.
const SYN_ATTEMPTS: u32 = 5;
/// Answer bytes per byte of request, as a shift: the five bytes of `incr` bring 20 at most. Other
/// lines may bring more; what then has no room is left for the peer to repeat.
const ANSWER_SHIFT: u32 = 2;

/// Where a connection stands: see the figure in the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use.
    Free,
    /// Our SYN is on its way.
    SynReceived,
    /// Both directions are open.
    Established,
    /// The peer has sent its FIN; ours follows the data.
    Closing,
}

/// A connection, or room for one.
pub struct Connection {
    pub(super) state: State,
    /// The peer's address and port in one number, see [`peer`].
    pub(super) peer: u64,
    pub(super) headers: Headers,
    pub(super) segment_max: u16,
    /// When a segment last came.
    pub(super) heard: Ticks,

    /// Number of our SYN.
    pub(super) send_start: Sequence,
    /// Oldest number that is not acknowledged.
    pub(super) send_unacked: Sequence,
    /// Next number to send; back at `send_unacked` for a retransmission.
    pub(super) send_next: Sequence,
    /// Behind the last number ever sent.
    pub(super) send_max: Sequence,
    pub(super) send_window: u32,
    /// Number of the segment that set `send_window`.
    window_sequence: Sequence,

    /// Next number to consume.
    pub(super) receive_next: Sequence,
    /// Behind the last number we have declared ourselves ready for.
    pub(super) receive_edge: Sequence,
    requests: Requests,
    pub(super) buffer: SendBuffer,

    /// A segment is owed, if only for its acknowledgement number.
    pub(super) ack_now: bool,
    /// The timer has run out: send something even into a closed window.
    pub(super) probe: bool,
    pub(super) deadline: Option<Ticks>,
    pub(super) attempts: u32,
}

/// A peer's address and port in one number; not 0, which is nobody's.
#[inline(always)]
pub fn peer(address: Address, port: u16) -> u64 {
    1 << 48 | u64::from(u32::from_ne_bytes(address)) << 16 | u64::from(port)
}

impl Connection {
    /// Room for a connection.
    pub const fn new() -> Self {
        let zero = Sequence(0);
        Self {
            state: State::Free,
            peer: 0,
            headers: Headers::NONE,
            segment_max: 0,
            heard: 0,
            send_start: zero,
            send_unacked: zero,
            send_next: zero,
            send_max: zero,
            send_window: 0,
            window_sequence: zero,
            receive_next: zero,
            receive_edge: zero,
            requests: Requests::NONE,
            buffer: SendBuffer::new(),
            ack_now: false,
            probe: false,
            deadline: None,
            attempts: 0,
        }
    }

    /// Answers a SYN: numbers start at `start`.
    pub fn open(&mut self, syn: &Segment, mac: Mac, address: Address, start: Sequence, now: Ticks) {
        self.state = State::SynReceived;
        self.peer = peer(syn.address, syn.port);
        self.headers = Headers::new(syn, mac, address);
        self.segment_max = syn.segment_max();
        self.heard = now;
        self.send_start = start;
        self.send_unacked = start;
        self.send_next = start;
        self.send_max = start;
        self.send_window = syn.window.into();
        self.window_sequence = syn.sequence;
        self.receive_next = syn.sequence + 1;
        self.receive_edge = self.receive_next;
        self.requests = Requests::NONE;
        self.buffer.clear();
        self.ack_now = false;
        self.probe = false;
        self.deadline = None;
        self.attempts = 0;
    }

    /// Gives the connection up.
    pub fn free(&mut self) {
        self.state = State::Free;
        self.peer = 0;
        self.buffer.clear();
        self.deadline = None;
    }

    /// Takes in a segment of this connection, the `index`th of its port. False: it calls for a
    /// reset.
    #[inline(always)]
    pub fn receive<S: Service>(
        &mut self,
        index: usize,
        segment: &Segment,
        service: &mut S,
        now: Ticks,
    ) -> bool {
        self.heard = now;
        if segment.flags & (flag::SYN | flag::RST | flag::ACK) != flag::ACK {
            self.receive_control(segment);
            return true;
        }
        if !self.receive_ack(segment, now) {
            return self.state != State::SynReceived;
        }
        let (data, fin) = self.in_order(segment);
        let mut complete = true;
        if !data.is_empty() {
            let caller = self.caller(index);
            let read = (self.requests).consume(service, caller, data, &mut self.buffer);
            self.receive_next += read as u32;
            self.ack_now = true;
            complete = read == data.len();
        }
        // Our FIN follows the last answer: while one is awaited, the peer has to repeat its own.
        if fin && complete && self.requests.waiting == 0 {
            self.receive_next += 1;
            self.state = State::Closing;
            self.ack_now = true;
        }
        true
    }

    fn caller(&self, index: usize) -> Caller {
        Caller {
            index: index as u8,
            start: self.send_start.0,
        }
    }

    /// Writes the answer to a request that was taken earlier. False: nobody waits for it any more.
    pub fn answer(&mut self, caller: Caller, answer: &[u8]) -> bool {
        let waits = self.state == State::Established
            && self.caller(caller.index.into()) == caller
            && self.requests.waiting > 0;
        if waits {
            self.requests.waiting -= 1;
            self.buffer.push(answer);
        }
        waits
    }

    /// Whether every request was answered, and every answer acknowledged.
    pub fn is_settled(&self) -> bool {
        self.state == State::Free || self.buffer.is_empty() && self.requests.waiting == 0
    }

    /// Segments with SYN or RST, or without ACK (RFC 9293 §3.10.7.4, RFC 5961 §3 and §4).
    #[cold]
    fn receive_control(&mut self, segment: &Segment) {
        if segment.flags & flag::RST != 0 {
            if segment.sequence == self.receive_next {
                self.free();
            } else {
                // Anyone may have guessed it. A peer that meant it sends another one on our ACK.
                let room = self.receive_edge - self.receive_next;
                self.ack_now |= segment.sequence - self.receive_next < room;
            }
        } else if segment.flags & flag::SYN != 0 {
            match self.state {
                // Our SYN+ACK was lost.
                State::SynReceived if segment.sequence + 1 == self.receive_next => {
                    self.send_next = self.send_start;
                }
                // The peer has begun anew; its next SYN finds the way free.
                State::SynReceived => self.free(),
                // The peer knows nothing of the connection, or someone guessed. It resets on our ACK.
                _ => self.ack_now = true,
            }
        }
    }

    /// Takes in the acknowledgement and the window. False: the number is impossible.
    #[inline(always)]
    fn receive_ack(&mut self, segment: &Segment, now: Ticks) -> bool {
        let acked = segment.ack - self.send_unacked;
        if acked > self.send_max - self.send_unacked {
            // An old one tells nothing, one of something never sent is answered with the truth.
            let is_old = segment.ack.is_before(self.send_unacked);
            self.ack_now |= !is_old;
            return is_old && self.state != State::SynReceived;
        }
        if acked > 0 {
            self.acknowledged(segment.ack, now);
            if self.state == State::Free {
                return false;
            }
        } else if self.state == State::SynReceived {
            return false;
        }
        self.update_window(segment, acked);
        true
    }

    /// Everything before `ack` has arrived.
    #[inline(always)]
    fn acknowledged(&mut self, ack: Sequence, now: Ticks) {
        self.send_unacked = ack;
        if self.send_next.is_before(ack) {
            self.send_next = ack;
        }
        self.attempts = 0;
        self.deadline = (ack != self.send_max).then(|| now.wrapping_add(TIMEOUT));
        if self.state == State::SynReceived {
            self.state = State::Established;
        }
        let offset = ack - (self.send_start + 1);
        if self.state == State::Closing && offset == self.buffer.end().wrapping_add(1) {
            self.free();
            return;
        }
        self.buffer.release(offset);
        // Tell a peer that we kept waiting when a segment's worth of room is back.
        let room = self.receive_edge - self.receive_next;
        self.ack_now |= room < SEGMENT_MAX.into() && self.room() >= room + u32::from(SEGMENT_MAX);
    }

    /// Only a segment that is no older than the last that did may set the window: one that
    /// acknowledges more was sent later, even if it repeats earlier data (RFC 9293 §3.10.7.4 would
    /// take the old window and count it from the new acknowledgement).
    #[inline(always)]
    fn update_window(&mut self, segment: &Segment, acked: u32) {
        if acked == 0 && segment.sequence.is_before(self.window_sequence) {
            return;
        }
        if self.send_window == 0 {
            // The peer answers our probes: it is there. What they carried it did not take.
            self.attempts = 0;
            if segment.window > 0 {
                self.send_next = self.send_unacked;
            }
        }
        self.send_window = segment.window.into();
        self.window_sequence = segment.sequence;
    }

    /// The part of a segment that comes next, and whether its FIN does. Anything else is answered
    /// with what we have: a duplicate, since its acknowledgement may be lost; data behind a gap,
    /// since that makes the peer fill it. A bare acknowledgement behind a gap is not: the peer may
    /// have a gap too, and the two would acknowledge each other for ever.
    #[inline(always)]
    fn in_order<'a>(&mut self, segment: &Segment<'a>) -> (&'a [u8], bool) {
        let fin = segment.flags & flag::FIN != 0;
        let behind = segment.sequence.behind(self.receive_next);
        let mut data = segment.data;
        if behind != 0 {
            self.ack_now |= behind > 0 || fin || !data.is_empty();
            match usize::try_from(behind)
                .ok()
                .and_then(|seen| data.get(seen..))
            {
                Some(rest) => data = rest,
                None => return (&[], false),
            }
        }
        if self.state == State::Closing {
            self.ack_now |= segment.length() > 0;
            return (&[], false);
        }
        let room = (self.receive_edge - self.receive_next) as usize;
        if data.len() > room {
            self.ack_now = true;
            return (&data[..room], false);
        }
        (data, fin)
    }

    /// Bytes of requests whose answers are sure to fit.
    #[inline(always)]
    pub(super) const fn room(&self) -> u32 {
        self.buffer.free().saturating_sub(self.requests.reserve()) >> ANSWER_SHIFT
    }

    /// Whether there is data that was never sent.
    #[inline(always)]
    pub fn has_unsent(&self) -> bool {
        (self.send_next - (self.send_start + 1)).wrapping_sub(self.buffer.end()) as i32 <= -1
    }

    /// What time brings: a retransmission from the oldest number on, or the end.
    pub fn tick(&mut self, now: Ticks) {
        let Some(deadline) = self.deadline else {
            return;
        };
        if (now.wrapping_sub(deadline) as i32) < 0 {
            return;
        }
        self.attempts += 1;
        let limit = if self.state == State::SynReceived {
            SYN_ATTEMPTS
        } else {
            ATTEMPTS
        };
        if self.attempts > limit {
            self.free();
            return;
        }
        self.send_next = self.send_unacked;
        self.probe = true;
        self.deadline = None;
    }

    /// Starts the timer, unless it runs.
    #[inline(always)]
    pub(super) fn arm(&mut self, now: Ticks) {
        if self.deadline.is_none() {
            self.deadline = Some(now.wrapping_add(TIMEOUT << self.attempts.min(DOUBLINGS)));
        }
    }
}
