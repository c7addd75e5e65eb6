//! `journald`: a journal on the disk, for clients over TCP. A record is answered when it is durable.
//!
//! ```text
//!            ┌──────────────────────── one turn ─────────────────────────┐
//!  clients ──┤ poll ─► read all ─► append all records, one fdatasync ─► answer ├── clients
//!            └───────────────────────────────────────────────────────────┘
//! ```
//!
//! One thread serves all clients: what arrives while the disk is busy is one batch of the next turn. [`store`] is the file,
//! [`connection`] a client. `guest_journal` has the records and the lines.

mod connection;
mod store;

use std::io::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use guest_journal::{Answer, PORT, Payload, Request};

use self::connection::Connection;
use self::store::Store;
use crate::console::say;
use crate::disk;

/// The journal's name in the disk's file system.
pub const JOURNAL: &str = "journal";

/// Clients at once; more wait in the kernel.
const CONNECTIONS: usize = 32;
/// How long the last answer may take to reach its client before the guest ends all the same.
const FAREWELL: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 64 * 1024;

/// The service: it listens from the time that it is made.
#[derive(Debug)]
pub struct Journald {
    path: PathBuf,
    /// Empty if it could not be opened again.
    store: Option<Store>,
    /// None once the guest is shutting down.
    listener: Option<TcpListener>,
    connections: Vec<Connection>,
    /// The disk failed lately, and the console says so.
    failing: bool,
}

