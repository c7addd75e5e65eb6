//! Messages over TCP, heartbeats over UDP.
//!
//! In: messages and heartbeats of the protocol core, bytes of the peer. Out: the other way round.
//! Nothing here blocks the loop that drives the core: [`MessageReader::next`], [`MessageWriter::flush`]
//! and [`Heartbeats::recv`] are cancel-safe, so each can be a branch of one `tokio::select!`;
//! [`MessageWriter::write`] and [`Heartbeats::send`] return at once. The TCP port of the pair is
//! also the backup's UDP port.
//!
//! ```text
//! loop {
//!     select! {
//!         message = reader.next(), if core.has_room()  => …
//!         heartbeat = heartbeats.recv()                => …
//!         result = writer.flush(), if writer.has_unsent() => …
//!         () = sleep_until(core.next_wakeup())         => …
//!     }
//!     while let Some(action) = core.poll() { … writer.write(&message)? … }
//! }
//! ```

mod heartbeats;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::codec::CodecError;

pub use heartbeats::Heartbeats;
pub use stream::{MessageReader, MessageWriter, OUTBOX_BYTES};

/// Connections that wait to be accepted; a backup takes one primary.
const LISTEN_BACKLOG: u32 = 8;

/// Why bytes did not pass.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A host name that does not resolve, or an address that is none.
    #[error("Cannot resolve {address}; expected HOST:PORT")]
    Resolve {
        /// As given.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("Cannot connect to {address}; is the backup running there?")]
    Connect {
        /// As given.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Nobody answers in time.
    #[error("Cannot connect to {address} within {} ms; is the backup running there?", waited.as_millis())]
    ConnectTimeout {
        /// As given.
        address: String,
        /// How long.
        waited: Duration,
    },
    /// The address is not ours, or taken.
    #[error("Cannot listen on {address}")]
    Listen {
        /// As given.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// The connection failed.
    #[error("Connection failed")]
    Io(#[from] io::Error),
    /// The peer closed its end in the middle of a frame.
    #[error("Connection ended inside a message, after {bytes} bytes of it")]
    Torn {
        /// Bytes of the unfinished frame.
        bytes: usize,
    },
    /// What came is no message, or what should go is too large.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer takes nothing any more: the outbox is full.
    #[error("Peer reads nothing: {unsent_bytes} bytes wait to be sent, the limit is {limit}")]
    OutboxFull {
        /// Bytes that wait.
        unsent_bytes: usize,
        /// [`OUTBOX_BYTES`].
        limit: usize,
    },
}

/// A TCP connection between a primary and its backup.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Connection {
    /// Takes over `stream`; small writes go out at once.
    ///
    /// # Errors
    ///
    /// It is not connected (any more).
    pub fn new(stream: TcpStream) -> Result<Self, TransportError> {
        stream.set_nodelay(true)?;
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self {
            stream,
            local,
            peer,
        })
    }

    /// This end's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The two directions. The connection closes when both are dropped.
    #[must_use]
    pub fn split(self) -> (MessageReader, MessageWriter) {
        let (read, write) = self.stream.into_split();
        (MessageReader::new(read), MessageWriter::new(write))
    }
}

/// Connects to a backup that listens on `address`, `HOST:PORT`, trying each address of the host.
///
/// # Errors
///
/// `address` does not resolve, nobody answers there, or not within `limit`.
pub async fn connect(address: &str, limit: Duration) -> Result<Connection, TransportError> {
    let connecting = async {
        resolve(address).await?;
        TcpStream::connect(address)
            .await
            .map_err(|source| TransportError::Connect {
                address: address.to_owned(),
                source,
            })
    };
    match timeout(limit, connecting).await {
        Ok(stream) => Connection::new(stream?),
        Err(_) => Err(TransportError::ConnectTimeout {
            address: address.to_owned(),
            waited: limit,
        }),
    }
}

/// Waits for primaries.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    local: SocketAddr,
}

/// Listens on `address`, `HOST:PORT`, also when a connection of an earlier process lingers there.
///
/// # Errors
///
/// `address` does not resolve, is not ours or is taken.
pub async fn listen(address: &str) -> Result<Listener, TransportError> {
    let local = resolve(address).await?;
    let listener = bind(local).map_err(|source| TransportError::Listen {
        address: address.to_owned(),
        source,
    })?;
    let local = listener.local_addr()?;
    Ok(Listener { listener, local })
}

fn bind(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = if local.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(local)?;
    socket.listen(LISTEN_BACKLOG)
}

impl Listener {
    /// The next connection. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The listener failed.
    pub async fn accept(&self) -> Result<Connection, TransportError> {
        let (stream, _) = self.listener.accept().await?;
        Connection::new(stream)
    }

    /// The address listened on, with the port that was chosen for port 0. Heartbeats are bound to
    /// the same.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// The first address of `address`.
async fn resolve(address: &str) -> Result<SocketAddr, TransportError> {
    let failed = |source| TransportError::Resolve {
        address: address.to_owned(),
        source,
    };
    let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
    found.next().ok_or_else(|| {
        failed(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))
    })
}
