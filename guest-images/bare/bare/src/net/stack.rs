//! From a frame to the protocol it is for.

use super::bytes::{at, u16_at};
use super::checksum::Sum;
use super::service::{Caller, Counter, Service};
use super::tcp::{Listener, Segment};
use super::{Address, ETHERNET, Frame, IPV4, Mac, Ticks, arp, echo};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Version 4, five words of header: packets with options are not for us.
const VERSION_AND_LENGTH: u8 = 0x45;
/// More fragments, and the fragment's offset: whole packets have neither.
const FRAGMENT: u16 = 0x3FFF;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// A host with one address and one TCP service.
pub struct Stack<S = Counter> {
    mac: Mac,
    address: Address,
    tcp: Listener<S>,
}

impl Stack {
    /// A host that counts.
    #[must_use]
    pub const fn new() -> Self {
        Self::of(Counter::new())
    }

    /// The service behind the TCP port.
    #[must_use]
    pub const fn counter(&self) -> &Counter {
        self.service()
    }
}

impl<S: Service> Stack<S> {
    /// A host that is nobody yet: a constant, for it is too large to be moved about.
    #[must_use]
    pub const fn of(service: S) -> Self {
        Self {
            mac: [0; 6],
            address: [0; 4],
            tcp: Listener::new(service),
        }
    }

    /// Gives the host its addresses; `seed` makes its TCP sequence numbers hard to guess.
    pub fn start(&mut self, mac: Mac, address: Address, seed: u64) {
        (self.mac, self.address) = (mac, address);
        self.tcp.start(mac, address, seed);
    }

    /// Takes a received frame. Returns the length of the frame to send at once, written to
    /// `reply`, or 0.
    pub fn receive(&mut self, frame: &[u8], now: Ticks, reply: &mut Frame) -> usize {
        let Some(header) = frame.first_chunk::<IPV4>() else {
            return 0;
        };
        match u16_at::<12, IPV4>(header) {
            ETHERTYPE_IPV4 => {}
            ETHERTYPE_ARP => return arp::receive(frame, self.mac, self.address, reply),
            _ => return 0,
        }
        let Some(packet) = self.check(header, frame) else {
            return 0;
        };
        match header[23] {
            PROTOCOL_TCP => match Segment::parse(packet) {
                Some(segment) => self.tcp.receive(&segment, now, reply),
                None => 0,
            },
            PROTOCOL_ICMP => echo::icmp(packet, reply),
            PROTOCOL_UDP => echo::udp(packet, reply),
            _ => 0,
        }
    }

    /// The next frame to send unasked: more data, or what time brings. Returns its length, or 0.
    pub fn poll(&mut self, now: Ticks, frame: &mut Frame) -> usize {
        self.tcp.poll(now, frame)
    }

    /// The service behind the TCP port.
    #[must_use]
    pub const fn service(&self) -> &S {
        self.tcp.service()
    }

    /// The service behind the TCP port.
    pub const fn service_mut(&mut self) -> &mut S {
        self.tcp.service_mut()
    }

    /// Answers a request that the service has put off, with a line. A caller that is gone by now
    /// is not answered.
    pub fn answer(&mut self, caller: Caller, answer: &[u8]) {
        self.tcp.answer(caller, answer);
    }

    /// Whether every answer has been acknowledged by its client.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.tcp.is_settled()
    }

    /// A whole packet for us with a valid header, without Ethernet's padding.
    #[inline(always)]
    fn check<'a>(&self, header: &[u8; IPV4], frame: &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::from(u16_at::<16, IPV4>(header));
        let valid = header[14] == VERSION_AND_LENGTH
            && u16_at::<20, IPV4>(header) & FRAGMENT == 0
            && at::<30, 4, IPV4>(header) == self.address
            && length >= IPV4 - ETHERNET
            && Sum::new().bytes(&at::<14, 20, IPV4>(header)).finish() == 0;
        if valid {
            frame.get(..ETHERNET + length)
        } else {
            None
        }
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}
