//! The inbox: what the world sends to the guest, until the guest takes it.
//!
//! In: frames and console bytes from the I/O thread, completions from the disks' threads. Out: the same, to the vCPU thread, in order; a backup asks for
//! the completion of its own that its log tells of. What always holds: it never grows past its limits; a frame that finds no room is dropped, as a network
//! card does; there are no more completions than requests under way, which the machine bounds.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::host::disk::DiskCompletion;

/// Frames that wait at most.
pub const MAX_FRAMES: usize = 1024;
/// Console bytes that wait at most.
pub const MAX_CONSOLE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
struct Contents {
    frames: VecDeque<Vec<u8>>,
    console: VecDeque<u8>,
    disk: VecDeque<DiskCompletion>,
    /// Completions that will not be wanted when they come: disk and request.
    unwanted: BTreeSet<(u8, u64)>,
    dropped_frames: u64,
    closed: bool,
}

/// A bounded mailbox between the I/O thread and the vCPU thread.
#[derive(Debug, Default)]
pub struct Inbox {
    contents: Mutex<Contents>,
    arrived: Condvar,
    /// The vCPU thread asks at every exit: hints that spare it the lock. What is missed now is seen at the next exit.
    frames_waiting: AtomicBool,
    console_waiting: AtomicBool,
    disk_waiting: AtomicBool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame arrived. Dropped (and counted) if there is no room.
    pub fn put_frame(&self, frame: Vec<u8>) {
        let mut contents = self.lock();
        if contents.frames.len() == MAX_FRAMES {
            contents.dropped_frames += 1;
            return;
        }
        contents.frames.push_back(frame);
        self.frames_waiting.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Bytes were typed. Returns how many found room.
    pub fn put_console(&self, bytes: &[u8]) -> usize {
        let mut contents = self.lock();
        let room = MAX_CONSOLE_BYTES - contents.console.len();
        let taken = room.min(bytes.len());
        contents.console.extend(&bytes[..taken]);
        self.console_waiting.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
        taken
    }

    /// A disk has finished a request.
    pub fn put_disk(&self, completion: DiskCompletion) {
        let mut contents = self.lock();
        if contents
            .unwanted
            .remove(&(completion.disk, completion.request))
        {
            return;
        }
        contents.disk.push_back(completion);
        self.disk_waiting.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Whether a disk's completion waits.
    pub fn has_disk(&self) -> bool {
        self.disk_waiting.load(Ordering::Relaxed)
    }

    /// The oldest completion.
    pub fn take_disk(&self) -> Option<DiskCompletion> {
        let mut contents = self.lock();
        let completion = contents.disk.pop_front();
        self.disk_waiting
            .store(!contents.disk.is_empty(), Ordering::Relaxed);
        completion
    }

    /// Waits for the completion of this request, which is under way. `None` if the inbox is closed.
    pub fn wait_for_disk(&self, disk: u8, request: u64) -> Option<DiskCompletion> {
        let mut contents = self.lock();
        loop {
            let mut completions = contents.disk.iter();
            let place = completions.position(|done| (done.disk, done.request) == (disk, request));
            if let Some(place) = place {
                let completion = contents.disk.remove(place);
                self.disk_waiting
                    .store(!contents.disk.is_empty(), Ordering::Relaxed);
                return completion;
            }
            if contents.closed {
                return None;
            }
            contents = self
                .arrived
                .wait(contents)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody wants the completion of this request, which is under way.
    pub fn forget_disk(&self, disk: u8, request: u64) {
        let mut contents = self.lock();
        let before = contents.disk.len();
        contents
            .disk
            .retain(|done| (done.disk, done.request) != (disk, request));
        if contents.disk.len() == before {
            contents.unwanted.insert((disk, request));
        }
        self.disk_waiting
            .store(!contents.disk.is_empty(), Ordering::Relaxed);
    }

    /// Whether a frame waits.
    pub fn has_frame(&self) -> bool {
        self.frames_waiting.load(Ordering::Relaxed)
    }

    /// Whether console bytes wait.
    pub fn has_console(&self) -> bool {
        self.console_waiting.load(Ordering::Relaxed)
    }

    /// The oldest frame.
    pub fn take_frame(&self) -> Option<Vec<u8>> {
        let mut contents = self.lock();
        let frame = contents.frames.pop_front();
        self.frames_waiting
            .store(!contents.frames.is_empty(), Ordering::Relaxed);
        frame
    }

    /// Up to `room` console bytes.
    pub fn take_console(&self, room: usize) -> Option<Vec<u8>> {
        let mut contents = self.lock();
        let count = room.min(contents.console.len());
        let bytes: Vec<u8> = contents.console.drain(..count).collect();
        self.console_waiting
            .store(!contents.console.is_empty(), Ordering::Relaxed);
        (count > 0).then_some(bytes)
    }

    /// Frames dropped for lack of room.
    pub fn dropped_frames(&self) -> u64 {
        self.lock().dropped_frames
    }

    /// Nothing will come any more and whoever waits must stop.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until the inbox is closed, or `timeout` is over; says which it was.
    pub fn wait_for_close(&self, timeout: Duration) -> bool {
        let is_open = |contents: &mut Contents| !contents.closed;
        let waited = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, is_open);
        let (contents, _) = waited.unwrap_or_else(PoisonError::into_inner);
        contents.closed
    }

    /// Waits until something that the guest would take is here (a completion always is), the inbox is closed, or `timeout` is over.
    pub fn wait(&self, frame: bool, console: bool, timeout: Option<Duration>) {
        let contents = self.lock();
        let idle = |contents: &mut Contents| {
            let frame_waits = frame && !contents.frames.is_empty();
            let console_waits = console && !contents.console.is_empty();
            let disk_waits = !contents.disk.is_empty();
            !(contents.closed || disk_waits || frame_waits || console_waits)
        };
        match timeout {
            Some(timeout) => drop(self.arrived.wait_timeout_while(contents, timeout, idle)),
            None => drop(self.arrived.wait_while(contents, idle)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_drops_frames_and_takes_only_the_bytes_that_fit() {
        let inbox = Inbox::default();
        for number in 0..MAX_FRAMES + 3 {
            inbox.put_frame(number.to_le_bytes().to_vec());
        }
        assert_eq!(inbox.dropped_frames(), 3);
        for number in 0..MAX_FRAMES {
            assert_eq!(inbox.take_frame(), Some(number.to_le_bytes().to_vec()));
        }
        assert!(inbox.take_frame().is_none() && !inbox.has_frame());

        let typed = vec![7; MAX_CONSOLE_BYTES + 10];
        assert_eq!(inbox.put_console(&typed), MAX_CONSOLE_BYTES);
        assert_eq!(inbox.take_console(16), Some(vec![7; 16]));
        assert_eq!(inbox.put_console(&typed), 16);
        assert!(inbox.take_console(0).is_none() && inbox.has_console());
    }

    fn completion(request: u64) -> DiskCompletion {
        DiskCompletion {
            disk: 1,
            request,
            result: Ok(vec![request as u8]),
        }
    }

    #[test]
    fn completions_come_in_order_or_as_asked_for_and_unwanted_ones_never() {
        let inbox = Inbox::default();
        inbox.forget_disk(1, 3);
        (0..5).for_each(|request| inbox.put_disk(completion(request)));
        let asked_for = inbox.wait_for_disk(1, 2).expect("it is here");
        assert_eq!(asked_for.request, 2);
        inbox.forget_disk(1, 1);
        // Asked for only once: a later request of that name would be another disk's.
        inbox.wait(false, false, None);
        let rest: Vec<u64> = std::iter::from_fn(|| inbox.take_disk())
            .map(|done| done.request)
            .collect();
        assert_eq!(rest, [0, 4]);
        assert!(!inbox.has_disk());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| inbox.wait_for_disk(1, 7).map(|done| done.request));
            inbox.put_disk(completion(6));
            inbox.put_disk(completion(7));
            assert_eq!(waiting.join().expect("it woke up"), Some(7));
            let waiting = scope.spawn(|| inbox.wait_for_disk(1, 8).is_none());
            inbox.close();
            assert!(waiting.join().expect("it woke up"));
        });
    }

    #[test]
    fn whoever_waits_is_woken_by_what_it_would_take_and_by_the_end() {
        let inbox = Inbox::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                inbox.wait(true, false, None);
                inbox.take_frame()
            });
            inbox.put_console(b"not asked for");
            inbox.put_frame(vec![1]);
            assert_eq!(waiting.join().expect("it woke up"), Some(vec![1]));
            let waiting = scope.spawn(|| inbox.wait(true, false, None));
            inbox.close();
            waiting.join().expect("it woke up");
        });
        // What is over needs no waiting.
        inbox.wait(true, true, Some(Duration::ZERO));
        assert!(inbox.is_closed());
    }
}
