//! The server is gone: killed and back, for too long, with an image that became shorter.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use vmm::{
    effect::DiskOperation,
    host::disk::{DiskError, DiskEvent, Grant, HostDisk},
};

use crate::{
    recorder::{Recorder, TIMEOUT, read, request, write},
    server::{FIRST, Server},
};

const ALONE: Grant = Grant::Alone { identity: FIRST };

fn is_back(event: &DiskEvent) -> bool {
    matches!(event, DiskEvent::Back { .. })
}

fn is_waiting(event: &DiskEvent) -> bool {
    matches!(event, DiskEvent::Waiting { .. })
}

#[test]
fn all_operations_reach_the_image() {
    let server = Server::start(64, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    assert_eq!(disk.sectors(), 64);
    disk.grant(ALONE).unwrap();
    disk.submit(write(0, 3, 9));
    let (sector, sectors) = (8, 8);
    disk.submit(request(1, DiskOperation::Discard { sector, sectors }));
    for (id, sector, unmap) in [(2, 16, true), (3, 20, false)] {
        let sectors = 2;
        let operation = DiskOperation::WriteZeroes {
            sector,
            sectors,
            unmap,
        };
        disk.submit(request(id, operation));
    }
    disk.settle();
    disk.submit(request(4, DiskOperation::Flush));
    let (sector, bytes) = (0, 64 * 512);
    disk.submit(request(5, DiskOperation::Read { sector, bytes }));
    for id in 0..5 {
        assert_eq!(recorder.ended(id), Ok(Vec::new()), "request {id}");
    }
    let byte = |sector| match sector {
        3 => 9,
        8..16 | 16..18 | 20..22 => 0,
        _ => 7,
    };
    let expected: Vec<u8> = (0..64).flat_map(|sector| [byte(sector); 512]).collect();
    assert_eq!(recorder.ended(5), Ok(expected.clone()));
    assert_eq!(server.image(), expected);
    assert_eq!(recorder.events(), []);
}

/// The server is killed in the middle of requests, again and again.
#[test]
fn killed_and_started_again_no_request_is_lost_or_completed_twice() {
    const ROUNDS: u64 = 8;
    const SECTORS: u64 = 128;
    let mut server = Server::start(SECTORS as usize, 0);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    disk.grant(ALONE).unwrap();
    // What each request reads, or writes.
    let mut expected = BTreeMap::new();
    let mut id = 0;
    for round in 1..=ROUNDS {
        let byte = round as u8;
        let mut submit = |sectors: std::ops::Range<u64>| {
            for sector in sectors {
                disk.submit(write(id, sector, byte));
                expected.insert(id, Vec::new());
                id += 1;
            }
        };
        submit(0..SECTORS / 2);
        server.kill();
        // Whether or not it has been noticed yet.
        submit(SECTORS / 2..SECTORS);
        server.start_again();
        disk.settle();
        for sector in 0..SECTORS {
            disk.submit(read(id, sector));
            expected.insert(id, vec![byte; 512]);
            id += 1;
        }
        disk.settle();
        assert_eq!(server.image(), vec![byte; SECTORS as usize * 512]);
    }
    for (id, data) in expected {
        assert_eq!(recorder.ended(id), Ok(data), "request {id}");
    }
    let events = recorder.events();
    let count = |like: fn(&DiskEvent) -> bool| events.iter().filter(|event| like(event)).count();
    assert_eq!(count(is_waiting), ROUNDS as usize, "{events:?}");
    assert_eq!(count(is_back), ROUNDS as usize, "{events:?}");
    assert_eq!(events.len(), 2 * ROUNDS as usize, "{events:?}");
}

#[test]
fn a_request_waits_for_as_long_as_the_server_is_away() {
    let mut server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    server.kill();
    recorder.event(is_waiting);
    disk.submit(read(0, 0));
    assert!(!recorder.has_ended(0));
    server.start_again();
    assert_eq!(recorder.ended(0), Ok(vec![7; 512]));
    recorder.event(is_back);
}

#[test]
fn a_server_gone_for_good_is_given_up_and_what_failed_is_not_done_later() {
    let give_up_after = Duration::from_secs(1);
    let mut server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(give_up_after, &recorder);
    disk.grant(ALONE).unwrap();
    server.kill();
    recorder.event(is_waiting);
    disk.submit(write(0, 0, 1));
    assert!(matches!(recorder.ended(0), Err(DiskError::Failed(_))));
    recorder.event(|event| matches!(event, DiskEvent::GivenUp { seconds: 1, .. }));
    // From now on there is no waiting.
    disk.submit(write(1, 1, 1));
    assert!(matches!(recorder.ended(1), Err(DiskError::Failed(_))));
    let other = Grant::Live {
        term: 9,
        identity: FIRST,
    };
    disk.grant(other).expect_err("a grant without a server");
    server.start_again();
    recorder.event(is_back);
    disk.submit(write(2, 2, 1));
    assert_eq!(recorder.ended(2), Ok(Vec::new()));
    disk.settle();
    let mut expected = vec![7; 8 * 512];
    expected[2 * 512..3 * 512].fill(1);
    assert_eq!(server.image(), expected);
}

/// A server that is stopped keeps its connections, and in them what it was asked.
#[test]
fn a_server_that_hangs_is_given_up_and_does_nothing_older_after_something_newer() {
    let server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(Duration::from_secs(1), &recorder);
    disk.grant(ALONE).unwrap();
    server.signal(Signal::STOP);
    disk.submit(write(0, 0, 1));
    assert!(matches!(recorder.ended(0), Err(DiskError::Failed(_))));
    recorder.event(|event| matches!(event, DiskEvent::GivenUp { .. }));
    server.signal(Signal::CONT);
    recorder.event(is_back);
    disk.submit(write(1, 0, 2));
    disk.submit(request(2, DiskOperation::Flush));
    disk.settle();
    assert_eq!(recorder.ended(1), Ok(Vec::new()));
    // Nothing of the older connection comes after this one's handshake.
    assert_eq!(server.image()[..512], [2; 512]);
}

#[test]
fn an_image_that_became_shorter_fails_what_lies_beyond_its_end_alone() {
    let mut server = Server::start(8, 7);
    let recorder = Recorder::new();
    let disk = server.open(TIMEOUT, &recorder);
    server.kill();
    let file = std::fs::File::options().write(true).open(server.path());
    file.unwrap().set_len(4 * 512).unwrap();
    disk.submit(read(0, 4));
    disk.submit(read(1, 3));
    server.start_again();
    assert_eq!(recorder.ended(1), Ok(vec![7; 512]));
    assert!(matches!(recorder.ended(0), Err(DiskError::Failed(_))));
    let event = recorder.event(|event| matches!(event, DiskEvent::Failed { .. }));
    let text = event.to_string();
    assert!(text.contains("shorter than promised"), "{text}");
    assert_eq!(disk.sectors(), 8);
}

#[test]
fn an_image_belongs_to_one_server() {
    let mut server = Server::start(8, 7);
    let output = server
        .command("127.0.0.1:0", "127.0.0.1:0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && text.contains("locked by another process"),
        "{text}"
    );
    assert!(server.stop().success());
    server.start_again();
}
