//! A disk of an NBD server: `nbd://HOST:PORT/NAME`.
//!
//! In: requests and grants, from any thread. Out: completions and events, from the disk's own thread.
//!
//! ```text
//!                  lost: Waiting                     too long: GivenUp, all that waits fails
//!   connected ──────────────────────▶ reconnecting ──────────────────────────────▶ given up
//!       ▲  ▲                            │   │ another term                             │
//!       │  └──── all is sent again ─────┘   ▼                                          │
//!       │         Back                   cut off: nothing completes any more           │
//!       └──────────────────── Back: what is new is sent ───────────────────────────────┘
//! ```
//!
//! What always holds: a request is answered once; what is answered as failed for want of a server is
//! not sent any more, and the server has let go of what it knew of it before anything newer is sent;
//! once cut off, nothing is answered at all.

mod address;
mod connection;
mod table;
mod worker;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use disk_server::client::{Claim, HandshakeError};
use tokio::sync::mpsc;

pub use self::address::{AddressError, NbdAddress};
use self::worker::{Command, Worker};
use super::{DiskSink, Grant, HostDisk};
use crate::effect::{DiskRequest, SECTOR_BYTES};

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// The server does not serve it.
    #[error(
        "Cannot open the disk {address}. Check that `lockstep disk-server` runs there and serves a disk of that name"
    )]
    Connect {
        /// Where it was looked for.
        address: NbdAddress,
        /// What went wrong.
        #[source]
        source: HandshakeError,
    },
    /// The export has no whole sector.
    #[error("The disk {address} has {size_bytes} bytes, which is less than a sector")]
    Empty {
        /// Where it is.
        address: NbdAddress,
        /// Its size.
        size_bytes: u64,
    },
    /// The host has no thread for it.
    #[error("Cannot start the thread of a disk")]
    Thread(#[source] io::Error),
}

/// A disk of an NBD server. Every method may be called from any thread.
pub struct NbdDisk {
    sectors: u64,
    /// `None` once dropped. Holds no more than what the guest may have under way.
    commands: Option<mpsc::UnboundedSender<Command>>,
    under_way: Arc<UnderWay>,
    thread: Option<JoinHandle<()>>,
}

/// How many requests were submitted and not answered.
#[derive(Debug, Default)]
struct UnderWay {
    count: Mutex<Count>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    requests: usize,
    cut_off: bool,
}

impl UnderWay {
    fn change(&self, change: impl FnOnce(&mut Count)) {
        change(&mut self.count.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |count: &mut Count| count.requests > 0 && !count.cut_off;
        let rested = self.changed.wait_while(count, busy);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }
}

impl NbdDisk {
    /// Connects, to read. Waits for the server, up to 12 s. A server that is gone for longer than
    /// `give_up_after` later on is given up until it is back.
    ///
    /// # Errors
    /// If the server does not answer or has no such disk.
    pub fn open(
        disk: u8,
        address: NbdAddress,
        give_up_after: Duration,
        sink: Arc<dyn DiskSink>,
    ) -> Result<Self, NbdError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NbdError::Thread)?;
        let (commands, asked) = mpsc::unbounded_channel();
        let under_way = Arc::<UnderWay>::default();
        let worker = Worker::new(
            disk,
            address.clone(),
            give_up_after,
            sink,
            Arc::clone(&under_way),
            asked,
        );
        // The caller may be inside a runtime of its own, which must not run another.
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let place = address.clone();
        let life = async move {
            let opened = connection::open(&place, Claim::Reader).await;
            let (described, connection) = match opened {
                Ok(connection) => (Ok(connection.opened()), Some(connection)),
                Err(error) => (Err(error), None),
            };
            // Nobody waits for it if this fails.
            let _ = tell.send(described);
            if let Some(connection) = connection {
                worker.run(connection).await;
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("disk-{disk}"))
            .spawn(move || runtime.block_on(life))
            .map_err(NbdError::Thread)?;
        let opened = told.recv().expect("the thread tells what it found");
        let opened = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(NbdError::Connect { address, source }),
        };
        let made = Self {
            sectors: opened.size_bytes / SECTOR_BYTES,
            commands: Some(commands),
            under_way,
            thread: Some(thread),
        };
        if made.sectors == 0 {
            let size_bytes = opened.size_bytes;
            return Err(NbdError::Empty {
                address,
                size_bytes,
            });
        }
        Ok(made)
    }

    fn send(&self, command: Command) {
        let commands = self
            .commands
            .as_ref()
            .expect("there are commands until the disk is dropped");
        let sent = commands.send(command);
        assert!(sent.is_ok(), "the disk's thread ends after the disk");
    }
}

impl HostDisk for NbdDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn submit(&self, request: DiskRequest) {
        self.under_way.change(|count| count.requests += 1);
        self.send(Command::Submit(request));
    }

    fn grant(&self, grant: Grant) -> Result<(), String> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.send(Command::Grant { grant, tell });
        told.recv()
            .unwrap_or_else(|_| Err("the disk's thread has ended".to_owned()))
    }

    fn settle(&self) {
        self.under_way.wait();
    }
}

impl Drop for NbdDisk {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            // Its sink may hold the last reference to this.
            && thread.thread().id() != std::thread::current().id()
        {
            // A thread that panicked has told so.
            let _ = thread.join();
        }
    }
}
