//! The requests that a disk has not answered: part of the machine's state.
//!
//! In: operations, in the order in which the guest made them; answers; resets. Out: requests that may be given to the disk now.
//! Always: requests are in order of their names, which never come again; none is issued while an earlier one conflicts with it; no more than
//! [`MAX_REQUESTS`] and [`OUTSTANDING_LIMIT_BYTES`] are kept.

use logging_channel::Digest;
use serde::{Deserialize, Serialize};

use super::REQUEST_LIMIT_BYTES;
use crate::devices::virtio::buffers::Buffers;
use crate::devices::virtio::mmio::QUEUE_MAX_SIZE;
use crate::effect::{DiskOperation, DiskRequest, Effect};

/// Requests under way and waiting, at most: a driver that knows its trade has no more descriptors.
pub const MAX_REQUESTS: usize = QUEUE_MAX_SIZE as usize;
/// Data of requests under way and waiting, to be written and to be read, at most.
pub const OUTSTANDING_LIMIT_BYTES: u64 = 32 << 20;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// An earlier one conflicts with it: the disk does not have it yet.
    Waiting,
    /// The disk has it.
    Issued,
    /// The disk has it, and the guest, which has reset the device, does not wait for it any more.
    Abandoned,
}

/// A request that was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// See [`DiskRequest::id`].
    pub id: u64,
    /// What to do.
    pub operation: DiskOperation,
    /// How far it is.
    pub progress: Progress,
    /// The chain's name in the used ring.
    pub head: u16,
    /// Where the answer goes: data at the beginning, the status in the last byte.
    pub writable: Buffers,
    /// [`Effect::digest`] of the request: stands for its data in digests of the state.
    digest: Digest,
}

impl Outstanding {
    /// As the disk is told.
    #[must_use]
    pub fn to_disk(&self, disk: u8) -> DiskRequest {
        DiskRequest {
            disk,
            id: self.id,
            operation: self.operation.clone(),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTable {
    /// In order of their names.
    requests: Vec<Outstanding>,
    /// The next one's name.
    next_id: u64,
}

impl RequestTable {
    /// Whether there is room for one more, as large as they may be.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let requests = self.requests.iter();
        let bytes: u64 = requests.map(|request| request.operation.data_bytes()).sum();
        self.requests.len() < MAX_REQUESTS
            && bytes + u64::from(REQUEST_LIMIT_BYTES) <= OUTSTANDING_LIMIT_BYTES
    }

    /// Takes a request in; what the disk is told, unless it must wait.
    pub fn add(
        &mut self,
        disk: u8,
        operation: DiskOperation,
        head: u16,
        writable: Buffers,
    ) -> Option<DiskRequest> {
        let request = DiskRequest {
            disk,
            id: self.next_id,
            operation: operation.clone(),
        };
        self.next_id += 1;
        let issued = may_be_issued(&self.requests, &operation);
        self.requests.push(Outstanding {
            id: request.id,
            operation,
            progress: match issued {
                true => Progress::Issued,
                false => Progress::Waiting,
            },
            head,
            writable,
            digest: Effect::Disk(request.clone()).digest(),
        });
        issued.then_some(request)
    }

    /// A request that the disk has.
    #[must_use]
    pub fn issued(&self, id: u64) -> Option<&Outstanding> {
        self.find_issued(id).map(|index| &self.requests[index])
    }

    /// The disk has answered a request: it leaves the table. `None` if the disk does not have it.
    pub fn finish(&mut self, id: u64) -> Option<Outstanding> {
        self.find_issued(id)
            .map(|index| self.requests.remove(index))
    }

    /// What waited for requests that have left the table, in order.
    pub fn issue_ready(&mut self, disk: u8) -> impl Iterator<Item = DiskRequest> {
        let mut ready = Vec::new();
        for index in 0..self.requests.len() {
            let (earlier, rest) = self.requests.split_at_mut(index);
            let request = &mut rest[0];
            if request.progress == Progress::Waiting && may_be_issued(earlier, &request.operation) {
                request.progress = Progress::Issued;
                ready.push(request.to_disk(disk));
            }
        }
        ready.into_iter()
    }

    /// The guest does not wait for any of them any more: what the disk does not have is forgotten.
    pub fn abandon(&mut self) {
        self.requests
            .retain(|request| request.progress != Progress::Waiting);
        for request in &mut self.requests {
            request.progress = Progress::Abandoned;
            request.writable = Buffers::default();
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Outstanding> {
        self.requests.iter()
    }

    /// Leaves digests alone to tell operations apart: for digests of the state, which must not hash the data of all requests again and again.
    pub fn forget_data(&mut self) {
        for request in &mut self.requests {
            request.operation = DiskOperation::Flush;
        }
    }

    fn find_issued(&self, id: u64) -> Option<usize> {
        let index = self
            .requests
            .binary_search_by_key(&id, |request| request.id);
        let index = index.ok()?;
        (self.requests[index].progress != Progress::Waiting).then_some(index)
    }
}

/// Whether no request before it conflicts with it.
fn may_be_issued(earlier: &[Outstanding], operation: &DiskOperation) -> bool {
    let mut earlier = earlier.iter();
    !earlier.any(|request| request.operation.conflicts_with(operation))
}
