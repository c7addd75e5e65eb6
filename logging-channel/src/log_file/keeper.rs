//! Keeps a log beside a session that nothing may delay: the black box of a primary or a backup.
//!
//! ```text
//!   session ── append ──→ queue (bounded, bytes) ──→ thread ── append, flush ──→ LogWriter
//!                            │ full                     │ write failed
//!                            └──→ the log ends here ←───┘     the session goes on, and can ask why
//! ```
//!
//! What always holds: `append` waits for no file; what the log has is a beginning of what was appended, without a gap; when
//! the queue has run empty, all of it is in the file.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::{Image, LogError, LogWriter};
use crate::Entry;

/// Entries that wait to be written: a sensible limit, bytes ([`Entry::size_bytes`]).
pub const KEEPER_QUEUE_BYTES: u64 = 64 << 20;

/// A [`LogWriter`] in a thread of its own. Dropping it writes what is queued.
#[derive(Debug)]
pub struct LogKeeper {
    shared: Arc<Shared>,
    limit_bytes: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// As they came: joining them would copy entries while the session waits.
    batches: Vec<Vec<Entry>>,
    /// Of the entries here and of those being written.
    bytes: u64,
    /// Nothing more is taken in.
    closed: bool,
    error: Option<LogError>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nobody leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log ends before its time.
    fn end(&self, error: LogError) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.batches = Vec::new();
        queue.error = Some(error);
    }
}

impl LogKeeper {
    /// Starts the thread, which puts `images` into the log first: they are large, and who keeps a log has no time. At most `limit_bytes` of
    /// entries wait, see [`KEEPER_QUEUE_BYTES`].
    ///
    /// # Errors
    ///
    /// The system has no thread for it.
    pub fn start(
        writer: LogWriter,
        images: Vec<Image>,
        limit_bytes: u64,
    ) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::default());
        let path = writer.path().to_owned();
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("log-keeper".to_owned())
            .spawn(move || keep(writer, &images, &for_thread))
            .map_err(LogError::io("start a thread for", &path))?;
        Ok(Self {
            shared,
            limit_bytes,
            thread: Some(thread),
        })
    }

    /// Queues the next entries of the log. It never waits: if too much is queued, the log ends before these entries. Nothing is taken in after the log's end.
    pub fn append(&self, entries: Vec<Entry>) {
        let bytes: u64 = entries.iter().map(Entry::size_bytes).sum();
        let mut queue = self.shared.queue();
        if queue.closed || entries.is_empty() {
            return;
        }
        if queue.bytes + bytes > self.limit_bytes {
            queue.closed = true;
            queue.error = Some(LogError::TooSlow {
                bytes: queue.bytes,
                first_lost: entries[0].seq,
            });
        } else {
            queue.bytes += bytes;
            queue.batches.push(entries);
        }
        self.shared.changed.notify_one();
    }

    /// Why the log ended before its time, told once; `None` while it has not.
    #[must_use]
    pub fn take_error(&self) -> Option<LogError> {
        self.shared.queue().error.take()
    }

    /// Writes all that is queued and ends the log. This waits for the file.
    ///
    /// # Errors
    ///
    /// The log ended before its time, and [`take_error`](Self::take_error) has not told it.
    pub fn flush_and_close(mut self) -> Result<(), LogError> {
        self.close();
        self.take_error().map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_one();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for LogKeeper {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread: writes what is queued, until the queue is closed and empty.
fn keep(mut writer: LogWriter, images: &[Image], shared: &Shared) {
    if let Err(error) = writer.keep_images(images) {
        return shared.end(error);
    }
    while let Some(batches) = next(shared) {
        let bytes: u64 = batches.iter().flatten().map(Entry::size_bytes).sum();
        let written = batches
            .into_iter()
            .try_for_each(|batch| writer.append(batch))
            .and_then(|()| writer.flush());
        shared.queue().bytes -= bytes;
        if let Err(error) = written {
            return shared.end(error);
        }
    }
}

/// Waits for entries; `None` when there will be none.
fn next(shared: &Shared) -> Option<Vec<Vec<Entry>>> {
    let mut queue = shared.queue();
    while queue.batches.is_empty() {
        if queue.closed {
            return None;
        }
        queue = shared
            .changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    Some(mem::take(&mut queue.batches))
}
