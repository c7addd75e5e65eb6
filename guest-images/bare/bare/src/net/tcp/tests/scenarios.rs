//! Single exchanges, segment by segment.

use proptest::prelude::*;

use super::packet::{
    ACK, CLIENT, CLIENT_MAC, FIN, PSH, Packet, RST, SERVER, SERVER_MAC, SYN, checksum, ip_frame,
};
use crate::net::{FRAME_MAX, Stack};

/// A stack and what it says.
struct Host {
    stack: Box<Stack>,
    now: u32,
}

impl Host {
    fn new() -> Self {
        let mut stack = Box::new(Stack::new());
        stack.start(SERVER_MAC, SERVER, 42);
        Self { stack, now: 0 }
    }

    fn frames(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let mut room = [0; FRAME_MAX];
        let length = self.stack.receive(frame, self.now, &mut room);
        let first = (length > 0).then(|| room[..length].to_vec());
        first.into_iter().chain(self.poll()).collect()
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut room = [0; FRAME_MAX];
        let mut frames = Vec::new();
        loop {
            let length = self.stack.poll(self.now, &mut room);
            if length == 0 {
                return frames;
            }
            frames.push(room[..length].to_vec());
        }
    }

    fn say(&mut self, packet: &Packet) -> Vec<Packet> {
        self.frames(&packet.to_frame())
            .iter()
            .map(|frame| Packet::from_frame(frame))
            .collect()
    }

    /// The one answer to a packet.
    fn ask(&mut self, packet: &Packet) -> Packet {
        let [answer] = self.say(packet).try_into().expect("one answer");
        answer
    }

    fn pass(&mut self, ticks: u32) -> Vec<Packet> {
        let mut packets = Vec::new();
        for _ in 0..ticks {
            self.now += 1;
            packets.extend(self.poll().iter().map(|frame| Packet::from_frame(frame)));
        }
        packets
    }

    /// An open connection from `port`: what the client would say next.
    fn connect(&mut self, port: u16) -> Packet {
        let syn = syn(port);
        let answer = self.ask(&syn);
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, syn.sequence + 1));
        let next = Packet {
            sequence: answer.ack,
            ack: answer.sequence.wrapping_add(1),
            flags: ACK,
            options: vec![],
            ..syn
        };
        assert_eq!(self.say(&next), []);
        next
    }
}

fn syn(port: u16) -> Packet {
    let options = vec![2, 4, 5, 0xB4];
    Packet {
        from_port: port,
        to_port: 7000,
        sequence: 1000,
        flags: SYN,
        window: 8000,
        options,
        ..Packet::default()
    }
}

fn request(next: &Packet, data: &[u8]) -> Packet {
    Packet {
        flags: ACK | PSH,
        data: data.to_vec(),
        ..next.clone()
    }
}

#[test]
fn a_request_is_answered_by_one_frame() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let answer = host.ask(&request(&next, b"incr\n"));
    assert_eq!(
        (answer.flags, answer.data.as_slice()),
        (ACK | PSH, &b"1\n"[..])
    );
    assert_eq!((answer.ack, answer.sequence), (next.sequence + 5, next.ack));
    assert!(answer.window >= 1460);
    assert!(!host.stack.is_settled());
    let ack = Packet {
        sequence: answer.ack,
        ack: answer.sequence.wrapping_add(2),
        ..next
    };
    assert_eq!(host.say(&ack), []);
    assert!(host.stack.is_settled());
    assert_eq!(host.pass(1000), []);
}

#[test]
fn a_repeated_request_is_acknowledged_but_not_counted_again() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let first = host.ask(&request(&next, b"incr\n"));
    let again = host.ask(&request(&next, b"incr\n"));
    assert_eq!((again.ack, again.data.len()), (first.ack, 0));
    let longer = host.ask(&request(&next, b"incr\nincr\n"));
    assert_eq!(longer.data, b"2\n");
}

#[test]
fn an_answer_is_repeated_until_it_is_acknowledged() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let answer = host.ask(&request(&next, b"incr\n"));
    assert_eq!(host.pass(19), []);
    for wait in [1, 40, 80, 160, 320, 640, 640] {
        assert_eq!(
            host.pass(wait).as_slice(),
            std::slice::from_ref(&answer),
            "after {wait}"
        );
    }
    assert_eq!(host.pass(640 * 8).len(), 8);
    assert_eq!(host.pass(10_000), []);
    let late = host.ask(&Packet {
        sequence: answer.ack,
        ..next
    });
    assert_eq!(late.flags, RST);
}

