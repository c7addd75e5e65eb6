//! Threads that perform requests by plain system calls, where the kernel has no `io_uring` for us.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::io::Errno;

use super::{
    job::Step,
    requests::{Admitted, Requests},
};

/// How many requests are at the storage at once.
const THREADS: usize = 4;

/// The threads. Dropping it waits for what they are doing; what they have not begun is given up.
pub(super) struct Pool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Signalled when a job comes and when the pool closes.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// No more than the guest has requests under way.
    jobs: VecDeque<Admitted>,
    closing: bool,
}

impl Pool {
    pub(super) fn start(file: &Arc<File>, requests: &Arc<Requests>) -> io::Result<Self> {
        let mut pool = Self {
            queue: Arc::default(),
            threads: Vec::new(),
        };
        for number in 0..THREADS {
            let (queue, file, requests) = (pool.queue.clone(), file.clone(), requests.clone());
            let thread = thread::Builder::new()
                .name(format!("disk-{number}"))
                .spawn(move || work(&queue, &file, &requests))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(super) fn submit(&self, admitted: Admitted) {
        self.queue.lock().jobs.push_back(admitted);
        self.queue.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// The next job, as soon as there is one; `None` when the pool closes.
    fn take(&self) -> Option<Admitted> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| state.jobs.is_empty() && !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        match state.closing {
            true => None,
            false => state.jobs.pop_front(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(queue: &Queue, file: &File, requests: &Requests) {
    while let Some(mut admitted) = queue.take() {
        while let Some(step) = admitted.job.next() {
            let result = perform(file, step);
            admitted.job.ended(result);
        }
        requests.complete(admitted);
    }
}

fn perform(file: &File, step: Step) -> Result<usize, Errno> {
    match step {
        Step::Read { at, into } => rustix::io::pread(file, into, at),
        Step::Write { at, from } => rustix::io::pwrite(file, from, at),
        Step::Sync => rustix::fs::fdatasync(file).map(|()| 0),
        Step::Allocate { mode, at, bytes } => {
            rustix::fs::fallocate(file, mode, at, bytes).map(|()| 0)
        }
    }
}