impl Journald {
    /// Opens the journal in `folder`, says what was in it, and listens.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Self::listen(folder, TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?)
    }

    fn listen(folder: &Path, listener: TcpListener) -> Result<Self, Error> {
        listener.set_nonblocking(true)?;
        let path = folder.join(JOURNAL);
        let (store, torn) = Store::open(&path)?;
        let records = store.records();
        say(&format!(
            "journald: {records} records, {torn} bytes cut off"
        ));
        Ok(Self {
            path,
            store: Some(store),
            listener: Some(listener),
            connections: Vec::new(),
            failing: false,
        })
    }

    /// Serves on a thread of its own until a client has the guest shut down; `end` then ends it.
    pub fn spawn(mut self, end: fn() -> !) -> Result<(), Error> {
        let serve = move || {
            loop {
                if let Some(client) = self.turn()
                    && self.close(client)
                {
                    self.farewell();
                    end();
                }
            }
        };
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(serve)
            .map(drop)
    }

    /// Waits for clients, and serves what they have sent. Returns the client that has asked for a shutdown, if one has.
    fn turn(&mut self) -> Option<usize> {
        self.wait(-1);
        self.accept();
        for connection in &mut self.connections {
            if connection.wants_to_read() {
                connection.read();
            }
        }
        let closer = self.serve();
        for connection in &mut self.connections {
            connection.write();
        }
        // Now, since nothing may happen for long. (The client that closes is told by its place.)
        if closer.is_none() {
            self.connections.retain(|connection| !connection.is_over());
        }
        closer
    }

    /// Until a client can be read from or written to, or `timeout_ms` is over (-1: never).
    fn wait(&self, timeout_ms: libc::c_int) {
        if self.connections.iter().any(Connection::has_requests) {
            return;
        }
        let mut files = Vec::with_capacity(self.connections.len() + 1);
        let mut watch = |file: libc::c_int, events| {
            files.push(libc::pollfd {
                fd: file,
                events,
                revents: 0,
            });
        };
        for connection in &self.connections {
            let read = if connection.wants_to_read() {
                libc::POLLIN
            } else {
                0
            };
            let write = if connection.wants_to_write() {
                libc::POLLOUT
            } else {
                0
            };
            watch(connection.stream().as_raw_fd(), read | write);
        }
        if self.connections.len() < CONNECTIONS
            && let Some(listener) = &self.listener
        {
            watch(listener.as_raw_fd(), libc::POLLIN);
        }
        // SAFETY: the array is as long as said, and ours. (What it reports is found out by trying.)
        unsafe { libc::poll(files.as_mut_ptr(), files.len() as libc::nfds_t, timeout_ms) };
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS
            && let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept)
        {
            // A connection that fails at once is the client's affair.
            self.connections.extend(Connection::new(stream));
        }
    }

    /// Appends all records that are asked for at once; then answers, to each client in its order. Returns who has asked for a shutdown.
    fn serve(&mut self) -> Option<usize> {
        let requests: Vec<_> = self
            .connections
            .iter_mut()
            .enumerate()
            .flat_map(|(client, connection)| {
                let requests = connection.requests().into_iter();
                requests.map(move |request| (client, request))
            })
            .collect();
        let payloads: Vec<Payload> = requests
            .iter()
            .filter_map(|(_, request)| match request {
                Ok(Request::Append(payload)) => Some(*payload),
                _ => None,
            })
            .collect();
        let mut appended = self.append(&payloads).into_iter();
        let mut closer = None;
        for (client, request) in requests {
            let answers = match request {
                Ok(Request::Append(_)) => appended.by_ref().take(1).collect(),
                Ok(Request::Read { from, count }) => self.read(from, count),
                Ok(Request::Shutdown) if closer.is_none() => {
                    closer = Some(client);
                    Vec::new()
                }
                Ok(Request::Shutdown) => vec![Answer::Error("somebody else was first".to_owned())],
                Err(text) => vec![Answer::Error(text.to_owned())],
            };
            for answer in answers {
                self.connections[client].answer(&answer);
            }
        }
        closer
    }

    /// An answer for each of `payloads`.
    fn append(&mut self, payloads: &[Payload]) -> Vec<Answer> {
        if payloads.is_empty() {
            return Vec::new();
        }
        match self
            .store
            .as_mut()
            .ok_or_else(closed)
            .and_then(|store| store.append(payloads))
        {
            Ok(records) => {
                self.failing = false;
                let answer = |record: guest_journal::Record| Answer::Appended {
                    number: record.number,
                    checksum: record.checksum(),
                };
                records.into_iter().map(answer).collect()
            }
            Err(error) => {
                if !self.failing {
                    say(&format!("journald: cannot append: {error}"));
                }
                self.failing = true;
                vec![Answer::Error(format!("cannot append: {error}")); payloads.len()]
            }
        }
    }

    fn read(&self, from: u64, count: u64) -> Vec<Answer> {
        let store = self.store.as_ref().ok_or_else(closed);
        match store.and_then(|store| store.read(from, count)) {
            Ok(records) => std::iter::once(Answer::Records(records.len() as u64))
                .chain(
                    records
                        .into_iter()
                        .map(|bytes| Answer::Record(Box::new(bytes))),
                )
                .collect(),
            Err(error) => vec![Answer::Error(format!("cannot read: {error}"))],
        }
    }

    /// Closes the journal and unmounts the disk, for `client`; or goes on, if it cannot be unmounted. Whether it is over.
    fn close(&mut self, client: usize) -> bool {
        let records = self.store.take().map_or(0, |store| store.records());
        let unmounted = disk::unmount();
        let answer = match &unmounted {
            Ok(()) => Answer::Bye { records },
            Err(error) => {
                self.store = Store::open(&self.path).ok().map(|(store, _)| store);
                Answer::Error(format!("cannot unmount: {error}"))
            }
        };
        self.connections[client].answer(&answer);
        self.connections[client].write();
        unmounted.is_ok()
    }

    /// Until every client has closed its connection, and so has what was said to it; or it takes too long.
    fn farewell(&mut self) {
        self.listener = None;
        let begun = Instant::now();
        while !self.connections.is_empty() && begun.elapsed() < FAREWELL {
            self.wait(FAREWELL.as_millis() as libc::c_int);
            for connection in &mut self.connections {
                connection.read();
                // What is asked now comes too late.
                drop(connection.requests());
                connection.write();
            }
            self.connections.retain(|connection| !connection.is_over());
        }
    }
}

fn closed() -> Error {
    Error::other("the journal is closed")
}

#[cfg(test)]
mod tests;
