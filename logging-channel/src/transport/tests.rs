use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

use super::*;
use crate::codec::encode_heartbeat;
use crate::protocol::{Heartbeat, Message, Role};
use crate::{Entry, Event, Position};

/// Generous: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("the test hangs") });
}

async fn pair() -> (Connection, Connection) {
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().to_string();
    let (primary, backup) = tokio::join!(connect(&address, PATIENCE), listener.accept());
    (primary.unwrap(), backup.unwrap())
}

fn big_batch(first: u64) -> Message {
    let entry = |seq| Entry {
        seq,
        at: Position::default(),
        event: Event::Frame {
            bytes: vec![seq as u8; 1000],
        },
    };
    Message::Entries {
        entries: (first..first + 100).map(entry).collect(),
        released_through: first - 1,
    }
}

fn heartbeat(role: Role, session: u64, counter: u64) -> Heartbeat {
    Heartbeat {
        role,
        term: 1,
        counter,
        heard: 0,
        session,
    }
}

#[test]
fn messages_pass_both_ways_and_the_end_shows() {
    run(async {
        let (primary, backup) = pair().await;
        assert_eq!(primary.local_addr(), backup.peer_addr());
        let (mut primary_in, mut primary_out) = primary.split();
        let (mut backup_in, mut backup_out) = backup.split();
        primary_out.write(&big_batch(1)).unwrap();
        primary_out.write(&Message::Goodbye).unwrap();
        let ack = Message::Ack {
            received: 100,
            executed: 3,
        };
        backup_out.write(&ack).unwrap();
        primary_out.finish().await.unwrap();
        assert_eq!(backup_in.next().await.unwrap(), Some(big_batch(1)));
        assert_eq!(backup_in.next().await.unwrap(), Some(Message::Goodbye));
        assert_eq!(backup_in.next().await.unwrap(), None);
        assert_eq!(primary_in.next().await.unwrap(), Some(ack));
        drop((backup_in, backup_out));
        assert_eq!(primary_in.next().await.unwrap(), None);
    });
}

/// A peer that reads nothing fills the socket, then the outbox, and never stalls the writer. The
/// reads and writes are cancelled all the time, and nothing is lost or repeated.
#[test]
fn a_stalled_peer_stalls_nobody_and_cancelling_loses_nothing() {
    const BATCHES: u64 = 200;
    run(async {
        let (primary, backup) = pair().await;
        let (_primary_in, mut writer) = primary.split();
        let (mut reader, _backup_out) = backup.split();
        for batch in 0..BATCHES {
            writer.write(&big_batch(batch * 100 + 1)).unwrap();
        }
        assert!(writer.has_unsent(), "the sockets hold less than 20 MB");
        let mut received = 0;
        while received < BATCHES {
            tokio::select! {
                biased;
                // A branch that wins at once every other time drops the others' futures.
                () = tokio::task::yield_now() => {}
                result = writer.flush(), if writer.has_unsent() => result.unwrap(),
                message = reader.next() => {
                    assert_eq!(message.unwrap(), Some(big_batch(received * 100 + 1)));
                    received += 1;
                }
            }
        }
        assert!(!writer.has_unsent());
    });
}

#[test]
fn the_outbox_is_bounded() {
    run(async {
        let (primary, _backup) = pair().await;
        let (_reader, mut writer) = primary.split();
        let error = loop {
            if let Err(error) = writer.write(&big_batch(1)) {
                break error;
            }
        };
        assert!(
            matches!(error, TransportError::OutboxFull { .. }),
            "{error}"
        );
        assert!(writer.unsent_bytes() <= OUTBOX_BYTES);
    });
}

#[test]
fn strangers_and_torn_messages_are_errors() {
    run(async {
        let listener = listen("127.0.0.1:0").await.unwrap();
        for (bytes, expected) in [
            (
                &b"GET / HTTP/1.1\r\nHost: there\r\n\r\n"[..],
                "not a lockstep log",
            ),
            (
                &b"LSTP\x01"[..],
                "Connection ended inside a message, after 5 bytes of it",
            ),
        ] {
            let mut stranger = TcpStream::connect(listener.local_addr()).await.unwrap();
            let (mut reader, _writer) = listener.accept().await.unwrap().split();
            stranger.write_all(bytes).await.unwrap();
            drop(stranger);
            let error = reader.next().await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn what_cannot_be_reached_is_named() {
    run(async {
        let taken = listen("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().to_string();
        let error = listen(&address).await.unwrap_err().to_string();
        assert!(error.contains(&address), "{error}");
        drop(taken);
        let error = connect(&address, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains(&address), "{error}");
        let error = connect("nonsense", PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("HOST:PORT"), "{error}");
    });
}

#[test]
fn the_backup_learns_where_its_primary_is() {
    run(async {
        let (primary, backup) = pair().await;
        let mut at_backup = Heartbeats::bind(backup.local_addr()).await.unwrap();
        let mut at_primary = Heartbeats::connect(primary.local_addr(), primary.peer_addr(), 7)
            .await
            .unwrap();
        assert_eq!(
            at_primary.local_addr().unwrap(),
            primary.local_addr(),
            "the same port"
        );

        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = backup.local_addr();
        let other_pair = encode_heartbeat(&heartbeat(Role::Primary, 8, 1));
        for datagram in [&other_pair[..], b"", b"hello", &[0xff; 1500]] {
            stranger.send_to(datagram, to).await.unwrap();
        }
        at_backup.pair(7);
        // Nobody to send to yet: lost, like any datagram.
        at_backup.send(&heartbeat(Role::Backup, 7, 1));

        let from_primary = heartbeat(Role::Primary, 7, 1);
        at_primary.send(&from_primary);
        assert_eq!(at_backup.recv().await.unwrap(), from_primary);
        assert_eq!(at_backup.ignored(), 4);
        let answer = heartbeat(Role::Backup, 7, 2);
        at_backup.send(&answer);
        assert_eq!(at_primary.recv().await.unwrap(), answer);
    });
}

#[test]
fn a_taken_port_is_replaced_by_another() {
    run(async {
        let (primary, _backup) = pair().await;
        let _taken = UdpSocket::bind(primary.local_addr()).await.unwrap();
        let heartbeats = Heartbeats::connect(primary.local_addr(), primary.peer_addr(), 7)
            .await
            .unwrap();
        let local = heartbeats.local_addr().unwrap();
        assert_eq!(local.ip(), primary.local_addr().ip());
        assert_ne!(local.port(), primary.local_addr().port());
    });
}
