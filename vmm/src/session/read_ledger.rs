//! What a backup has yet to read for itself: a primary changes no block of a shared disk before the backup has read what was there.
//!
//! In: reads as they are issued, completions as they are recorded, how far the backup has executed; changes of the disk that the output rule has released. Out: those
//! changes, in order, once nothing stands against them (the paper's 4.2).
//!
//! ```text
//!  read issued ──► under way ──DoneApart at seq──► to be read by the backup ──executed ≥ seq──► forgotten
//!                     └─ any other end: its bytes are in the log ──────────────────────────────────┘
//! ```
//!
//! What always holds: a change that overlaps a read that is to be read by the backup waits. One that overlaps a read under way does not come: the machine's
//! disk holds it back.

use std::collections::{BTreeMap, VecDeque};

use logging_channel::{DiskOutcome, Entry, Event};

use crate::{
    effect::{DiskOperation, DiskRequest},
    inputs::apart::Apart,
};

/// A read that the backup has not executed yet.
#[derive(Debug)]
struct ToBeRead {
    seq: u64,
    disk: u8,
    read: DiskOperation,
}

/// The reads of a pair's disks, as its primary sees them.
#[derive(Debug, Default)]
pub struct ReadLedger {
    apart: Vec<Apart>,
    under_way: BTreeMap<(u8, u64), DiskOperation>,
    /// In order.
    to_be_read: VecDeque<ToBeRead>,
    /// Each with the entry that the backup must have executed before.
    waiting: VecDeque<(u64, DiskRequest)>,
}

impl ReadLedger {
    /// A ledger of these disks.
    #[must_use]
    pub fn new(apart: Vec<Apart>) -> Self {
        Self {
            apart,
            ..Self::default()
        }
    }

    /// The machine has issued a read.
    pub fn issued(&mut self, request: &DiskRequest) {
        let apart = self.apart.get(usize::from(request.disk));
        // A replica with a copy of its own is disturbed by nobody.
        if request.operation.is_read() && apart == Some(&Apart::Reads) {
            let name = (request.disk, request.id);
            self.under_way.insert(name, request.operation.clone());
        }
    }

    /// An entry was recorded; those of reads after the reads were issued.
    pub fn recorded(&mut self, entry: &Entry) {
        let Event::Disk {
            disk,
            request,
            outcome,
        } = &entry.event
        else {
            return;
        };
        let read = self.under_way.remove(&(*disk, *request));
        if let (Some(read), DiskOutcome::DoneApart { .. }) = (read, outcome) {
            self.to_be_read.push_back(ToBeRead {
                seq: entry.seq,
                disk: *disk,
                read,
            });
        }
    }

    /// A change of a disk has been released. It is returned if it may be done now, else kept.
    #[must_use]
    pub fn released(&mut self, request: DiskRequest) -> Option<DiskRequest> {
        let mut against = self.to_be_read.iter().rev();
        let against = against.find(|earlier| {
            earlier.disk == request.disk && earlier.read.conflicts_with(&request.operation)
        });
        match against {
            None => Some(request),
            Some(read) => {
                self.waiting.push_back((read.seq, request));
                None
            }
        }
    }

    /// The backup has executed every entry up to `through`: the changes that may be done now, in order.
    pub fn executed(&mut self, through: u64) -> Vec<DiskRequest> {
        while self
            .to_be_read
            .front()
            .is_some_and(|read| read.seq <= through)
        {
            self.to_be_read.pop_front();
        }
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (free, waiting): (VecDeque<_>, _) =
            waiting.into_iter().partition(|(seq, _)| *seq <= through);
        self.waiting = waiting;
        free.into_iter().map(|(_, request)| request).collect()
    }

    /// There is no backup any more.
    pub fn let_go(&mut self) -> Vec<DiskRequest> {
        self.apart.clear();
        self.under_way.clear();
        self.executed(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use logging_channel::Position;

    use super::*;

    fn read(id: u64, sector: u64) -> DiskRequest {
        DiskRequest {
            disk: 0,
            id,
            operation: DiskOperation::Read { sector, bytes: 512 },
        }
    }

    fn write(id: u64, sector: u64) -> DiskRequest {
        DiskRequest {
            disk: 0,
            id,
            operation: DiskOperation::Write {
                sector,
                data: vec![1; 512].into(),
            },
        }
    }

    fn entry(seq: u64, request: u64, outcome: DiskOutcome) -> Entry {
        Entry {
            seq,
            at: Position::default(),
            event: Event::Disk {
                disk: 0,
                request,
                outcome,
            },
        }
    }

    const APART: DiskOutcome = DiskOutcome::DoneApart { checksum: 0 };

    #[test]
    fn a_change_waits_until_the_backup_has_read_what_was_there() {
        let mut ledger = ReadLedger::new(vec![Apart::Reads]);
        ledger.issued(&read(0, 8));
        ledger.issued(&read(1, 9));
        ledger.recorded(&entry(10, 0, APART));
        ledger.recorded(&entry(12, 1, APART));
        assert_eq!(ledger.released(write(2, 7)), Some(write(2, 7)));
        assert_eq!(ledger.released(write(3, 9)), None);
        assert_eq!(ledger.released(write(4, 8)), None);
        assert_eq!(ledger.executed(9), []);
        assert_eq!(ledger.executed(11), [write(4, 8)]);
        assert_eq!(ledger.executed(12), [write(3, 9)]);
        assert_eq!(ledger.released(write(5, 9)), Some(write(5, 9)));
    }

    #[test]
    fn what_travels_in_the_log_holds_nothing_back() {
        let mut ledger = ReadLedger::new(vec![Apart::Reads]);
        ledger.issued(&read(0, 8));
        ledger.recorded(&entry(10, 0, DiskOutcome::Failed));
        assert_eq!(ledger.released(write(1, 8)), Some(write(1, 8)));
        for apart in [Apart::Nothing, Apart::Everything] {
            let mut ledger = ReadLedger::new(vec![apart]);
            ledger.issued(&read(0, 8));
            ledger.recorded(&entry(10, 0, APART));
            assert_eq!(ledger.released(write(1, 8)), Some(write(1, 8)));
        }
    }

    #[test]
    fn a_primary_alone_waits_for_nobody() {
        let mut ledger = ReadLedger::new(vec![Apart::Reads]);
        ledger.issued(&read(0, 8));
        ledger.recorded(&entry(10, 0, APART));
        assert_eq!(ledger.released(write(1, 8)), None);
        assert_eq!(ledger.let_go(), [write(1, 8)]);
        ledger.issued(&read(2, 8));
        ledger.recorded(&entry(11, 2, APART));
        assert_eq!(ledger.released(write(3, 8)), Some(write(3, 8)));
    }
}
