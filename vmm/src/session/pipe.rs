//! From the vCPU thread to the I/O thread: entries and the outputs that depend on them.
//!
//! In: [`PipeRecorder::record`], on the vCPU thread. Out: [`LogPipe::take`], on the I/O thread. What always holds: order; an entry
//! and its output come out together; the vCPU waits only while there is no room (back-pressure), and not for the network. What a disk may do at once
//! it is given here; it still comes out, as the I/O thread keeps account of it.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use logging_channel::{Entry, Event};
use tokio::sync::Notify;

use crate::{
    effect::Effect,
    inputs::{InputError, recorder::Recorder},
};

use super::disks::Disks;

/// Entries that wait in the pipe at most. The I/O thread empties it at each turn.
const MAX_ENTRIES: usize = 4096;
/// Bytes of entries and outputs that wait in the pipe at most, but for the last.
const MAX_BYTES: usize = 8 << 20;
/// Entries that no output waits for are sent within this time.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// What the I/O thread takes out at a time.
#[derive(Debug, Default)]
pub struct Taken {
    /// Entries, in order.
    pub entries: Vec<Entry>,
    /// Outputs, each with the number of its entry.
    pub outputs: Vec<(u64, Effect)>,
    /// An output waits, or the guest ended: send at once.
    pub urgent: bool,
}

#[derive(Debug)]
struct Contents {
    taken: Taken,
    bytes: usize,
    /// When the oldest entry came in.
    filled_at: Instant,
    has_room: bool,
    closed: bool,
}

/// The pipe.
#[derive(Debug)]
pub struct LogPipe {
    contents: Mutex<Contents>,
    room: Condvar,
    filled: Notify,
    /// Percent of its time that the vCPU must sleep.
    sleep_percent: AtomicU8,
}

