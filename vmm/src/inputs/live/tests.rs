use std::sync::Mutex;

use super::{
    super::{
        MAX_SLICE_INSTRUCTIONS,
        test_situation::{COMPUTING, READ, Seen, WRITE, disk_requests},
    },
    *,
};
use crate::host::disk::{DiskCompletion, DiskError};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Entry>>>);

impl Recorder for Kept {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        self.0.lock().expect("no panic").push(entry);
        Ok(())
    }
}

impl Kept {
    fn events(&self) -> Vec<Event> {
        let entries = self.0.lock().expect("no panic");
        entries.iter().map(|entry| entry.event.clone()).collect()
    }
}

fn live() -> (Live, Kept, Arc<Inbox>) {
    let (kept, inbox) = (Kept::default(), Arc::<Inbox>::default());
    let recorder = Box::new(kept.clone());
    let live = Live::new(
        HostClock::starting_at(1_000),
        Arc::clone(&inbox),
        recorder,
        1,
    );
    (live, kept, inbox)
}

fn at(exits: u64, instructions: u64) -> Position {
    Position {
        exits,
        instructions,
    }
}

#[test]
fn a_guest_that_computes_is_given_slices_and_what_arrived_between_them() {
    let (mut live, kept, inbox) = live();
    let first = live.next(at(7, 100), &COMPUTING).expect("open");
    let end = 100 + SLICE_INSTRUCTIONS;
    assert_eq!(first, Next::Run(Goal::Instructions(end)));
    inbox.put_frame(vec![1, 2, 3]);
    let frame = Event::Frame {
        bytes: vec![1, 2, 3],
    };
    let second = live.next(at(7, end), &COMPUTING).expect("open");
    assert_eq!(second, Next::Apply(frame.clone()));
    let due = Seen {
        deadline_ns: Some(1_000),
        ..COMPUTING
    };
    let third = live.next(at(7, end), &due).expect("open");
    assert!(
        matches!(third, Next::Apply(Event::Tick { .. })),
        "{third:?}"
    );
    assert_eq!(kept.events()[0], frame, "slices leave no entries");
    assert_eq!(kept.events().len(), 2);
}

#[test]
fn an_interrupt_lands_at_the_first_instruction_that_accepts_it() {
    let (mut live, kept, _) = live();
    let masked = Seen {
        pending: true,
        accepts: false,
        ..COMPUTING
    };
    let limit = 50 + SLICE_INSTRUCTIONS;
    let run = live.next(at(3, 50), &masked).expect("open");
    assert_eq!(run, Next::Run(Goal::Interruptible { limit }));
    assert_eq!(
        kept.events(),
        [],
        "its own position is enough for the replay"
    );
    let open = Seen {
        accepts: true,
        ..masked
    };
    assert_eq!(live.next(at(3, 71), &open).expect("open"), Next::Interrupt);
}

#[test]
fn a_clock_of_exits_knows_no_slices_and_records_its_steps() {
    let (mut live, kept, _) = live();
    let exits = Seen {
        clock_kind: ClockKind::Exits,
        ..COMPUTING
    };
    let run = live.next(at(3, 0), &exits).expect("open");
    assert_eq!(run, Next::Run(Goal::Exit));
    let masked = Seen {
        pending: true,
        accepts: false,
        ..exits
    };
    let limit = STEP_LIMIT;
    let step = live.next(at(4, 0), &masked).expect("open");
    assert_eq!(step, Next::Run(Goal::Interruptible { limit }));
    assert_eq!(kept.events(), [Event::Step { limit }]);
    // In vain: not twice at one exit.
    let run = live.next(at(4, limit), &masked).expect("open");
    assert_eq!(run, Next::Run(Goal::Exit));
}

#[test]
fn digests_come_after_so_many_turns_whether_the_guest_exits_or_not() {
    let (mut live, _, _) = live();
    for round in 0..3 {
        for turn in 0..u64::from(DIGEST_TURNS) {
            let next = live.next(at(round, turn), &COMPUTING).expect("open");
            assert!(matches!(next, Next::Run(_)), "{round} {turn}: {next:?}");
        }
        let due = live.next(at(round, 1_000), &COMPUTING).expect("open");
        assert_eq!(due, Next::Digest);
    }
}

