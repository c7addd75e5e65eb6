//! Frames as a client sees them: written and read byte by byte, sharing no code with the stack.

use crate::net::{Address, FRAME_MAX, Mac};

pub const SERVER_MAC: Mac = [0x52, 0x54, 0, 0x6c, 0x73, 1];
pub const SERVER: Address = [172, 31, 0, 2];
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 9];
pub const CLIENT: Address = [172, 31, 0, 1];

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A TCP segment between the client and the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    pub from_port: u16,
    pub to_port: u16,
    pub sequence: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

/// RFC 1071, as a number to write in big-endian order.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(from: Address, to: Address, tcp: &[u8]) -> Vec<u8> {
    let length = (tcp.len() as u16).to_be_bytes();
    [&from[..], &to, &[0, 6], &length, tcp].concat()
}

/// An Ethernet frame from client to server around `payload`.
pub fn ip_frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(CLIENT);
    ip.extend(SERVER);
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut frame = [&SERVER_MAC[..], &CLIENT_MAC, &[8, 0], &ip, payload].concat();
    // Ethernet's padding, with rubbish.
    frame.resize(frame.len().max(60), 0xEE);
    frame
}

impl Packet {
    /// The frame that carries this from client to server.
    pub fn to_frame(&self) -> Vec<u8> {
        assert_eq!(self.options.len() % 4, 0);
        let mut tcp = Vec::new();
        tcp.extend(self.from_port.to_be_bytes());
        tcp.extend(self.to_port.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.push(((20 + self.options.len()) * 4) as u8);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.data);
        let sum = checksum(&pseudo_header(CLIENT, SERVER, &tcp)).to_be_bytes();
        tcp[16..18].copy_from_slice(&sum);
        ip_frame(6, &tcp)
    }

    /// Reads a frame from the server and checks every field of it.
    pub fn from_frame(frame: &[u8]) -> Self {
        assert!(frame.len() <= FRAME_MAX);
        assert_eq!(
            frame[..14],
            [&CLIENT_MAC[..], &SERVER_MAC, &[8, 0]].concat()
        );
        let (ip, tcp) = frame[14..].split_at(20);
        assert_eq!((ip[0], ip[9]), (0x45, 6));
        assert_eq!(
            usize::from(u16::from_be_bytes([ip[2], ip[3]])),
            frame.len() - 14
        );
        assert_eq!(ip[12..20], [SERVER, CLIENT].concat());
        assert_eq!(checksum(ip), 0);
        assert_eq!(checksum(&pseudo_header(SERVER, CLIENT, tcp)), 0);
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        Self {
            from_port: short(0),
            to_port: short(2),
            sequence: number(4),
            ack: number(8),
            flags: tcp[13],
            window: short(14),
            options: tcp[20..header].to_vec(),
            data: tcp[header..].to_vec(),
        }
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}
