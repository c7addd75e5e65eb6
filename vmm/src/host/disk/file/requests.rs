//! The requests that a disk has under way: how many, whether they may change it, and where their ends are told.
//!
//! In: requests as they come and jobs as they end, from any thread. Out: completions and events, to the sink. What always holds: each request that was
//! admitted is counted until its completion was delivered, and once changes are forbidden and waited for, none is under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::job::Job;
use crate::host::disk::{DiskCompletion, DiskError, DiskEvent, DiskSink};

/// See the module's documentation.
pub(super) struct Requests {
    disk: u8,
    place: String,
    sink: Arc<dyn DiskSink>,
    state: Mutex<State>,
    /// Signalled when one of the counts becomes 0.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    may_change: bool,
    /// Requests, changes among them.
    under_way: u64,
    /// Changes that were admitted.
    changes: u64,
    /// A flush has failed: the kernel tells of lost writes once (fsync(2)), and later flushes would lie.
    lost_writes: bool,
}

/// A job, and what it counts as.
pub(super) struct Admitted {
    pub(super) job: Job,
    changes: bool,
}

impl Requests {
    pub(super) fn new(disk: u8, place: String, sink: Arc<dyn DiskSink>) -> Self {
        Self {
            disk,
            place,
            sink,
            state: Mutex::default(),
            idle: Condvar::new(),
        }
    }

    /// Counts a request, and refuses one that changes the disk if that is not allowed.
    pub(super) fn admit(&self, mut job: Job, changes: bool) -> Admitted {
        let mut state = self.lock();
        state.under_way += 1;
        let may = !changes || state.may_change;
        let lies = job.is_flush() && state.lost_writes;
        let changes = changes && may;
        state.changes += u64::from(changes);
        drop(state);
        if !may {
            job.refuse("this process may not change the disk (it is read-only, or not granted)");
        }
        if lies {
            job.refuse(
                "an earlier flush failed, and what was written before it may be lost: start again to go on",
            );
        }
        Admitted { job, changes }
    }

    /// Tells how a request ended.
    pub(super) fn complete(&self, ended: Admitted) {
        let Admitted { job, changes } = ended;
        let (request, what, is_flush) = (job.request(), job.describe(), job.is_flush());
        let result = job.outcome().map_err(|error| {
            self.tell(what, error.clone());
            DiskError::Failed(error)
        });
        if is_flush && result.is_err() {
            self.lock().lost_writes = true;
        }
        let disk = self.disk;
        self.sink.complete(DiskCompletion {
            disk,
            request,
            result,
        });
        let mut state = self.lock();
        state.under_way -= 1;
        state.changes -= u64::from(changes);
        if state.under_way == 0 || (changes && state.changes == 0) {
            self.idle.notify_all();
        }
    }

    /// Waits until nothing is under way.
    pub(super) fn settle(&self) {
        self.wait_while(|state| state.under_way > 0);
    }

    pub(super) fn allow_changes(&self) {
        self.lock().may_change = true;
    }

    /// From now on no change is admitted. Returns when those under way have ended.
    pub(super) fn forbid_changes(&self) {
        self.lock().may_change = false;
        self.wait_while(|state| state.changes > 0);
    }

    fn tell(&self, what: String, error: String) {
        self.sink.tell(DiskEvent::Failed {
            disk: self.disk,
            place: self.place.clone(),
            what,
            error,
        });
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) {
        let waited = self
            .idle
            .wait_while(self.lock(), |state| condition(state))
            .unwrap_or_else(PoisonError::into_inner);
        drop(waited);
    }

    /// The counts are changed in one step each, so a panic elsewhere leaves them right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        effect::{DiskOperation, DiskRequest},
        host::disk::file::job::Shape,
    };

    #[derive(Default)]
    struct Ends(Mutex<Vec<bool>>);

    impl DiskSink for Ends {
        fn complete(&self, completion: DiskCompletion) {
            self.0.lock().unwrap().push(completion.result.is_ok());
        }

        fn tell(&self, _event: DiskEvent) {}
    }

    fn job(operation: DiskOperation) -> Job {
        let request = DiskRequest {
            disk: 0,
            id: 0,
            operation,
        };
        let shape = Shape {
            bytes: 512,
            direct: false,
            memory_alignment: 1,
        };
        Job::new(request, shape)
    }

    #[test]
    fn after_a_flush_that_failed_no_other_says_that_all_is_well() {
        let ends = Arc::<Ends>::default();
        let sink = Arc::clone(&ends) as Arc<dyn DiskSink>;
        let requests = Requests::new(0, "image".to_owned(), sink);
        let end_with = |operation, result| {
            let mut admitted = requests.admit(job(operation), false);
            if admitted.job.next().is_some() {
                admitted.job.ended(result);
            }
            requests.complete(admitted);
        };
        end_with(DiskOperation::Flush, Ok(0));
        end_with(DiskOperation::Flush, Err(rustix::io::Errno::IO));
        end_with(DiskOperation::Flush, Ok(0));
        let (sector, bytes) = (0, 512);
        end_with(DiskOperation::Read { sector, bytes }, Ok(512));
        assert_eq!(*ends.0.lock().unwrap(), [true, false, false, true]);
    }
}
