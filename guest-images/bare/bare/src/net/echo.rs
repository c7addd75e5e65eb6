//! ICMP echo (RFC 792) and UDP echo: the packet goes back with its ends exchanged, which leaves
//! every one's complement sum as it was.

use super::bytes::{at, copy, put};
use super::{Frame, IPV4};

/// The UDP port that echoes.
const UDP_PORT: u16 = 7007;
const ICMP_REQUEST: [u8; 2] = [8, 0];
const ICMP_REPLY: u8 = 0;

/// Answers an echo request; `packet` is a frame cut to its IPv4 length. 0: it is none.
pub fn icmp(packet: &[u8], reply: &mut Frame) -> usize {
    if packet.len() < IPV4 + 8 || packet[IPV4..IPV4 + 2] != ICMP_REQUEST {
        return 0;
    }
    exchange(packet, reply);
    reply[IPV4] = ICMP_REPLY;
    // The type's word is 0x0800 less, so its complement's sum is that much more (RFC 1624).
    let (sum, carry) = u16::from_be_bytes(at::<{ IPV4 + 2 }, 2, _>(reply)).overflowing_add(0x0800);
    put::<{ IPV4 + 2 }, 2, _>(reply, (sum + u16::from(carry)).to_be_bytes());
    packet.len()
}

/// Answers a datagram to the echo port; 0: it is for another.
pub fn udp(packet: &[u8], reply: &mut Frame) -> usize {
    if packet.len() < IPV4 + 8 || packet[IPV4 + 2..IPV4 + 4] != UDP_PORT.to_be_bytes() {
        return 0;
    }
    exchange(packet, reply);
    reply.copy_within(IPV4..IPV4 + 2, IPV4 + 2);
    reply[IPV4..IPV4 + 2].copy_from_slice(&UDP_PORT.to_be_bytes());
    packet.len()
}

/// Copies a packet and exchanges Ethernet and IPv4 addresses.
fn exchange(packet: &[u8], reply: &mut Frame) {
    copy(packet, reply);
    let (destination, source) = (at::<0, 6, _>(reply), at::<6, 6, _>(reply));
    put::<0, 6, _>(reply, source);
    put::<6, 6, _>(reply, destination);
    let (source, destination) = (at::<26, 4, _>(reply), at::<30, 4, _>(reply));
    put::<26, 4, _>(reply, destination);
    put::<30, 4, _>(reply, source);
}
