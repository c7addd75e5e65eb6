//! ARP for one address (RFC 826).

use super::bytes::{at, put};
use super::{Address, ETHERNET, Frame, Mac};

const LENGTH: usize = ETHERNET + 28;
/// Ethernet, IPv4, their address lengths.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Answers a request for `address`; 0 for anything else.
pub fn receive(frame: &[u8], mac: Mac, address: Address, reply: &mut Frame) -> usize {
    let Some(request) = frame.first_chunk::<LENGTH>() else {
        return 0;
    };
    let expected = at::<14, 6, LENGTH>(request) == KIND && at::<20, 2, LENGTH>(request) == REQUEST;
    if !expected || at::<38, 4, LENGTH>(request) != address {
        return 0;
    }
    let asking: [u8; 10] = at::<22, 10, LENGTH>(request);
    put::<0, 6, _>(reply, at::<22, 6, LENGTH>(request));
    put::<6, 6, _>(reply, mac);
    put::<12, 2, _>(reply, [0x08, 0x06]);
    put::<14, 6, _>(reply, KIND);
    put::<20, 2, _>(reply, REPLY);
    put::<22, 6, _>(reply, mac);
    put::<28, 4, _>(reply, address);
    put::<32, 10, _>(reply, asking);
    LENGTH
}
