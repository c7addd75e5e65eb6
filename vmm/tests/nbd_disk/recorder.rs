//! What a disk says, for tests to wait for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use vmm::{
    effect::{DiskOperation, DiskRequest, SECTOR_BYTES},
    host::disk::{DiskCompletion, DiskError, DiskEvent, DiskSink},
};

/// Generous: only a failure waits for so long.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// How a request ended.
pub type Ended = Result<Vec<u8>, DiskError>;

#[derive(Debug, Default)]
pub struct Recorder {
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    completions: BTreeMap<u64, Ended>,
    events: Vec<DiskEvent>,
}

impl DiskSink for Recorder {
    fn complete(&self, completion: DiskCompletion) {
        let DiskCompletion {
            request, result, ..
        } = completion;
        let before = self
            .heard
            .lock()
            .unwrap()
            .completions
            .insert(request, result);
        assert!(before.is_none(), "request {request} was completed twice");
        self.changed.notify_all();
    }

    fn tell(&self, event: DiskEvent) {
        self.heard.lock().unwrap().events.push(event);
        self.changed.notify_all();
    }
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn wait<T>(&self, what: &str, mut find: impl FnMut(&Heard) -> Option<T>) -> T {
        let heard = self.heard.lock().unwrap();
        let (heard, late) = self
            .changed
            .wait_timeout_while(heard, TIMEOUT, |heard| find(heard).is_none())
            .unwrap();
        assert!(!late.timed_out(), "{what} never came: {heard:?}");
        find(&heard).expect("it was there a moment ago")
    }

    /// Waits for the end of a request.
    pub fn ended(&self, request: u64) -> Ended {
        self.wait("a completion", |heard| {
            heard.completions.get(&request).cloned()
        })
    }

    /// Waits for an event like this.
    pub fn event(&self, like: impl Fn(&DiskEvent) -> bool) -> DiskEvent {
        self.wait("an event", |heard| {
            heard.events.iter().find(|event| like(event)).cloned()
        })
    }

    pub fn events(&self) -> Vec<DiskEvent> {
        self.heard.lock().unwrap().events.clone()
    }

    pub fn has_ended(&self, request: u64) -> bool {
        self.heard
            .lock()
            .unwrap()
            .completions
            .contains_key(&request)
    }
}

/// A write of one sector, full of this byte.
pub fn write(id: u64, sector: u64, byte: u8) -> DiskRequest {
    let data = vec![byte; SECTOR_BYTES as usize].into();
    request(id, DiskOperation::Write { sector, data })
}

/// A read of one sector.
pub fn read(id: u64, sector: u64) -> DiskRequest {
    let bytes = SECTOR_BYTES as u32;
    request(id, DiskOperation::Read { sector, bytes })
}

pub fn request(id: u64, operation: DiskOperation) -> DiskRequest {
    DiskRequest {
        disk: 0,
        id,
        operation,
    }
}
