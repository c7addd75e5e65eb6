//! From a backup's I/O thread to its vCPU thread: received entries; and back: how far they were replayed, and the outputs that
//! were suppressed.
//!
//! In: [`LogFeed::deliver`], [`LogFeed::drain`], [`LogFeed::go_live`]. Out: entries to [`Feed`], in order, and when they are used up after
//! `drain`, the verdict. What always holds: a suppressed output is kept until the primary says that it has released it; but not what is asked of a disk: the machine
//! itself knows what of that is not done. What each replica does for itself on a disk is done as the replay comes by.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use logging_channel::Entry;
use tokio::sync::Notify;

use super::{disks::Disks, gate::OutputGate};
use crate::{
    effect::{DiskRequest, Effect},
    inputs::{InputError, inbox::Inbox, logged::LogSource},
};

#[derive(Debug, Default)]
struct Contents {
    entries: VecDeque<Entry>,
    /// No more entries will come.
    draining: bool,
    /// The vCPU has used up every entry after `draining`.
    drained: bool,
    live: bool,
    closed: bool,
    replayed: u64,
    released: u64,
    kept: OutputGate,
}

/// The feed, shared by both threads.
#[derive(Debug, Default)]
pub struct LogFeed {
    contents: Mutex<Contents>,
    changed: Condvar,
    progress: Notify,
}

impl LogFeed {
    /// An empty feed.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands entries to the vCPU.
    pub fn deliver(&self, entries: Vec<Entry>) {
        self.lock().entries.extend(entries);
        self.changed.notify_one();
    }

    /// No more entries will come: [`Self::wait_progress`] tells when all are replayed.
    pub fn drain(&self) {
        self.lock().draining = true;
        self.changed.notify_one();
    }

    /// The primary has released its outputs up to `seq`: they need not be kept.
    pub fn released(&self, seq: u64) {
        let mut contents = self.lock();
        contents.released = contents.released.max(seq);
        drop(contents.kept.release_through(seq));
    }

    /// Outputs that were replayed and, as far as is known, never released.
    #[must_use]
    pub fn take_kept(&self) -> Vec<Effect> {
        self.lock().kept.release_through(u64::MAX)
    }

    /// This replica is live: the vCPU goes on with live inputs.
    pub fn go_live(&self) {
        self.lock().live = true;
        self.changed.notify_one();
    }

    /// The session is over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Number of the last replayed entry, and whether all were replayed after [`Self::drain`].
    #[must_use]
    pub fn progress(&self) -> (u64, bool) {
        let contents = self.lock();
        (contents.replayed, contents.drained)
    }

    /// Whether [`Self::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Waits for the vCPU to have used up all that it was given. Cancel-safe.
    pub async fn wait_progress(&self) {
        self.progress.notified().await;
    }

    /// On the vCPU thread, after the log was used up: waits for the verdict. `Ok`: go on live.
    ///
    /// # Errors
    /// [`InputError::Closed`] if this replica must not go on.
    pub fn wait_verdict(&self) -> Result<(), InputError> {
        let contents = self
            .changed
            .wait_while(self.lock(), |contents| !contents.live && !contents.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if contents.live {
            Ok(())
        } else {
            Err(InputError::Closed)
        }
    }
}

/// The vCPU thread's end.
pub struct Feed {
    feed: Arc<LogFeed>,
    disks: Arc<Disks>,
    inbox: Arc<Inbox>,
    /// What this replica has under way of its own, by disk and number: a read that fails is tried again.
    own: BTreeMap<(u8, u64), DiskRequest>,
    /// The next entry ends a request of this replica's own: the primary may wait for that.
    tells_at_once: bool,
}

/// From a read of this replica's own that failed to its next try.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl Feed {
    /// The vCPU thread's end of `feed`, of a machine with these disks.
    #[must_use]
    pub fn new(feed: Arc<LogFeed>, disks: Arc<Disks>) -> Self {
        let inbox = disks.inbox();
        Self {
            feed,
            disks,
            inbox,
            own: BTreeMap::new(),
            tells_at_once: false,
        }
    }

    /// Begins what this replica does for itself.
    fn begin(&mut self, request: DiskRequest) {
        if self.disks.is_apart(&request) {
            self.own.insert((request.disk, request.id), request.clone());
            self.disks.submit(request);
        }
    }
}

