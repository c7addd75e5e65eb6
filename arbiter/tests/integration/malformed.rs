//! What is no request ends its own connection, with a reason, and nothing else. The frames are made
//! here from the description in `wire.rs`, so that a change of the format does not go unnoticed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use arbiter::Address;
use proptest::prelude::*;

use crate::processes::{Process, TIMEOUT};

const REQUEST_BYTES: usize = 64;
const ANSWER_BYTES: usize = 512;
const STATE: u16 = 1;
const REFUSED: u16 = 4;

fn connect(address: &Address) -> TcpStream {
    let Address::Tcp { host, port } = address else {
        panic!("{address} is no server");
    };
    let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn read_request(id: u64) -> [u8; REQUEST_BYTES] {
    let mut frame = [0; REQUEST_BYTES];
    frame[0..4].copy_from_slice(b"LSAQ");
    frame[4] = 1;
    frame[6] = 1;
    frame[8..16].copy_from_slice(&id.to_le_bytes());
    let checksum = crc32fast::hash(&frame[..60]);
    frame[60..].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn kind(answer: &[u8]) -> u16 {
    assert_eq!(answer.len(), ANSWER_BYTES);
    assert_eq!(&answer[0..4], b"LSAA");
    let checksum = crc32fast::hash(&answer[..508]);
    assert_eq!(answer[508..], checksum.to_le_bytes());
    u16::from_le_bytes([answer[6], answer[7]])
}

/// All that comes back for `bytes`, until the server closes.
fn answers_to(address: &Address, bytes: &[u8]) -> Vec<u16> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    answers.chunks(ANSWER_BYTES).map(kind).collect()
}

/// A client of good manners, connected all along.
fn is_served(mut stream: &TcpStream, id: u64) {
    stream.write_all(&read_request(id)).unwrap();
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(kind(&answer), STATE);
    assert_eq!(answer[8..16], id.to_le_bytes());
}

#[test]
fn what_is_no_request_is_refused_and_others_are_served_on() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = Process::server(&folder.path().join("state"));
    let good = connect(&address);
    is_served(&good, 1);

    let bytes = prop::collection::vec(any::<u8>(), 1..300);
    let strategy = (bytes, 0usize..3, 0..REQUEST_BYTES, 1u8..);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    };
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |(garbage, good_ones, offset, mask)| {
            // Good requests first, then garbage: as it comes, or a request with one byte changed.
            let mut spoilt = read_request(9);
            spoilt[offset] ^= mask;
            for end in [&garbage[..], &spoilt[..], &read_request(9)[..offset.max(1)]] {
                let mut bytes = read_request(7).repeat(good_ones);
                bytes.extend_from_slice(end);
                let mut expected = vec![STATE; good_ones];
                expected.push(REFUSED);
                prop_assert_eq!(answers_to(&address, &bytes), expected);
            }
            is_served(&good, 2);
            Ok(())
        },
    );
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_client_that_leaves_without_a_word_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = Process::server(&folder.path().join("state"));
    assert_eq!(answers_to(&address, &[]), []);
    assert_eq!(answers_to(&address, &read_request(1)), [STATE]);
}

#[test]
fn a_refusal_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, address) = Process::server(&folder.path().join("state"));
    let mut stream = connect(&address);
    let request = b"GET / HTTP/1.1\r\nHost: arbiter.example\r\nUser-Agent: somebody lost\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(kind(&answer), REFUSED);
    let text = String::from_utf8_lossy(&answer[48..508]);
    assert!(text.contains("not of the arbiter's protocol"), "{text}");
}
