//! The black box: it delays nobody, and what it took in is in the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::thread;

use logging_channel::log_file::{KEEPER_QUEUE_BYTES, LogError, LogKeeper, LogOptions, LogWriter};

use crate::fixture::{entries, header, read};

#[test]
fn what_is_appended_is_in_the_file_when_it_is_closed_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let entries = entries(3000);
    for closes in [true, false] {
        let path = folder.path().join(format!("log-{closes}"));
        let options = LogOptions {
            rotate_bytes: Some(10_000),
            ..LogOptions::default()
        };
        let writer = LogWriter::create(&path, &header(), &options).unwrap();
        let keeper = LogKeeper::start(writer, vec![], KEEPER_QUEUE_BYTES).unwrap();
        for batch in entries.chunks(7) {
            keeper.append(batch.to_vec());
        }
        keeper.append(vec![]);
        if closes {
            keeper.flush_and_close().unwrap();
        } else {
            drop(keeper);
        }
        let (found, end) = read(&path);
        end.unwrap();
        assert_eq!(found, entries);
    }
}

#[test]
fn a_full_queue_ends_the_log_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let writer = LogWriter::create(&path, &header(), &LogOptions::default()).unwrap();
    let entries = entries(20);
    let keeper = LogKeeper::start(writer, vec![], 1000).unwrap();
    keeper.append(entries[..2].to_vec());
    // Never fits, however fast the thread is.
    keeper.append(entries[2..19].to_vec());
    keeper.append(entries[19..].to_vec());
    let error = keeper.take_error().expect("an error");
    assert!(
        matches!(error, LogError::TooSlow { first_lost: 3, .. }),
        "{error}"
    );
    assert!(keeper.take_error().is_none());
    keeper.flush_and_close().unwrap();
    let (found, end) = read(&path);
    end.unwrap();
    assert_eq!(found, entries[..2]);
}

/// A log in a pipe, and the pipe's other end.
fn log_in_a_pipe(path: &Path) -> (LogWriter, File) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let for_reader = path.to_owned();
    let reader = thread::spawn(move || File::open(for_reader).unwrap());
    let writer = LogWriter::create(path, &header(), &LogOptions::default()).unwrap();
    (writer, reader.join().unwrap())
}

/// A pipe that nobody empties is a disk that has stopped.
#[test]
fn a_stopped_disk_delays_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, mut pipe) = log_in_a_pipe(&folder.path().join("pipe"));
    let keeper = LogKeeper::start(writer, vec![], 4 << 20).unwrap();
    // Far more than a pipe holds and the queue may: this returns though nothing is read.
    let entries = entries(200_000);
    for batch in entries.chunks(1000) {
        keeper.append(batch.to_vec());
    }
    let error = keeper.take_error().expect("the queue is full");
    assert!(matches!(error, LogError::TooSlow { .. }), "{error}");
    let drain = thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    });
    keeper.flush_and_close().unwrap();
    let copy = folder.path().join("copy");
    std::fs::write(&copy, drain.join().unwrap()).unwrap();
    let (found, end) = read(&copy);
    end.unwrap();
    assert!(found.len() > 1000);
    assert_eq!(found, entries[..found.len()]);
}

#[test]
fn a_failed_write_ends_the_log_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, pipe) = log_in_a_pipe(&folder.path().join("pipe"));
    drop(pipe);
    let keeper = LogKeeper::start(writer, vec![], KEEPER_QUEUE_BYTES).unwrap();
    keeper.append(entries(10));
    let error = keeper.flush_and_close().unwrap_err();
    assert!(
        matches!(error, LogError::Io { doing: "write", .. }),
        "{error}"
    );
}

#[test]
fn a_writer_that_failed_writes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, pipe) = log_in_a_pipe(&folder.path().join("pipe"));
    drop(pipe);
    let entries = entries(10);
    writer.append(entries[..5].to_vec()).unwrap();
    assert!(matches!(writer.flush(), Err(LogError::Io { .. })));
    let ended = writer.append(entries[5..].to_vec());
    assert!(matches!(ended, Err(LogError::Ended { .. })));
    assert!(matches!(writer.flush(), Err(LogError::Ended { .. })));
}