#[test]
fn a_segment_behind_a_gap_is_not_taken() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let behind = Packet {
        sequence: next.sequence + 5,
        ..request(&next, b"incr\n")
    };
    let answer = host.ask(&behind);
    assert_eq!((answer.ack, answer.data.len()), (next.sequence, 0));
    assert_eq!(host.ask(&request(&next, b"incr\n")).data, b"1\n");
    assert_eq!(host.ask(&behind).data, b"2\n");
}

#[test]
fn fin_is_answered_by_fin_after_the_last_answer() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let last = Packet {
        flags: ACK | PSH | FIN,
        ..request(&next, b"incr\n")
    };
    let answer = host.ask(&last);
    assert_eq!(
        (answer.flags, answer.data.as_slice()),
        (ACK | PSH | FIN, &b"1\n"[..])
    );
    assert_eq!(answer.ack, next.sequence + 6);
    assert_eq!(host.pass(20).as_slice(), std::slice::from_ref(&answer));
    let ack = Packet {
        sequence: answer.ack,
        ack: answer.sequence.wrapping_add(3),
        ..next
    };
    assert_eq!(host.say(&ack), []);
    assert_eq!(host.ask(&ack).flags, RST);
}

#[test]
fn a_closed_window_is_probed_and_filled_when_it_opens() {
    let mut host = Host::new();
    let next = Packet {
        window: 0,
        ..host.connect(40_000)
    };
    let answer = host.ask(&request(&next, b"incr\n"));
    assert_eq!(answer.data, b"");
    let [probe] = host.pass(20).try_into().unwrap();
    assert_eq!(probe.data, b"1");
    let closed = Packet {
        sequence: answer.ack,
        ..next.clone()
    };
    for _ in 0..100 {
        assert_eq!(host.say(&closed), []);
        let probes = host.pass(640);
        assert!(!probes.is_empty() && probes.iter().all(|probe| probe.data == b"1"));
    }
    let open = host.ask(&Packet {
        window: 100,
        ..closed
    });
    assert_eq!(
        (open.data.as_slice(), open.sequence),
        (&b"1\n"[..], next.ack)
    );
}

#[test]
fn resets_and_repeated_syns_are_believed_only_if_they_fit() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let challenge = host.ask(&Packet {
        flags: RST,
        sequence: next.sequence + 1,
        ..next.clone()
    });
    assert_eq!((challenge.flags, challenge.ack), (ACK, next.sequence));
    assert_eq!(
        host.say(&Packet {
            flags: RST,
            sequence: next.sequence - 1,
            ..next.clone()
        }),
        []
    );
    assert_eq!(host.ask(&syn(40_000)).flags, ACK);
    assert_eq!(
        host.say(&Packet {
            flags: RST,
            ..next.clone()
        }),
        []
    );
    assert_eq!(host.ask(&next).flags, RST);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let answer = host.ask(&Packet {
        ack: next.ack.wrapping_add(1),
        ..request(&next, b"incr\n")
    });
    assert_eq!((answer.ack, answer.data.len()), (next.sequence, 0));
    let answer = host.ask(&syn(40_001));
    let wrong = Packet {
        flags: ACK,
        sequence: 1001,
        ack: answer.sequence,
        ..syn(40_001)
    };
    assert_eq!(host.ask(&wrong).flags, RST);
}

#[test]
fn there_is_room_for_four() {
    let mut host = Host::new();
    for port in 1..=4 {
        host.connect(port);
    }
    assert_eq!(host.say(&syn(5)), []);
    host.pass(6000);
    host.connect(5);
}

#[test]
fn other_ports_are_closed() {
    let mut host = Host::new();
    let answer = host.ask(&Packet {
        to_port: 7001,
        ..syn(9)
    });
    assert_eq!(
        (answer.flags, answer.sequence, answer.ack, answer.from_port),
        (RST | ACK, 0, 1001, 7001)
    );
}