impl LogPipe {
    /// An empty pipe.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            contents: Mutex::new(Contents {
                taken: Taken::default(),
                bytes: 0,
                filled_at: Instant::now(),
                has_room: true,
                closed: false,
            }),
            room: Condvar::new(),
            filled: Notify::new(),
            sleep_percent: AtomicU8::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&self) -> Taken {
        let mut contents = self.lock();
        contents.bytes = 0;
        let taken = std::mem::take(&mut contents.taken);
        if contents.has_room {
            self.room.notify_one();
        }
        taken
    }

    /// Waits until there is something to take: at once if an output waits, else for at most [`FLUSH_INTERVAL`] after the first entry. Cancel-safe.
    pub async fn wait(&self) {
        loop {
            let (urgent, flush_at) = {
                let contents = self.lock();
                let flush_at = (!contents.taken.entries.is_empty())
                    .then(|| contents.filled_at + FLUSH_INTERVAL);
                (contents.taken.urgent, flush_at)
            };
            match flush_at {
                _ if urgent => return,
                None => self.filled.notified().await,
                // Sleeps out the interval unless something urgent comes.
                Some(flush_at) => {
                    if tokio::time::timeout_at(flush_at.into(), self.filled.notified())
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the vCPU may go on putting entries in.
    pub fn set_room(&self, has_room: bool) {
        let mut contents = self.lock();
        if has_room && !contents.has_room {
            self.room.notify_one();
        }
        contents.has_room = has_room;
    }

    /// Makes the vCPU sleep this share of its time, percent below 100.
    pub fn set_pace(&self, sleep_percent: u8) {
        self.sleep_percent
            .store(sleep_percent.min(99), Ordering::Relaxed);
    }

    /// The session is over: the vCPU stops at its next entry.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.notify_one();
    }
}

/// The vCPU thread's end.
pub struct PipeRecorder {
    pipe: Arc<LogPipe>,
    disks: Arc<Disks>,
    last_pause: Instant,
}

impl PipeRecorder {
    /// The recording end of `pipe`, of a machine with these disks.
    #[must_use]
    pub fn new(pipe: Arc<LogPipe>, disks: Arc<Disks>) -> Self {
        Self {
            pipe,
            disks,
            last_pause: Instant::now(),
        }
    }

    /// Sleeps its share, if the backup lags.
    fn pace(&mut self) {
        let percent = u32::from(self.pipe.sleep_percent.load(Ordering::Relaxed));
        let ran = self.last_pause.elapsed();
        if percent == 0 || ran < FLUSH_INTERVAL {
            return;
        }
        // No longer at a time than what a client would notice.
        std::thread::sleep((ran * percent / (100 - percent)).min(Duration::from_millis(100)));
        self.last_pause = Instant::now();
    }
}

impl Recorder for PipeRecorder {
    fn record(&mut self, entry: Entry, effect: Option<Effect>) -> Result<(), InputError> {
        self.pace();
        let at_once = match &effect {
            Some(Effect::Disk(request)) if self.disks.is_free(request) => Some(request.clone()),
            _ => None,
        };
        let pipe = &*self.pipe;
        let full = |contents: &mut Contents| {
            !contents.closed
                && (!contents.has_room
                    || contents.taken.entries.len() >= MAX_ENTRIES
                    || contents.bytes >= MAX_BYTES)
        };
        let mut contents = pipe
            .room
            .wait_while(pipe.lock(), full)
            .unwrap_or_else(PoisonError::into_inner);
        if contents.closed {
            return Err(InputError::Closed);
        }
        let was_empty = contents.taken.entries.is_empty();
        let urgent = match &entry.event {
            Event::End { .. } | Event::Frame { .. } => true,
            Event::Output { kind, .. } => kind.is_held(),
            _ => false,
        };
        let wake = was_empty || (urgent && !contents.taken.urgent);
        contents.bytes +=
            entry.event.payload_bytes() + effect.as_ref().map_or(0, |effect| effect.bytes().len());
        contents.taken.urgent |= urgent;
        if was_empty {
            contents.filled_at = Instant::now();
        }
        if let Some(effect) = effect {
            contents.taken.outputs.push((entry.seq, effect));
        }
        contents.taken.entries.push(entry);
        drop(contents);
        if let Some(request) = at_once {
            self.disks.submit(request);
        }
        if wake {
            pipe.filled.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use logging_channel::{Digest, OutputKind, Position};

    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            at: Position::default(),
            event: Event::Time { guest_ns: seq },
        }
    }

    fn output(seq: u64) -> (Entry, Option<Effect>) {
        let effect = Effect::Print(vec![seq as u8]);
        let event = Event::Output {
            kind: OutputKind::Console,
            digest: Digest::of(effect.bytes()),
        };
        (
            Entry {
                event,
                ..entry(seq)
            },
            Some(effect),
        )
    }

    #[test]
    fn entries_and_their_outputs_come_out_together_and_in_order() {
        let pipe = LogPipe::new();
        let mut recorder = PipeRecorder::new(Arc::clone(&pipe), Disks::none());
        recorder.record(entry(1), None).expect("there is room");
        assert!(!pipe.lock().taken.urgent);
        let (second, effect) = output(2);
        recorder.record(second, effect).expect("there is room");
        let taken = pipe.take();
        assert!(taken.urgent, "an output waits");
        assert_eq!(
            taken
                .entries
                .iter()
                .map(|entry| entry.seq)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(taken.outputs, [(2, Effect::Print(vec![2]))]);
        assert!(pipe.take().entries.is_empty());
    }

    /// Records on another thread; says so each time.
    fn record_apart(
        pipe: &Arc<LogPipe>,
        seqs: std::ops::Range<u64>,
    ) -> mpsc::Receiver<Result<u64, ()>> {
        let mut recorder = PipeRecorder::new(Arc::clone(pipe), Disks::none());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for seq in seqs {
                let recorded = recorder
                    .record(entry(seq), None)
                    .map(|()| seq)
                    .map_err(|_| ());
                if tell.send(recorded).is_err() || recorded.is_err() {
                    return;
                }
            }
        });
        told
    }

    #[test]
    fn the_vcpu_waits_while_there_is_no_room_and_goes_on_when_there_is() {
        let pipe = LogPipe::new();
        pipe.set_room(false);
        let told = record_apart(&pipe, 1..3);
        // It cannot be shown that it waits for ever; but nothing comes out while there is no room.
        assert!(
            told.recv_timeout(Duration::from_millis(20)).is_err() && pipe.take().entries.is_empty()
        );
        pipe.set_room(true);
        assert_eq!(told.recv(), Ok(Ok(1)));
        assert_eq!(told.recv(), Ok(Ok(2)));
    }

    #[test]
    fn a_pipe_that_nobody_empties_is_bounded() {
        let pipe = LogPipe::new();
        let told = record_apart(&pipe, 0..MAX_ENTRIES as u64 + 1);
        for _ in 0..MAX_ENTRIES {
            told.recv()
                .expect("the thread lives")
                .expect("there is room");
        }
        assert!(
            told.recv_timeout(Duration::from_millis(20)).is_err(),
            "one more than the limit"
        );
        assert_eq!(pipe.take().entries.len(), MAX_ENTRIES);
        assert_eq!(told.recv(), Ok(Ok(MAX_ENTRIES as u64)));
    }

    #[test]
    fn a_closed_pipe_stops_a_vcpu_that_waits() {
        let pipe = LogPipe::new();
        pipe.set_room(false);
        let told = record_apart(&pipe, 1..3);
        pipe.close();
        assert_eq!(told.recv(), Ok(Err(())));
    }

    #[tokio::test]
    async fn an_output_ends_the_wait_at_once_and_an_entry_within_the_interval() {
        let pipe = LogPipe::new();
        let mut recorder = PipeRecorder::new(Arc::clone(&pipe), Disks::none());
        let nothing = tokio::time::timeout(Duration::from_millis(20), pipe.wait()).await;
        assert!(nothing.is_err(), "there is nothing to take");
        recorder.record(entry(1), None).expect("there is room");
        pipe.wait().await;
        let (second, effect) = output(2);
        recorder.record(second, effect).expect("there is room");
        pipe.wait().await;
        assert_eq!(pipe.take().entries.len(), 2);
    }
}
