use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{LIMITS, Limits, serve_within};
use crate::core::{Identity, Outcome, State};
use crate::error::ArbiterError;
use crate::fence::FencedStore;
use crate::store::Store;
use crate::wire::{ANSWER_BYTES, Answer, Question, Refusal, Reply, Request};

const TIMEOUT: Duration = Duration::from_secs(60);

/// So that a slow machine is not taken for a slow client.
const PATIENT: Limits = Limits {
    transfer: TIMEOUT,
    decision: TIMEOUT,
    ..LIMITS
};

/// A server in this process, and the folder of its state file.
struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ArbiterError>>,
    folder: tempfile::TempDir,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("state"), TIMEOUT).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_within(
            limits,
            listener,
            FencedStore::open(store),
            shutdown,
        ));
        Self {
            address,
            stop,
            task,
            folder,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn answer(stream: &mut TcpStream) -> Answer {
    let mut frame = [0; ANSWER_BYTES];
    stream.read_exact(&mut frame).await.unwrap();
    Answer::decode(&frame).unwrap()
}

async fn ask(stream: &mut TcpStream, id: u64, question: Question) -> Answer {
    let frame = Request { id, question }.encode();
    stream.write_all(&frame).await.unwrap();
    answer(stream).await
}

fn refusal(answer: &Answer) -> Refusal {
    match &answer.reply {
        Reply::Refused { refusal, .. } => *refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = Server::start(PATIENT).await;
    let mut stream = server.connect().await;
    let identity = Identity::from_bytes([1; 16]);
    for expected_term in 0..10 {
        let question = Question::Claim {
            expected_term,
            identity,
        };
        let answer = ask(&mut stream, expected_term + 100, question).await;
        assert_eq!(answer.id, expected_term + 100);
        let term = expected_term + 1;
        assert_eq!(answer.reply, Reply::Decided(Outcome::Won { term }));
    }
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let transfer = Duration::from_millis(100);
    let server = Server::start(Limits {
        transfer,
        ..PATIENT
    })
    .await;
    for sent in [0, 1, 63] {
        let mut stream = server.connect().await;
        stream.write_all(&vec![0; sent]).await.unwrap();
        assert_eq!(refusal(&answer(&mut stream).await), Refusal::TooSlow);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let connections = 2;
    let server = Server::start(Limits {
        connections,
        ..PATIENT
    })
    .await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    ask(&mut first, 1, Question::Read).await;
    ask(&mut second, 2, Question::Read).await;
    let mut third = server.connect().await;
    let question = Question::Read;
    let frame = Request { id: 3, question }.encode();
    third.write_all(&frame).await.unwrap();
    // Both slots are taken, so the first two are answered while the third is not even accepted.
    for id in 4..14 {
        assert_eq!(ask(&mut first, id, Question::Read).await.id, id);
        assert_eq!(ask(&mut second, id, Question::Read).await.id, id);
    }
    let early = third.try_read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    assert_eq!(answer(&mut third).await.id, 3);
}

#[tokio::test]
async fn a_spoilt_state_file_is_told_to_the_client_and_found_again_when_whole() {
    let server = Server::start(PATIENT).await;
    let path = server.folder.path().join("state");
    let whole = std::fs::read(&path).unwrap();
    let mut stream = server.connect().await;
    std::fs::write(&path, vec![0; whole.len()]).unwrap();
    let spoilt = ask(&mut stream, 1, Question::Read).await;
    assert_eq!(refusal(&spoilt), Refusal::Broken);
    let Reply::Refused { text, .. } = spoilt.reply else {
        panic!("a refusal became something else");
    };
    assert!(text.contains("state is corrupt"), "{text}");
    std::fs::write(&path, whole).unwrap();
    let found = ask(&mut stream, 2, Question::Read).await;
    assert_eq!(found.reply, Reply::State(State::FRESH));
}

#[tokio::test]
async fn shutdown_ends_connections_and_returns() {
    let server = Server::start(PATIENT).await;
    let mut stream = server.connect().await;
    ask(&mut stream, 1, Question::Read).await;
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
    // Reset or closed, but not answered.
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
}
