//! Who gives which request to a disk, on a disk that only remembers.

use std::sync::Mutex;

use logging_channel::{DiskOutcome, Entry, Event, OutputKind, Position};

use super::*;
use crate::{
    effect::Effect,
    host::disk::DiskError,
    inputs::{
        InputError, Inputs, Next,
        logged::LogSource,
        recorder::Recorder,
        test_situation::{COMPUTING, READ, Seen, WRITE, disk_requests},
    },
    session::{
        feed::{Feed, LogFeed},
        go_live::BackupInputs,
        pipe::{LogPipe, PipeRecorder},
    },
};

#[derive(Clone, Default)]
struct Remembering(Arc<Mutex<Vec<DiskRequest>>>);

impl Remembering {
    /// The numbers of the requests that were submitted.
    fn ids(&self) -> Vec<u64> {
        let submitted = self.0.lock().expect("no panic");
        submitted.iter().map(|request| request.id).collect()
    }
}

impl HostDisk for Remembering {
    fn sectors(&self) -> u64 {
        64
    }

    fn submit(&self, request: DiskRequest) {
        self.0.lock().expect("no panic").push(request);
    }

    fn grant(&self, _grant: Grant) -> Result<(), String> {
        Ok(())
    }

    fn settle(&self) {}
}

fn disks(apart: Apart) -> (Arc<Disks>, Remembering) {
    let remembering = Remembering::default();
    let disk = Disk {
        host: Box::new(remembering.clone()),
        apart,
        read_only: false,
    };
    let sink = Arc::clone(&Disks::none().sink);
    let disks = Disks::new(vec![disk], Copies::default(), sink);
    (disks, remembering)
}

fn output(seq: u64, request: DiskRequest) -> (Entry, Effect) {
    let effect = Effect::Disk(request);
    let event = Event::Output {
        kind: effect.kind(),
        digest: effect.digest(),
    };
    let at = Position::default();
    (Entry { seq, at, event }, effect)
}

fn read() -> DiskRequest {
    disk_requests()[0].clone()
}

fn write() -> DiskRequest {
    disk_requests()[1].clone()
}

const WITH_DISK: Seen = Seen {
    disk_requests,
    ..COMPUTING
};

const EVERYTHING: [Apart; 3] = [Apart::Nothing, Apart::Reads, Apart::Everything];

#[test]
fn a_live_replica_reads_at_once_and_changes_only_its_own_copy_at_once() {
    for apart in EVERYTHING {
        let (disks, remembering) = disks(apart);
        let pipe = LogPipe::new();
        let mut recorder = PipeRecorder::new(Arc::clone(&pipe), disks);
        for (seq, request) in [(1, read()), (2, write())] {
            let (entry, effect) = output(seq, request);
            recorder.record(entry, Some(effect)).expect("there is room");
        }
        let at_once = match apart {
            Apart::Everything => vec![READ, WRITE],
            Apart::Nothing | Apart::Reads => vec![READ],
        };
        assert_eq!(remembering.ids(), at_once);
        // Whoever keeps account hears of all of them.
        assert_eq!(pipe.take().outputs.len(), 2);
    }
}

#[test]
fn a_read_alone_has_nothing_sent() {
    let (disks, _) = disks(Apart::Nothing);
    let pipe = LogPipe::new();
    let mut recorder = PipeRecorder::new(Arc::clone(&pipe), disks);
    let (entry, effect) = output(1, read());
    assert!(matches!(
        entry.event,
        Event::Output {
            kind: OutputKind::DiskRead,
            ..
        }
    ));
    recorder.record(entry, Some(effect)).expect("there is room");
    assert!(!pipe.take().urgent);
    let (entry, effect) = output(2, write());
    recorder.record(entry, Some(effect)).expect("there is room");
    assert!(pipe.take().urgent);
}

#[test]
fn a_replay_does_what_each_replica_does_for_itself_and_keeps_no_disk_output() {
    for apart in EVERYTHING {
        let (disks, remembering) = disks(apart);
        let feed = LogFeed::new();
        let mut source = Feed::new(Arc::clone(&feed), disks);
        source.replayed(1, Some(Effect::Disk(read())));
        source.replayed(2, Some(Effect::Disk(write())));
        let itself = match apart {
            Apart::Nothing => vec![],
            Apart::Reads => vec![READ],
            Apart::Everything => vec![READ, WRITE],
        };
        assert_eq!(remembering.ids(), itself);
        assert_eq!(feed.take_kept(), []);
    }
}