impl LogSource for Feed {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        let feed = &*self.feed;
        let mut contents = feed.lock();
        loop {
            if contents.closed {
                return Err(InputError::Closed);
            }
            if let Some(entry) = contents.entries.pop_front() {
                return Ok(Some(entry));
            }
            if contents.draining {
                contents.drained = true;
                feed.progress.notify_one();
                return Ok(None);
            }
            feed.progress.notify_one();
            contents = feed
                .changed
                .wait(contents)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn replayed(&mut self, seq: u64, suppressed: Option<Effect>) {
        let mut contents = self.feed.lock();
        contents.replayed = seq;
        if std::mem::take(&mut self.tells_at_once) {
            self.feed.progress.notify_one();
        }
        match suppressed {
            Some(Effect::Disk(request)) => {
                drop(contents);
                self.begin(request);
            }
            Some(effect) if seq > contents.released => contents.kept.hold(seq, effect),
            _ => {}
        }
    }

    fn done_apart(&mut self, disk: u8, request: u64) -> Result<Vec<u8>, InputError> {
        let own = self.own.remove(&(disk, request));
        self.tells_at_once = true;
        loop {
            let done = self.inbox.wait_for_disk(disk, request);
            let error = match done.ok_or(InputError::Closed)?.result {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            match &own {
                Some(own) if own.operation.is_read() => {
                    if self.inbox.wait_for_close(RETRY_INTERVAL) {
                        return Err(InputError::Closed);
                    }
                    self.disks.submit(own.clone());
                }
                _ => {
                    return Err(InputError::Disk(format!(
                        "This replica's own copy of a disk has not done what the primary's has, and is of no use any more: {error}"
                    )));
                }
            }
        }
    }

    fn told(&mut self, disk: u8, request: u64) -> Result<(), InputError> {
        let Some(own) = self.own.remove(&(disk, request)) else {
            return Ok(());
        };
        if own.operation.is_read() {
            self.inbox.forget_disk(disk, request);
            return Ok(());
        }
        let text = "The primary's copy of a disk has failed to do what this replica's own was asked for as well: the copies may differ from here on";
        Err(InputError::Disk(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use logging_channel::{Event, Position};

    use super::*;

    fn entries(seqs: std::ops::Range<u64>) -> Vec<Entry> {
        let entry = |seq| Entry {
            seq,
            at: Position::default(),
            event: Event::Time { guest_ns: seq },
        };
        seqs.map(entry).collect()
    }

    fn print(byte: u8) -> Effect {
        Effect::Print(vec![byte])
    }

    #[test]
    fn a_drained_feed_ends_after_its_last_entry_and_not_before() {
        let feed = LogFeed::new();
        let mut source = Feed::new(Arc::clone(&feed), Disks::none());
        feed.deliver(entries(1..3));
        assert_eq!(source.next().expect("open").map(|entry| entry.seq), Some(1));
        feed.drain();
        assert_eq!(feed.progress(), (0, false), "one entry is left");
        assert_eq!(source.next().expect("open").map(|entry| entry.seq), Some(2));
        source.replayed(2, None);
        assert!(source.next().expect("open").is_none());
        assert_eq!(feed.progress(), (2, true));
    }

    #[test]
    fn suppressed_outputs_are_kept_until_they_are_known_to_be_released() {
        let feed = LogFeed::new();
        let mut source = Feed::new(Arc::clone(&feed), Disks::none());
        // The news may come before the replay has produced the output.
        feed.released(2);
        for (seq, byte) in [(1, b'a'), (2, b'b'), (4, b'd'), (6, b'f')] {
            source.replayed(seq, Some(print(byte)));
        }
        feed.released(4);
        assert_eq!(feed.take_kept(), [print(b'f')]);
        assert_eq!(feed.take_kept(), []);
    }

    #[test]
    fn the_verdict_is_live_or_closed() {
        let feed = LogFeed::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| feed.wait_verdict());
            feed.go_live();
            assert!(waiting.join().expect("it woke up").is_ok());
        });
        let feed = LogFeed::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| feed.wait_verdict());
            feed.close();
            assert!(matches!(
                waiting.join().expect("it woke up"),
                Err(InputError::Closed)
            ));
        });
        assert!(matches!(
            Feed::new(feed, Disks::none()).next(),
            Err(InputError::Closed)
        ));
    }
}