#[test]
fn another_seed_is_another_timing_and_the_same_seed_the_same() {
    let course = |seed| {
        let (live, _, _) = live();
        let mut live = live.with_jitter(Some(seed));
        let mut here = 0;
        let mut ends = Vec::new();
        while ends.len() < 200 {
            if let Next::Run(Goal::Instructions(end)) =
                live.next(at(0, here), &COMPUTING).expect("open")
            {
                assert!(end > here && end - here <= MAX_SLICE_INSTRUCTIONS);
                here = end;
                ends.push(end);
            }
        }
        ends
    };
    assert_eq!(course(1), course(1));
    assert_ne!(course(1), course(2));
}

#[test]
fn a_session_that_is_over_ends_a_halted_guest() {
    let (mut live, _, inbox) = live();
    inbox.close();
    let halted = Seen {
        halted: true,
        ..COMPUTING
    };
    assert!(matches!(
        live.next(at(1, 0), &halted),
        Err(InputError::Closed)
    ));
}

/// Guest time far before the host's: a second of it, and the host's clock begins at a microsecond.
const AHEAD: (u64, u64) = (1_000_000_000, 5);

#[test]
fn where_instructions_are_counted_the_hosts_clock_begins_where_the_guests_is() {
    let (mut live, kept, _) = live();
    let seen = Seen {
        counted: Some(AHEAD),
        ..COMPUTING
    };
    let run = live.next(at(1, 0), &seen).expect("open");
    assert!(matches!(run, Next::Run(_)), "{run:?}");
    assert_eq!(kept.events(), [], "nothing to correct");
    assert!(live.clock.now_ns() >= AHEAD.0);
}

#[test]
fn a_clock_that_is_behind_is_put_right_before_anything_else() {
    let (mut live, kept, inbox) = live();
    let first = Seen {
        counted: Some(AHEAD),
        ..COMPUTING
    };
    live.next(at(1, 0), &first).expect("open");
    live.clock.catch_up_with(2 * AHEAD.0);
    inbox.put_frame(vec![1]);
    let corrected = live.next(at(1, 100), &first).expect("open");
    let Next::Apply(Event::Clock { guest_ns, .. }) = corrected else {
        panic!("{corrected:?}");
    };
    assert!(guest_ns >= 2 * AHEAD.0);
    let after = Seen {
        counted: Some((guest_ns, 105)),
        ..COMPUTING
    };
    let frame = live.next(at(1, 100), &after).expect("open");
    assert_eq!(frame, Next::Apply(Event::Frame { bytes: vec![1] }));
    assert_eq!(kept.events().len(), 2);
}

#[test]
fn a_halted_guests_clock_is_put_right_before_what_wakes_it() {
    let (mut live, _, inbox) = live();
    let halted = Seen {
        counted: Some(AHEAD),
        halted: true,
        ..COMPUTING
    };
    inbox.put_frame(vec![1]);
    live.next(at(1, 0), &halted).expect("open");
    // It slept for a second; then a frame came.
    live.clock.catch_up_with(2 * AHEAD.0);
    inbox.put_frame(vec![2]);
    let corrected = live.next(at(1, 0), &halted).expect("open");
    assert!(
        matches!(corrected, Next::Apply(Event::Clock { guest_ns, .. }) if guest_ns >= 2 * AHEAD.0),
        "{corrected:?}"
    );
}

#[test]
fn where_instructions_are_counted_only_a_halted_guest_is_told_that_its_timer_is_due() {
    let (mut live, kept, _) = live();
    let computing = Seen {
        counted: Some(AHEAD),
        deadline_ns: Some(AHEAD.0),
        ..COMPUTING
    };
    let run = live.next(at(1, 0), &computing).expect("open");
    assert!(matches!(run, Next::Run(_)), "{run:?}");
    let halted = Seen {
        halted: true,
        ..computing
    };
    let tick = live.next(at(2, 0), &halted).expect("open");
    assert!(matches!(tick, Next::Apply(Event::Tick { .. })), "{tick:?}");
    assert_eq!(kept.events().len(), 1);
}