#[test]
fn a_replicas_own_read_is_tried_until_it_succeeds() {
    let (disks, remembering) = disks(Apart::Reads);
    let inbox = disks.inbox();
    let mut source = Feed::new(LogFeed::new(), disks);
    source.replayed(1, Some(Effect::Disk(read())));
    let failed = || DiskError::Failed("not yet".to_owned());
    for result in [Err(failed()), Err(failed()), Ok(b"sector".to_vec())] {
        inbox.put_disk(DiskCompletion {
            disk: 0,
            request: READ,
            result,
        });
    }
    let read = source.done_apart(0, READ).expect("the third try");
    assert_eq!(read, b"sector");
    assert_eq!(remembering.ids(), [READ, READ, READ]);
}

#[test]
fn a_copy_that_does_not_do_what_the_other_did_is_of_no_use() {
    let (disks, _) = disks(Apart::Everything);
    let inbox = disks.inbox();
    let mut source = Feed::new(LogFeed::new(), disks);
    source.replayed(1, Some(Effect::Disk(write())));
    inbox.put_disk(DiskCompletion {
        disk: 0,
        request: WRITE,
        result: Err(DiskError::Failed("no space".to_owned())),
    });
    let error = source.done_apart(0, WRITE);
    assert!(matches!(error, Err(InputError::Disk(_))), "{error:?}");
}

#[test]
fn what_the_log_tells_of_a_replicas_own_request_makes_its_own_end_unwanted() {
    let (disks, _) = disks(Apart::Reads);
    let inbox = disks.inbox();
    let mut source = Feed::new(LogFeed::new(), disks);
    source.replayed(1, Some(Effect::Disk(read())));
    source.told(0, READ).expect("a read changes nothing");
    inbox.put_disk(DiskCompletion {
        disk: 0,
        request: READ,
        result: Ok(vec![]),
    });
    assert!(!inbox.has_disk());
}

#[test]
fn copies_of_which_one_was_not_changed_are_alike_no_more() {
    let (disks, _) = disks(Apart::Everything);
    let mut source = Feed::new(LogFeed::new(), disks);
    source.replayed(1, Some(Effect::Disk(write())));
    let error = source.told(0, WRITE);
    assert!(matches!(error, Err(InputError::Disk(_))), "{error:?}");
}

/// Inputs of a backup whose log is used up and whose primary is gone.
fn going_live(apart: Apart) -> (BackupInputs, Remembering) {
    let (disks, remembering) = disks(apart);
    let feed = LogFeed::new();
    let inputs = BackupInputs::new(Arc::clone(&feed), disks, LogPipe::new());
    feed.drain();
    feed.go_live();
    (inputs, remembering)
}

#[test]
fn going_live_issues_again_what_nobody_here_has_issued() {
    for apart in EVERYTHING {
        let (mut inputs, remembering) = going_live(apart);
        let next = inputs.next(Position::default(), &WITH_DISK).expect("live");
        assert!(matches!(next, Next::Run(_)), "{next:?}");
        let again = match apart {
            Apart::Nothing => vec![READ, WRITE],
            Apart::Reads => vec![WRITE],
            Apart::Everything => vec![],
        };
        assert_eq!(remembering.ids(), again);
        // Once only.
        inputs.next(Position::default(), &WITH_DISK).expect("live");
        assert_eq!(remembering.ids(), again);
    }
}

#[test]
fn what_is_issued_while_going_live_is_not_issued_twice() {
    let (mut inputs, remembering) = going_live(Apart::Nothing);
    // The log ended between two outputs of an exit: the second one is live already.
    let effect = Effect::Disk(read());
    inputs.output(Position::default(), effect).expect("live");
    inputs.next(Position::default(), &WITH_DISK).expect("live");
    assert_eq!(remembering.ids(), [READ, WRITE]);
}

#[test]
fn a_request_that_ended_in_the_log_is_not_issued_again() {
    let (disks, remembering) = disks(Apart::Nothing);
    let feed = LogFeed::new();
    let mut inputs = BackupInputs::new(Arc::clone(&feed), disks, LogPipe::new());
    let outcome = DiskOutcome::Failed;
    feed.deliver(vec![Entry {
        seq: 1,
        at: Position::default(),
        event: Event::Disk {
            disk: 0,
            request: READ,
            outcome,
        },
    }]);
    feed.drain();
    feed.go_live();
    let next = inputs
        .next(Position::default(), &WITH_DISK)
        .expect("an entry");
    assert!(matches!(next, Next::Apply(_)), "{next:?}");
    let left = Seen {
        disk_requests: || vec![write()],
        ..COMPUTING
    };
    inputs.next(Position::default(), &left).expect("live");
    assert_eq!(remembering.ids(), [WRITE]);
}
