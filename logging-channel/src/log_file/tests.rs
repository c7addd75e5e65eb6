use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::identity::{BootChoices, Identity};
use crate::{Digest, Entry, Event, Position};

fn header() -> LogHeader {
    let identity = Identity {
        format_version: 1,
        clock: "exits".to_owned(),
        cpu_model: "model".to_owned(),
        memory_bytes: 1 << 20,
        command_line: String::new(),
        kernel: Digest::of(b"kernel"),
        boot: "auto".to_owned(),
        initrd: None,
        devices: vec![],
    };
    let boot = BootChoices {
        unix_time_s: 7,
        rng_seed: [1; 32],
    };
    LogHeader::new(identity, boot, Keeper::Record)
}

fn entry(seq: u64) -> Entry {
    // Hard to compress, so that rotation has something to count.
    let noise = |place: u64| blake3::hash(&(seq << 8 | place).to_le_bytes());
    Entry {
        seq,
        at: Position {
            exits: seq,
            instructions: 0,
        },
        event: Event::Frame {
            bytes: (0..8).flat_map(|place| *noise(place).as_bytes()).collect(),
        },
    }
}

/// A log of 100 entries in three segments or more.
fn write_log(path: &Path) {
    let options = LogOptions {
        rotate_bytes: Some(9000),
        images: vec![],
    };
    let mut writer = LogWriter::create(path, &header(), &options).unwrap();
    for seq in 1..=100 {
        writer.append(vec![entry(seq)]).unwrap();
        writer.flush().unwrap();
    }
}

/// The entries that can be read, and how that ended.
fn read(path: &Path) -> (u64, Result<(), LogError>) {
    let mut reader = match LogReader::open(path) {
        Ok(reader) => reader,
        Err(error) => return (0, Err(error)),
    };
    let mut count = 0;
    loop {
        match reader.next_batch() {
            Ok(Some(entries)) => {
                for found in entries {
                    count += 1;
                    assert_eq!(found, entry(count));
                }
            }
            Ok(None) => return (count, Ok(())),
            Err(error) => return (count, Err(error)),
        }
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn with_log() -> (Self, PathBuf) {
        let folder = Self(tempfile::tempdir().unwrap());
        let path = folder.0.path().join("log");
        write_log(&path);
        (folder, path)
    }
}

#[test]
fn a_log_reads_back_through_its_segments() {
    let (_folder, path) = Folder::with_log();
    assert!(segment_path(&path, 2).exists());
    let reader = LogReader::open(&path).unwrap();
    assert_eq!(reader.header().identity, header().identity);
    let (count, end) = read(&path);
    assert_eq!(count, 100);
    end.unwrap();
}

#[test]
fn progress_ends_at_the_total() {
    let (_folder, path) = Folder::with_log();
    let mut reader = LogReader::open(&path).unwrap();
    let mut before = reader.bytes_read();
    while reader.next_batch().unwrap().is_some() {
        assert!(reader.bytes_read() > before);
        before = reader.bytes_read();
    }
    assert_eq!(before, reader.total_bytes());
}

#[test]
fn a_new_log_leaves_nothing_of_the_old_one() {
    let (_folder, path) = Folder::with_log();
    let writer = LogWriter::create(&path, &header(), &LogOptions::default()).unwrap();
    assert!(!segment_path(&path, 1).exists());
    drop(writer);
    let (count, end) = read(&path);
    assert_eq!(count, 0);
    end.unwrap();
}

#[test]
fn what_is_no_log_is_not_removed() {
    let (_folder, path) = Folder::with_log();
    let other = segment_path(&path, 7);
    fs::write(&other, "somebody's notes").unwrap();
    let error = LogWriter::create(&path, &header(), &LogOptions::default()).unwrap_err();
    assert!(matches!(error, LogError::InTheWay { file } if file == other));
    assert!(segment_path(&path, 1).exists());
}