#[test]
fn a_guest_that_exits_all_the_time_has_few_digests_and_one_that_computes_is_never_silent() {
    let seen = Seen {
        counted: Some(AHEAD),
        ..COMPUTING
    };
    let (mut live, _, _) = live();
    live.next(at(0, 0), &seen).expect("open");
    // As if a digest lay in the future: no time passes.
    live.digest_ns = u64::MAX / 2;
    for exit in 0..4 * u64::from(DIGEST_TURNS) {
        let next = live.next(at(exit, 0), &seen).expect("open");
        assert!(matches!(next, Next::Run(_)), "{exit}: {next:?}");
    }
    for slice in 1..u64::from(DIGEST_TURNS) {
        let next = live.next(at(5_000, slice), &seen).expect("open");
        assert!(matches!(next, Next::Run(_)), "{slice}: {next:?}");
    }
    let next = live.next(at(5_000, 1_000), &seen).expect("open");
    assert_eq!(next, Next::Digest);
    // From now on it is time that counts.
    live.digest_ns = 0;
    let mut exits = 6_000..;
    let digest = exits.by_ref().take(300).find(|exit| {
        let next = live.next(at(*exit, 0), &seen).expect("open");
        next == Next::Digest
    });
    assert_eq!(digest, Some(6_000 + u64::from(DIGEST_TURNS)));
}

fn done(request: u64, bytes: &[u8]) -> DiskCompletion {
    DiskCompletion {
        disk: 0,
        request,
        result: Ok(bytes.to_vec()),
    }
}

fn disk(request: u64, outcome: DiskOutcome) -> Event {
    Event::Disk {
        disk: 0,
        request,
        outcome,
    }
}

const WITH_DISK: Seen = Seen {
    disk_requests,
    halted: true,
    ..COMPUTING
};

#[test]
fn a_completion_comes_in_if_the_machine_waits_for_it() {
    let (mut live, kept, inbox) = live();
    inbox.put_disk(done(77, b"nobody waits for it"));
    inbox.put_disk(done(READ, b"sector"));
    inbox.put_disk(DiskCompletion {
        result: Err(DiskError::Failed("no space".to_owned())),
        ..done(WRITE, b"")
    });
    // The vCPU waits in HLT: only what came in lets this return.
    let read = disk(
        READ,
        DiskOutcome::Done {
            bytes: b"sector".to_vec().into(),
        },
    );
    let failed = disk(WRITE, DiskOutcome::Failed);
    for event in [&read, &failed] {
        let next = live.next(at(5, 0), &WITH_DISK).expect("open");
        assert_eq!(next, Next::Apply(event.clone()));
    }
    assert_eq!(kept.events(), [read, failed]);
}

#[test]
fn what_each_replica_does_for_itself_is_not_in_the_log() {
    let checksum = crc32fast::hash(b"sector");
    let apart = |request, checksum| disk(request, DiskOutcome::DoneApart { checksum });
    let whole = |request, bytes: &[u8]| {
        disk(
            request,
            DiskOutcome::Done {
                bytes: bytes.to_vec().into(),
            },
        )
    };
    let cases = [
        (Apart::Nothing, [whole(READ, b"sector"), whole(WRITE, b"")]),
        (Apart::Reads, [apart(READ, checksum), whole(WRITE, b"")]),
        (Apart::Everything, [apart(READ, checksum), apart(WRITE, 0)]),
    ];
    for (rule, recorded) in cases {
        let (live, kept, inbox) = live();
        let mut live = live.with_disks_apart(vec![rule]);
        for (request, bytes) in [(READ, &b"sector"[..]), (WRITE, b"")] {
            inbox.put_disk(done(request, bytes));
            let next = live.next(at(5, 0), &WITH_DISK).expect("open");
            assert_eq!(next, Next::Apply(whole(request, bytes)));
        }
        assert_eq!(kept.events(), recorded);
    }
}

#[test]
fn a_failure_is_in_the_log_whoever_does_the_work() {
    let (live, kept, inbox) = live();
    let mut live = live.with_disks_apart(vec![Apart::Everything]);
    inbox.put_disk(DiskCompletion {
        result: Err(DiskError::Unsupported),
        ..done(READ, b"")
    });
    live.next(at(5, 0), &WITH_DISK).expect("open");
    assert_eq!(kept.events(), [disk(READ, DiskOutcome::Unsupported)]);
}
