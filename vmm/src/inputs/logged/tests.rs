use super::*;
use crate::inputs::test_situation::{COMPUTING, READ, Seen, WRITE, disk_requests};

const WITH_DISK: Seen = Seen {
    disk_requests,
    ..COMPUTING
};

/// One entry, and what this replica's own read finds.
struct One {
    entry: Option<Entry>,
    found: &'static [u8],
    told: Vec<u64>,
}

impl LogSource for One {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        Ok(self.entry.take())
    }

    fn replayed(&mut self, _seq: u64, _suppressed: Option<Effect>) {}

    fn done_apart(&mut self, disk: u8, request: u64) -> Result<Vec<u8>, InputError> {
        assert_eq!((disk, request), (0, READ));
        Ok(self.found.to_vec())
    }

    fn told(&mut self, _disk: u8, request: u64) -> Result<(), InputError> {
        self.told.push(request);
        Ok(())
    }
}

fn disk(request: u64, outcome: DiskOutcome) -> Event {
    Event::Disk {
        disk: 0,
        request,
        outcome,
    }
}

fn logged(event: Event) -> Logged<One> {
    let at = Position::default();
    let entry = Some(Entry { seq: 1, at, event });
    Logged::new(One {
        entry,
        found: b"sector",
        told: Vec::new(),
    })
}

fn next(inputs: &mut Logged<One>) -> Result<Next, InputError> {
    inputs.next(Position::default(), &WITH_DISK)
}

#[test]
fn what_the_log_tells_is_applied() {
    let bytes = b"from the log".to_vec().into();
    for (request, outcome) in [
        (READ, DiskOutcome::Done { bytes }),
        (WRITE, DiskOutcome::Failed),
    ] {
        let event = disk(request, outcome);
        let mut inputs = logged(event.clone());
        let applied = next(&mut inputs).expect("the machine waits for it");
        assert_eq!(applied, Next::Apply(event));
        assert_eq!(inputs.source().told, [request]);
    }
}

#[test]
fn what_a_replica_reads_for_itself_must_be_what_the_other_read() {
    let apart = |checksum| logged(disk(READ, DiskOutcome::DoneApart { checksum }));
    let checksum = crc32fast::hash(b"sector");
    let bytes = b"sector".to_vec().into();
    let applied = next(&mut apart(checksum)).expect("the same bytes");
    assert_eq!(
        applied,
        Next::Apply(disk(READ, DiskOutcome::Done { bytes }))
    );
    let parted = next(&mut apart(checksum ^ 1));
    let Err(InputError::Diverged(divergence)) = parted else {
        panic!("{parted:?}");
    };
    assert!(divergence.actual.contains("6 other bytes"), "{divergence}");
}

#[test]
fn a_completion_that_nobody_waits_for_is_a_divergence() {
    let parted = next(&mut logged(disk(READ + 1, DiskOutcome::Failed)));
    let Err(InputError::Diverged(divergence)) = parted else {
        panic!("{parted:?}");
    };
    assert!(
        divergence.actual.contains("no such request"),
        "{divergence}"
    );
}
