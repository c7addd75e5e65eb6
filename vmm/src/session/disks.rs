//! A replica's disks: who does which request, and when.
//!
//! In: the machine's requests, from the vCPU thread what may be done at once, from the I/O thread what the output rule has released. Out: completions, into the
//! inbox, and what the user should know. What always holds: each request is given to its disk once.
//!
//! ```text
//!                         a read                       a change of a shared disk      a change of a copy of one's own
//!   alone, primary        at once                      when it is released            at once
//!   backup, at replay     reads=self, private: at once                                at once
//!   going live            what of the machine's requests has not been given to a disk here
//! ```

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::{
    disk_fault::{DiskFault, DiskPoint},
    open_disks::Copies,
    replica::Ending,
    reports::Reporter,
};
use crate::{
    effect::{DiskOperation, DiskRequest},
    host::disk::{DiskCompletion, DiskEvent, DiskSink, Grant, HostDisk, copy::CopyError},
    inputs::{apart::Apart, inbox::Inbox},
};

/// Where the disks' threads tell what happens.
pub struct Sink {
    inbox: Arc<Inbox>,
    reporter: Option<Reporter>,
    fault: Option<DiskFault>,
    cut_off: OnceLock<String>,
    noticed: Notify,
}

impl DiskSink for Sink {
    fn complete(&self, completion: DiskCompletion) {
        if let Some(fault) = &self.fault
            && completion.result.as_ref().is_ok_and(Vec::is_empty)
        {
            fault.pass(DiskPoint::BeforeCompletion);
        }
        self.inbox.put_disk(completion);
    }

    fn tell(&self, event: DiskEvent) {
        if let Some(reporter) = &self.reporter {
            reporter.disk(&event);
        }
        if let DiskEvent::CutOff { .. } = &event
            && self.cut_off.set(event.to_string()).is_ok()
        {
            self.noticed.notify_one();
        }
    }
}

impl Sink {
    /// A sink for disks whose machine takes its inputs from a new inbox.
    #[must_use]
    pub fn new(reporter: Reporter, fault: Option<DiskFault>) -> Arc<Self> {
        Arc::new(Self {
            inbox: Arc::default(),
            reporter: Some(reporter),
            fault,
            cut_off: OnceLock::new(),
            noticed: Notify::new(),
        })
    }
}

/// One disk.
pub struct Disk {
    /// The host's.
    pub host: Box<dyn HostDisk>,
    /// What each replica of a pair does for itself.
    pub apart: Apart,
    /// Nothing is ever changed on it.
    pub read_only: bool,
}

/// All disks of a machine.
pub struct Disks {
    disks: Vec<Disk>,
    copies: Copies,
    sink: Arc<Sink>,
}

impl Disks {
    /// These disks, which tell `sink` what happens; `copies` are those of them that are this replica's own.
    #[must_use]
    pub fn new(disks: Vec<Disk>, copies: Copies, sink: Arc<Sink>) -> Arc<Self> {
        Arc::new(Self {
            disks,
            copies,
            sink,
        })
    }

    /// No disks.
    #[must_use]
    pub fn none() -> Arc<Self> {
        let sink = Arc::new(Sink {
            inbox: Arc::default(),
            reporter: None,
            fault: None,
            cut_off: OnceLock::new(),
            noticed: Notify::new(),
        });
        Self::new(Vec::new(), Copies::default(), sink)
    }

    /// Where completions go: the machine's inbox.
    #[must_use]
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.sink.inbox)
    }

    /// What each replica does for itself, by disk.
    #[must_use]
    pub fn apart(&self) -> Vec<Apart> {
        self.disks.iter().map(|disk| disk.apart).collect()
    }

    /// Whether there is a disk on which each replica does something for itself.
    #[must_use]
    pub fn is_any_apart(&self) -> bool {
        self.disks.iter().any(|disk| disk.apart != Apart::Nothing)
    }

    /// The bookkeeping of this replica's own copies.
    #[must_use]
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    fn disk(&self, request: &DiskRequest) -> &Disk {
        &self.disks[usize::from(request.disk)]
    }

    /// Whether a live replica does this without waiting for its backup.
    #[must_use]
    pub fn is_free(&self, request: &DiskRequest) -> bool {
        request.operation.is_read() || self.disk(request).apart == Apart::Everything
    }

    /// Whether each replica does this for itself, at its replay too.
    #[must_use]
    pub fn is_apart(&self, request: &DiskRequest) -> bool {
        self.disk(request).apart.covers(&request.operation)
    }

    /// Gives a request to its disk. Never waits.
    ///
    /// # Panics
    /// If the machine has no such disk.
    pub fn submit(&self, request: DiskRequest) {
        let is_flush = request.operation == DiskOperation::Flush;
        let is_held = !self.is_free(&request);
        if is_held {
            self.pass(DiskPoint::BeforeWrite);
        }
        self.disk(&request).host.submit(request);
        if is_flush {
            self.pass(DiskPoint::DuringFlush);
        }
    }

    /// A request passes a point where a fault may wait for it.
    pub fn pass(&self, point: DiskPoint) {
        if let Some(fault) = &self.sink.fault {
            fault.pass(point);
        }
    }

    /// From now on this replica may change its shared disks, and its own copies.
    ///
    /// # Errors
    /// Somebody else has one of them: in words for the user.
    pub fn grant(&self, grant: Grant) -> Result<(), String> {
        self.grant_those(grant, |_| true)
    }

    /// At a backup: it may change its own copies.
    ///
    /// # Errors
    /// As [`Self::grant`].
    pub fn grant_copies(&self, grant: Grant) -> Result<(), String> {
        self.grant_those(grant, |disk| disk.apart == Apart::Everything)
    }

    fn grant_those(&self, grant: Grant, which: impl Fn(&Disk) -> bool) -> Result<(), String> {
        let mut writable = self.disks.iter().filter(|disk| !disk.read_only);
        writable.try_for_each(|disk| {
            if which(disk) {
                disk.host.grant(grant)
            } else {
                Ok(())
            }
        })
    }

    /// Waits until nothing is under way.
    pub fn settle(&self) {
        self.disks.iter().for_each(|disk| disk.host.settle());
    }

    /// The guest ended, with both replicas of the pair alive.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn end_together(&self, pair: u64, ending: &Ending) -> Result<(), CopyError> {
        self.settle();
        self.copies.end_together(pair, ending)
    }

    /// The guest ended on this replica alone.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn end_alone(&self) -> Result<(), CopyError> {
        self.settle();
        self.copies.end_alone()
    }

    /// Waits until a server has cut this replica off; says which. Cancel-safe.
    pub async fn cut_off(&self) -> String {
        loop {
            if let Some(why) = self.sink.cut_off.get() {
                return why.clone();
            }
            self.sink.noticed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
