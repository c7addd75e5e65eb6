//! The server: connections in, each through its handshake to its requests; claims in, through the
//! arbiter's own server.
//!
//! What always holds: what one connection sends ends no other; no client can make the server use
//! more than a fixed number of connections, and a fixed number of bytes and requests on each.

mod handshake;
mod listener;
mod notice;
mod transmission;

use std::{future::Future, io, sync::Arc, time::Duration};

use arbiter::{Fence, FencedStore, Store};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};

pub use self::notice::Notice;
use crate::{
    DiskServerError, Storage,
    fence::Gate,
    wire::{MAX_STRING_BYTES, WireFault},
};

/// Connections at once. More wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;
/// Requests at the storage at once, of all connections: each has a thread.
const MAX_STORAGE_REQUESTS: usize = 32;
/// For a client to send the next piece of a handshake, or to take an answer to it.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// For the state file to answer, and older connections to drain, when a client binds.
const BINDING_LIMIT: Duration = Duration::from_secs(10);
/// For the storage to come to rest when the server is stopped.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// For the state file's lock when the server starts.
const STATE_LIMIT: Duration = Duration::from_secs(5);

/// Something to serve.
#[derive(Debug)]
pub struct Export {
    /// What clients call it.
    pub name: String,
    /// Its bytes.
    pub storage: Arc<dyn Storage>,
    /// Whether nobody may write.
    pub read_only: bool,
}

/// A disk server that does not listen yet.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    exports: Vec<Export>,
    gate: Arc<Gate>,
    store: FencedStore,
    /// Turns at the storage.
    turns: Arc<Semaphore>,
    notices: mpsc::Sender<Notice>,
}

/// Why a connection ended early. Its client's concern alone.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireFault),
    #[error("the client is too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("the client asks for what the server cannot say no to politely")]
    Hopeless,
}

impl Server {
    /// A server of these exports, at the term of `store`. What happens is told to `notices`, as
    /// far as there is room. Blocks for the state file.
    ///
    /// # Errors
    /// If two exports have one name, or the state file cannot be read.
    pub fn new(
        exports: Vec<Export>,
        store: Store,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Self, DiskServerError> {
        check_names(&exports)?;
        let gate = Gate::new(store.state(STATE_LIMIT)?);
        let store = FencedStore::new(store, Arc::clone(&gate) as Arc<dyn Fence>);
        let turns = Arc::new(Semaphore::new(MAX_STORAGE_REQUESTS));
        let shared = Arc::new(Shared {
            exports,
            gate,
            store,
            turns,
            notices,
        });
        Ok(Self { shared })
    }

    /// Serves NBD on `disks` and claims on `claims` until `shutdown` completes; returns when
    /// nothing is under way at the storage any more, or 10 s later. Needs a tokio runtime with I/O
    /// and time enabled.
    ///
    /// # Errors
    /// If a listening socket fails for good.
    pub async fn serve(
        self,
        disks: TcpListener,
        claims: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), DiskServerError> {
        let mut connections = JoinSet::new();
        let store = self.shared.store.clone();
        let result = tokio::select! {
            () = shutdown => Ok(()),
            error = listener::accept_all(&disks, &self.shared, &mut connections) => Err(error),
            ended = arbiter::serve_fencing(claims, store, std::future::pending()) => {
                ended.map_err(DiskServerError::from)
            }
        };
        connections.shutdown().await;
        // A disk that hangs is not waited for: the process's end is, by whoever wants its images.
        let _ = timeout(SETTLE_LIMIT, self.shared.gate.idle()).await;
        result
    }
}

impl Shared {
    /// The number of the export of this name. The only export goes by the empty name too, as
    /// standard clients ask for a server's default.
    fn find(&self, name: &str) -> Option<usize> {
        if name.is_empty() && self.exports.len() == 1 {
            return Some(0);
        }
        self.exports.iter().position(|export| export.name == name)
    }

    fn tell(&self, notice: Notice) {
        // For people, who cannot read that many anyway.
        let _ = self.notices.try_send(notice);
    }
}

/// One connection, from its first byte to its last.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> Result<(), ConnectionError> {
    crate::client::tune(&stream)?;
    match handshake::negotiate(&mut stream, &shared).await? {
        Some(session) => transmission::serve(stream, shared, session).await,
        None => Ok(()),
    }
}

fn check_names(exports: &[Export]) -> Result<(), DiskServerError> {
    for (number, Export { name, .. }) in exports.iter().enumerate() {
        let reason = if name.is_empty() {
            "clients could not ask for it"
        } else if name.len() > MAX_STRING_BYTES {
            "it is too long for the protocol"
        } else if name.chars().any(char::is_control) {
            "it has characters that cannot be shown"
        } else if exports[..number].iter().any(|other| other.name == *name) {
            "another export has that name"
        } else {
            continue;
        };
        let name = name.clone();
        return Err(DiskServerError::Name { name, reason });
    }
    Ok(())
}