#[test]
fn udp_and_ping_come_back() {
    let mut host = Host::new();
    let mut ping = vec![8, 0, 0, 0, 0, 1, 0, 2, b'h', b'i', b'!'];
    let sum = checksum(&ping).to_be_bytes();
    ping[2..4].copy_from_slice(&sum);
    let [pong] = host.frames(&ip_frame(1, &ping)).try_into().unwrap();
    assert_eq!(pong[..12], [CLIENT_MAC, SERVER_MAC].concat());
    assert_eq!(pong[26..34], [SERVER, CLIENT].concat());
    assert_eq!((checksum(&pong[14..34]), checksum(&pong[34..])), (0, 0));
    assert_eq!((pong[34], &pong[42..]), (0, &b"hi!"[..]));

    let datagram = [&[0x12, 0x34, 0x1B, 0x5F, 0, 12, 0, 0][..], b"echo"].concat();
    let [echo] = host.frames(&ip_frame(17, &datagram)).try_into().unwrap();
    assert_eq!(
        echo[34..],
        [&[0x1B, 0x5F, 0x12, 0x34, 0, 12, 0, 0][..], b"echo"].concat()
    );
}

#[test]
fn arp_is_answered_for_our_address_alone() {
    let mut host = Host::new();
    let question = |address: [u8; 4]| {
        let arp = [
            &[0, 1, 8, 0, 6, 4, 0, 1][..],
            &CLIENT_MAC,
            &CLIENT,
            &[0; 6],
            &address,
        ]
        .concat();
        [&[0xFF; 6][..], &CLIENT_MAC, &[8, 6], &arp].concat()
    };
    let [answer] = host.frames(&question(SERVER)).try_into().unwrap();
    let arp = [
        &[0, 1, 8, 0, 6, 4, 0, 2][..],
        &SERVER_MAC,
        &SERVER,
        &CLIENT_MAC,
        &CLIENT,
    ]
    .concat();
    assert_eq!(
        answer,
        [&CLIENT_MAC[..], &SERVER_MAC, &[8, 6], &arp].concat()
    );
    assert!(host.frames(&question([172, 31, 0, 3])).is_empty());
}

#[test]
fn a_damaged_frame_is_dropped() {
    let mut host = Host::new();
    let next = host.connect(40_000);
    let frame = request(&next, b"incr\n").to_frame();
    for byte in 14..59 {
        let mut damaged = frame.clone();
        damaged[byte] ^= 0x10;
        assert!(host.frames(&damaged).is_empty(), "byte {byte}");
    }
    for length in 0..59 {
        assert!(host.frames(&frame[..length]).is_empty(), "cut to {length}");
    }
    assert_eq!(host.frames(&frame).len(), 1);
}

fn any_packet(next: Packet) -> impl Strategy<Value = Packet> {
    let near = |number: u32| prop_oneof![3 => (-3_i32..12).prop_map(move |by| number.wrapping_add_signed(by)), 1 => any::<u32>()];
    let data = prop::collection::vec(prop::sample::select(b"incr\n\r".as_slice()), 0..40);
    let options = prop::collection::vec(any::<[u8; 4]>(), 0..4);
    let flags = prop_oneof![3 => Just(ACK), 1 => any::<u8>()];
    (
        near(next.sequence),
        near(next.ack),
        flags,
        any::<u16>(),
        options,
        data,
    )
        .prop_map(
            move |(sequence, ack, flags, window, options, data)| Packet {
                sequence,
                ack,
                flags,
                window,
                options: options.concat(),
                data,
                ..next.clone()
            },
        )
}

proptest! {
    #[test]
    fn no_sequence_of_segments_breaks_it(
        packets in {
            let next = Host::new().connect(40_000);
            prop::collection::vec((any_packet(next), 0_u32..60), 0..60)
        },
    ) {
        let mut host = Host::new();
        host.connect(40_000);
        for (packet, wait) in packets {
            host.say(&packet);
            host.pass(wait);
        }
    }

    #[test]
    fn no_frame_breaks_it(mut frame in prop::collection::vec(any::<u8>(), 0..100), kind in 0_u8..4, protocol in 0_usize..4) {
        match kind {
            0 => {}
            1 => frame = ip_frame([1, 6, 17, 99][protocol], &frame),
            _ if frame.len() > 24 => {
                frame[12..14].copy_from_slice(&[8, [0, 6][usize::from(kind) % 2]]);
                frame[23] = [1, 6, 17, 99][protocol];
            }
            _ => {}
        }
        Host::new().frames(&frame);
    }
}
