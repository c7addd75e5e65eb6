//! The server behind `lockstep arbiter`: requests flow in over TCP, go one at a time to the store,
//! and each answer flows out once what it says is on the disk. So the server may be killed at any
//! moment and started again on the same file.
//!
//! What always holds: no client can make it use more than a fixed number of connections, a fixed
//! frame and a fixed time; what one connection sends never ends another.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::ArbiterError;
use crate::fence::FencedStore;
use crate::store::Store;
use crate::wire::{Answer, Question, REQUEST_BYTES, Refusal, Reply, Request};

#[cfg(test)]
mod tests;

/// What clients may use up.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once. A pair needs two; more wait in the listener's backlog.
    connections: usize,
    /// From the start of a connection, or the last answer, to the last byte of a request; and for
    /// a client to take its answer.
    transfer: Duration,
    /// For the store to decide and the fence to stand, the wait for its turn included. Beyond that
    /// the client, which has a shorter limit of its own, is long gone.
    decision: Duration,
}

const LIMITS: Limits = Limits {
    connections: 64,
    transfer: Duration::from_secs(10),
    decision: Duration::from_secs(10),
};

/// After `accept` failed for want of descriptors or memory: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much a refused client may still send before its connection is cut, in bytes.
const DRAIN_BYTES: u64 = 64 * 1024;

/// Answers claims on `store` that come in through `listener`, until `shutdown` completes; returns
/// when the store is at rest. Needs a tokio runtime with I/O and time enabled.
///
/// At most 64 connections are served at once; a request must arrive whole within 10 s.
///
/// # Errors
///
/// [`ArbiterError::Listen`] when the listening socket fails for good. Whatever happens on a
/// connection or to the state file is told to the client, and the server goes on.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ArbiterError> {
    serve_within(LIMITS, listener, FencedStore::open(store), shutdown).await
}

/// As [`serve`], with a fence: a claim is answered `Won` only when the storage obeys the new term.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_fencing(
    listener: TcpListener,
    store: FencedStore,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ArbiterError> {
    serve_within(LIMITS, listener, store, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    store: FencedStore,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ArbiterError> {
    let mut connections = JoinSet::new();
    let result = tokio::select! {
        () = shutdown => Ok(()),
        error = accept_all(limits, &listener, &store, &mut connections) => Err(error),
    };
    connections.shutdown().await;
    // A decision that was under way is completed, and its client asks again.
    store.settle(limits.decision).await;
    result
}

/// Accepts until that fails for good.
async fn accept_all(
    limits: Limits,
    listener: &TcpListener,
    store: &FencedStore,
    connections: &mut JoinSet<()>,
) -> ArbiterError {
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the slots' semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_fatal(&error) => return ArbiterError::Listen(error),
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Ended ones are cleared away here, so that the set never holds many more than the slots.
        while connections.try_join_next().is_some() {}
        let store = store.clone();
        connections.spawn(async move {
            let _slot = slot;
            // A connection that fails concerns its client alone, and the client knows.
            let _ = converse(limits, stream, &store).await;
        });
    }
}

/// Errors of the listening socket itself. All others of accept(2) concern one connection, or pass.
fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// One connection, from its first request until its client leaves or sends what is no request.
async fn converse(limits: Limits, mut stream: TcpStream, store: &FencedStore) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut frame = [0; REQUEST_BYTES];
        let request = match timeout(limits.transfer, read_frame(&mut stream, &mut frame)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(REQUEST_BYTES)) => {
                Request::decode(&frame).map_err(|fault| (Refusal::Malformed, fault.to_string()))
            }
            Ok(Ok(length)) => Err((
                Refusal::Malformed,
                format!("The frame ends after {length} of {REQUEST_BYTES} bytes"),
            )),
            Ok(Err(error)) => return Err(error),
            Err(_) => Err((
                Refusal::TooSlow,
                format!(
                    "No whole request came within {} ms",
                    limits.transfer.as_millis()
                ),
            )),
        };
        let (id, reply) = match request {
            Ok(request) => (request.id, decide(limits, store, request.question).await),
            Err((refusal, text)) => {
                let reply = Reply::Refused { refusal, text };
                return dismiss(limits, stream, &Answer { id: 0, reply }).await;
            }
        };
        send(limits, &mut stream, &Answer { id, reply }).await?;
    }
}

/// Reads until `frame` is full or the client has ended its side; gives the bytes read.
async fn read_frame(stream: &mut TcpStream, frame: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < frame.len() {
        match stream.read(&mut frame[filled..]).await? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

async fn decide(limits: Limits, store: &FencedStore, question: Question) -> Reply {
    let decided = match question {
        Question::Read => store.read(limits.decision).await.map(Reply::State),
        Question::Claim {
            expected_term,
            identity,
        } => store
            .claim(expected_term, identity, limits.decision)
            .await
            .map(Reply::Decided),
    };
    decided.unwrap_or_else(|error| {
        let refusal = match &error {
            ArbiterError::Unreachable { .. } => Refusal::Unavailable,
            ArbiterError::TermExhausted(_) => Refusal::TermExhausted,
            _ => Refusal::Broken,
        };
        let text = error.full_text();
        Reply::Refused { refusal, text }
    })
}

async fn send(limits: Limits, stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let frame = answer.encode();
    timeout(limits.transfer, stream.write_all(&frame)).await?
}

/// Sends a last answer. What the client still sends is read, within limits, and dropped: closing
/// a socket with unread bytes resets the connection, and the answer could be lost with it.
async fn dismiss(limits: Limits, mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    send(limits, &mut stream, answer).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(DRAIN_BYTES);
    timeout(
        limits.transfer,
        tokio::io::copy(&mut rest, &mut tokio::io::sink()),
    )
    .await??;
    Ok(())
}
