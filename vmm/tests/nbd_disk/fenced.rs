//! Who may write, as the client sees it.

use vmm::host::disk::{DiskError, DiskEvent, Grant, HostDisk};

use crate::{
    recorder::{Recorder, TIMEOUT, read, write},
    server::{FIRST, SECOND, Server},
};

#[test]
fn without_a_grant_a_write_fails_and_a_read_does_not() {
    let server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    disk.submit(write(0, 0, 1));
    disk.submit(read(1, 0));
    assert!(matches!(recorder.ended(0), Err(DiskError::Failed(_))));
    assert_eq!(recorder.ended(1), Ok(vec![7; 512]));
    assert_eq!(server.image(), vec![7; 8 * 512]);
}

#[test]
fn the_winner_writes_and_is_cut_off_by_the_next() {
    let server = Server::start(8, 7);
    let (primary, backup) = (Recorder::new(), Recorder::new());
    let identity = FIRST;
    let old = server.open(TIMEOUT, &primary);
    let term = server.win(identity);
    old.grant(Grant::Live { term, identity }).unwrap();
    // Once more, and nothing changes.
    old.grant(Grant::Live { term, identity }).unwrap();
    old.submit(write(0, 0, 1));
    assert_eq!(primary.ended(0), Ok(Vec::new()));

    let new = server.open(TIMEOUT, &backup);
    let next = server.win(SECOND);
    old.submit(write(1, 1, 1));
    let event = primary.event(|event| matches!(event, DiskEvent::CutOff { .. }));
    assert!(matches!(event, DiskEvent::CutOff { term, .. } if term == next));
    old.submit(write(2, 2, 1));
    // Although two requests will never be answered.
    old.settle();
    let error = old.grant(Grant::Live { term, identity }).unwrap_err();
    assert!(error.contains("cut off"), "{error}");
    assert!(!primary.has_ended(1) && !primary.has_ended(2));
    let cut = |event: &&DiskEvent| matches!(event, DiskEvent::CutOff { .. });
    assert_eq!(primary.events().iter().filter(cut).count(), 1);

    let (term, identity) = (next, SECOND);
    new.grant(Grant::Live { term, identity }).unwrap();
    new.submit(write(0, 3, 2));
    assert_eq!(backup.ended(0), Ok(Vec::new()));
    let mut expected = vec![7; 8 * 512];
    expected[..512].fill(1);
    expected[3 * 512..4 * 512].fill(2);
    assert_eq!(server.image(), expected);
}

#[test]
fn a_grant_of_another_term_is_refused_in_words_and_reads_go_on() {
    let server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    server.win(SECOND);
    let (term, identity) = (1, FIRST);
    let error = disk.grant(Grant::Live { term, identity }).unwrap_err();
    assert!(error.contains("term 1"), "{error}");
    disk.submit(read(0, 0));
    assert_eq!(recorder.ended(0), Ok(vec![7; 512]));
    assert_eq!(recorder.events(), []);
}

#[test]
fn a_machine_alone_writes_all_its_disks_also_after_the_server_was_killed() {
    let mut server = Server::start(8, 7);
    let (one, other) = (Recorder::new(), Recorder::new());
    let identity = FIRST;
    let disk = server.open(TIMEOUT, &one);
    disk.grant(Grant::Alone { identity }).unwrap();
    disk.submit(write(0, 0, 1));
    assert_eq!(one.ended(0), Ok(Vec::new()));
    server.kill();
    one.event(|event| matches!(event, DiskEvent::Waiting { .. }));
    server.start_again();
    disk.submit(write(1, 1, 1));
    assert_eq!(one.ended(1), Ok(Vec::new()));

    // Another machine takes over, and the first one is told so.
    let disk_of_other = server.open(TIMEOUT, &other);
    let identity = SECOND;
    disk_of_other.grant(Grant::Alone { identity }).unwrap();
    one.event(|event| matches!(event, DiskEvent::CutOff { term: 2, .. }));
    disk_of_other.submit(write(0, 2, 2));
    assert_eq!(other.ended(0), Ok(Vec::new()));
}

#[test]
fn what_is_under_way_survives_a_grant() {
    const READS: u64 = 500;
    let server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    for id in 0..READS {
        disk.submit(read(id, id % 8));
    }
    disk.grant(Grant::Alone { identity: FIRST }).unwrap();
    disk.settle();
    for id in 0..READS {
        assert_eq!(recorder.ended(id), Ok(vec![7; 512]));
    }
    assert_eq!(recorder.events(), []);
}
