//! A machine for tests of inputs: what it would take is written down.

use super::Situation;
use crate::{
    effect::{DiskOperation, DiskRequest},
    engine::ClockKind,
    machine::clock::FIRST_PS_PER_INSTRUCTION,
};

/// The number of the read in [`disk_requests`].
pub const READ: u64 = 4;
/// The number of the write in [`disk_requests`].
pub const WRITE: u64 = 6;

/// A read and a write of disk 0.
pub fn disk_requests() -> Vec<DiskRequest> {
    let read = DiskOperation::Read {
        sector: 8,
        bytes: 512,
    };
    let write = DiskOperation::Write {
        sector: 9,
        data: vec![1; 512].into(),
    };
    let request = |(id, operation)| DiskRequest {
        disk: 0,
        id,
        operation,
    };
    [(READ, read), (WRITE, write)].map(request).into()
}

/// A machine as live inputs see it.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Where the vCPU can be stopped.
    pub clock_kind: ClockKind,
    /// Guest time and instructions, where they are counted.
    pub counted: Option<(u64, u64)>,
    /// When a timer is due.
    pub deadline_ns: Option<u64>,
    /// An interrupt waits.
    pub pending: bool,
    /// It would be taken.
    pub accepts: bool,
    /// The vCPU waits in HLT.
    pub halted: bool,
    /// What its disks have been asked for and have not done.
    pub disk_requests: fn() -> Vec<DiskRequest>,
}

/// It computes, and nothing waits.
pub const COMPUTING: Seen = Seen {
    clock_kind: ClockKind::Instructions,
    counted: None,
    deadline_ns: None,
    pending: false,
    accepts: true,
    halted: false,
    disk_requests: Vec::new,
};

impl Situation for Seen {
    fn clock_kind(&self) -> ClockKind {
        self.clock_kind
    }
    fn retired(&self) -> Option<u64> {
        self.counted.map(|(_, retired)| retired)
    }
    fn time_ns(&self) -> u64 {
        self.counted.map_or(0, |(guest_ns, _)| guest_ns)
    }
    fn ps_per_instruction(&self) -> u32 {
        FIRST_PS_PER_INSTRUCTION
    }
    fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }
    fn takes_frame(&self) -> bool {
        true
    }
    fn console_input_room(&self) -> usize {
        16
    }
    fn entropy_bytes(&self) -> Option<usize> {
        None
    }
    fn disk_request(&self, disk: u8, request: u64) -> Option<DiskOperation> {
        let mut requests = self.disk_requests().into_iter();
        let request = requests.find(|known| (known.disk, known.id) == (disk, request));
        request.map(|request| request.operation)
    }
    fn disk_requests(&self) -> Vec<DiskRequest> {
        (self.disk_requests)()
    }
    fn interrupt_pending(&self) -> bool {
        self.pending
    }
    fn other_than_timer_pending(&self) -> bool {
        false
    }
    fn accepts_interrupts(&self) -> bool {
        self.accepts
    }
    fn halted(&self) -> bool {
        self.halted
    }
}
