use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::TcpArbiter;
use crate::core::{Identity, Outcome, State, TermExhausted};
use crate::error::ArbiterError;
use crate::wire::{Answer, REQUEST_BYTES, Refusal, Reply, Request};

const TIMEOUT: Duration = Duration::from_secs(60);
const CLAIMANT: Identity = Identity::from_bytes([7; 16]);

/// What a claim on term 4 comes to when the server sends what `reply` makes of the request.
async fn claim_answered_by(
    reply: impl FnOnce(&Request) -> Vec<u8>,
) -> Result<Outcome, ArbiterError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut frame = [0; REQUEST_BYTES];
        stream.read_exact(&mut frame).await.unwrap();
        let bytes = reply(&Request::decode(&frame).unwrap());
        stream.write_all(&bytes).await.unwrap();
    };
    let arbiter = TcpArbiter::new("127.0.0.1".to_owned(), port);
    let ((), outcome) = tokio::join!(server, arbiter.claim(4, CLAIMANT, TIMEOUT));
    outcome
}

fn frame(id: u64, reply: Reply) -> Vec<u8> {
    Answer { id, reply }.encode().to_vec()
}

fn won(term: u64) -> Reply {
    Reply::Decided(Outcome::Won { term })
}

#[tokio::test]
async fn a_fitting_answer_is_passed_on() {
    let outcome = claim_answered_by(|request| frame(request.id, won(5))).await;
    assert_eq!(outcome.unwrap(), Outcome::Won { term: 5 });
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_never_a_win() {
    let answers: [fn(&Request) -> Vec<u8>; 6] = [
        |request| frame(request.id, won(4)),
        |request| frame(request.id, won(6)),
        |request| frame(request.id + 1, won(5)),
        |request| frame(request.id, Reply::State(State::FRESH)),
        |_| vec![b'x'; 4096],
        |request| {
            let mut bytes = frame(request.id, won(5));
            bytes[300] ^= 1;
            bytes
        },
    ];
    for answer in answers {
        let error = claim_answered_by(answer).await.unwrap_err();
        assert!(matches!(error, ArbiterError::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_answer() {
    for length in [0, 1, 511] {
        let answer = |request: &Request| frame(request.id, won(5))[..length].to_vec();
        let error = claim_answered_by(answer).await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
    }
}

#[tokio::test]
async fn refusals_keep_their_meaning_and_lose_their_control_characters() {
    let refuse = |refusal| {
        let text = "no\u{1b}[2J".to_owned();
        claim_answered_by(move |request| frame(request.id, Reply::Refused { refusal, text }))
    };
    for refusal in [Refusal::Unavailable, Refusal::TooSlow] {
        let error = refuse(refusal).await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
    }
    for refusal in [Refusal::Broken, Refusal::Malformed] {
        let error = refuse(refusal).await.unwrap_err();
        assert!(matches!(error, ArbiterError::Refused { .. }), "{error}");
        assert!(error.to_string().ends_with("no?[2J"), "{error}");
    }
    let error = refuse(Refusal::TermExhausted).await.unwrap_err();
    assert!(matches!(error, ArbiterError::TermExhausted(TermExhausted)));
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let arbiter = TcpArbiter::new("127.0.0.1".to_owned(), port);
    let error = arbiter.read(TIMEOUT).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    let address = format!("tcp:127.0.0.1:{port}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_unreachable_once_the_timeout_has_passed() {
    // The kernel completes the connection; nobody ever reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let arbiter = TcpArbiter::new("127.0.0.1".to_owned(), port);
    let error = arbiter.read(Duration::from_millis(50)).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("50 ms"), "{error}");
    drop(listener);
}
