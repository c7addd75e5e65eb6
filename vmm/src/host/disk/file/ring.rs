//! A thread that performs requests through the kernel's ring (io_uring(7)): many at once, with one system call for a batch.
//!
//! In: jobs, through a queue; who puts the first one into an empty queue wakes the thread by an eventfd, which the ring itself reads. Out: the jobs'
//! ends. What always holds: a job whose step the kernel has lies in a slot, and what lies in a slot is not freed before the kernel is done with it, in a panic
//! neither; no slot has more than one step in the ring, so the ring never overflows.
//!
//! ```text
//!   queue ──(eventfd)──► waiting ──► slot ──► ring ──► kernel
//!                                     ▲                  │
//!                                     ├─ another step ◄──┤
//!                                     └─ free ◄─ ended ◄─┘
//! ```

use std::{
    collections::VecDeque,
    fs::File,
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};

use super::{
    job::Step,
    requests::{Admitted, Requests},
};

/// Steps that the kernel has at once, and the reading of the eventfd. A power of two.
const ENTRIES: u32 = 128;
const SLOTS: usize = ENTRIES as usize - 1;
/// The name, among those of slots, of the reading of the eventfd.
const WAKE: u64 = u64::MAX;

/// The thread and its queue. Dropping it waits for what the kernel has; what it has not is given up.
pub(super) struct Ring {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    /// No more than the guest has requests under way.
    jobs: Vec<Admitted>,
    closing: bool,
}

impl Ring {
    /// # Errors
    ///
    /// What the kernel says: it has no ring, one that lacks a call, or does not let us have it.
    pub(super) fn start(file: &Arc<File>, requests: &Arc<Requests>) -> io::Result<Self> {
        // Blocking: the ring's read of it has to wait, not to fail.
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC)?,
        });
        let (file, requests) = (file.clone(), requests.clone());
        let (answer, made) = mpsc::channel();
        let thread = thread::Builder::new().name("disk-ring".into()).spawn({
            let queue = queue.clone();
            // Made by its thread: the kernel serves a ring of one thread better.
            move || match make_ring() {
                Ok(ring) => {
                    let driver = Driver::new(ring, file, queue, requests);
                    let _ = answer.send(Ok(()));
                    driver.run();
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        })?;
        made.recv().expect("the thread answers first")?;
        let thread = Some(thread);
        Ok(Self { queue, thread })
    }

    pub(super) fn submit(&self, admitted: Admitted) {
        let mut state = self.queue.lock();
        state.jobs.push(admitted);
        let first = state.jobs.len() == 1;
        drop(state);
        if first {
            self.queue.wake();
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.wake();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn wake(&self) {
        let written =
            rustix::io::retry_on_intr(|| rustix::io::write(&self.wake, &1u64.to_ne_bytes()));
        written.expect("an eventfd takes 2^64 - 2 before it is full");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ring that knows all that jobs ask for.
fn make_ring() -> io::Result<IoUring> {
    // Completions are then handled when the thread waits for them, not in between (Linux 6.1).
    let one_thread = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(ENTRIES);
    let ring = one_thread.or_else(|_| IoUring::new(ENTRIES))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
    ];
    match needed.iter().all(|code| probe.is_supported(*code)) {
        true => Ok(ring),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The thread's own.
struct Driver {
    ring: IoUring,
    slots: Slots,
    /// Jobs for which no slot was free.
    waiting: VecDeque<Admitted>,
    closing: bool,
    file: Arc<File>,
    queue: Arc<Queue>,
    requests: Arc<Requests>,
}

/// What the kernel may be using: never dropped as it is, so that a panic leaves it to the kernel.
struct Slots {
    jobs: ManuallyDrop<Vec<Option<Admitted>>>,
    free: Vec<usize>,
    /// What is read from the eventfd.
    woken: ManuallyDrop<Box<u64>>,
}

impl Driver {
    fn new(ring: IoUring, file: Arc<File>, queue: Arc<Queue>, requests: Arc<Requests>) -> Self {
        let slots = Slots {
            jobs: ManuallyDrop::new((0..SLOTS).map(|_| None).collect()),
            free: (0..SLOTS).collect(),
            woken: ManuallyDrop::default(),
        };
        Self {
            ring,
            slots,
            waiting: VecDeque::new(),
            closing: false,
            file,
            queue,
            requests,
        }
    }

    fn run(mut self) {
        let mut ended = Vec::with_capacity(SLOTS + 1);
        self.watch_queue();
        while !(self.closing && self.slots.free.len() == SLOTS) {
            self.wait();
            ended.extend(
                self.ring
                    .completion()
                    .map(|entry| (entry.user_data(), entry.result())),
            );
            for (name, result) in ended.drain(..) {
                match name {
                    WAKE => self.take_queue(),
                    slot => self.step_ended(slot as usize, result),
                }
            }
            self.fill_slots();
        }
        // Nothing is in the ring any more: the queue closed when the eventfd was read last.
        ManuallyDrop::into_inner(self.slots.jobs);
        ManuallyDrop::into_inner(self.slots.woken);
    }

    /// Hands the kernel what was pushed, and sleeps until it has ended something.
    fn wait(&self) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            // A signal; or the kernel is short of memory, or of room for completions, and has ended something first.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }

    fn take_queue(&mut self) {
        let mut state = self.queue.lock();
        self.waiting.extend(state.jobs.drain(..));
        self.closing = state.closing;
        drop(state);
        match self.closing {
            true => self.waiting.clear(),
            false => self.watch_queue(),
        }
    }

    fn fill_slots(&mut self) {
        while !self.waiting.is_empty()
            && let Some(slot) = self.slots.free.pop()
        {
            self.slots.jobs[slot] = self.waiting.pop_front();
            self.go_on(slot);
        }
    }

    fn step_ended(&mut self, slot: usize, result: i32) {
        let admitted = self.slots.jobs[slot].as_mut();
        let job = &mut admitted.expect("a step belongs to a job").job;
        job.ended(match usize::try_from(result) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(Errno::from_raw_os_error(-result)),
        });
        self.go_on(slot);
    }

    /// The next step of the job in this slot, or its end.
    fn go_on(&mut self, slot: usize) {
        let entry = &mut self.slots.jobs[slot];
        let job = &mut entry.as_mut().expect("a slot in use holds a job").job;
        if let Some(step) = job.next() {
            let entry = entry_of(types::Fd(self.file.as_raw_fd()), step);
            // The step's memory is the job's, which stays in its slot until the step has ended.
            return self.push(&entry.user_data(slot as u64));
        }
        let ended = entry.take().expect("it was there just now");
        self.slots.free.push(slot);
        self.requests.complete(ended);
    }

    fn watch_queue(&mut self) {
        let woken = std::ptr::from_mut(&mut **self.slots.woken).cast();
        let wake = types::Fd(self.queue.wake.as_raw_fd());
        let length = size_of::<u64>() as u32;
        let entry = opcode::Read::new(wake, woken, length).build();
        self.push(&entry.user_data(WAKE));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the descriptors are open as long as `self` is there, and the kernel keeps the files of what it has begun. The memory is that of `slots`: of a job, whose buffers
        // are on the heap and do not move with it, or the boxed counter. It is freed when the entry's completion was seen, or never: `Slots` is not dropped in a panic.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("there are as many entries as slots, and one for the eventfd");
    }
}

fn entry_of(file: types::Fd, step: Step) -> squeue::Entry {
    match step {
        Step::Read { at, into } => opcode::Read::new(file, into.as_mut_ptr(), length(into))
            .offset(at)
            .build(),
        Step::Write { at, from } => opcode::Write::new(file, from.as_ptr(), length(from))
            .offset(at)
            .build(),
        Step::Sync => opcode::Fsync::new(file)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
        Step::Allocate { mode, at, bytes } => opcode::Fallocate::new(file, bytes)
            .offset(at)
            .mode(mode.bits().cast_signed())
            .build(),
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a step is no longer than 1 GiB")
}
