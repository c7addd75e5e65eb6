//! A log's segments: how long they are, which are missing or another log's, and what a new log does with old ones.

use std::fs;

use logging_channel::Event;
use logging_channel::codec::{CodecError, MAX_BATCH_BYTES};
use logging_channel::log_file::{
    LogError, LogHeader, LogOptions, LogReader, LogWriter, cut_torn_tail,
};

use crate::fixture::{Log, Random, entries, header, read};

#[test]
fn every_entry_comes_back_whatever_the_rotation() {
    for rotate_bytes in [
        None,
        Some(0),
        Some(1),
        Some(1000),
        Some(4000),
        Some(u64::MAX),
    ] {
        let log = Log::write(rotate_bytes);
        let (count, end) = log.read();
        end.unwrap();
        assert_eq!(count, 500, "{rotate_bytes:?}");
    }
}

#[test]
fn segments_are_about_as_long_as_asked() {
    let log = Log::write(Some(4000));
    let segments = log.segments();
    let (_, all_but_last) = segments.split_last().unwrap();
    assert!(
        all_but_last
            .iter()
            .all(|segment| (4000..5000).contains(&segment.len()))
    );
}

#[test]
fn a_missing_segment_is_named() {
    let log = Log::write(Some(4000));
    let last = log.segments().len() as u32 - 1;
    let lost = log.segment(last);
    let bytes = fs::read(&lost).unwrap();
    for missing in [last, 1] {
        fs::remove_file(log.segment(missing)).unwrap();
        let (count, end) = log.read();
        assert!(count > 0);
        let Err(LogError::MissingSegment { file, last_entry }) = end else {
            panic!("{end:?}");
        };
        assert_eq!((file, last_entry), (log.segment(missing), count as u64));
        assert!(cut_torn_tail(&log.path()).is_err());
        fs::write(&lost, &bytes).unwrap();
    }
}

/// The mark that another segment follows was cut off with the middle segment: the later one still shows.
#[test]
fn a_hole_before_a_later_segment_is_found_without_the_mark() {
    let log = Log::write(Some(4000));
    let mut segments = log.segments();
    fs::remove_file(log.segment(1)).unwrap();
    let mark = segments[0]
        .windows(4)
        .rposition(|four| four == b"LSLG")
        .unwrap();
    segments[0].truncate(mark);
    fs::write(log.path(), &segments[0]).unwrap();
    let (_, end) = log.read();
    assert!(
        matches!(end, Err(LogError::MissingSegment { .. })),
        "{end:?}"
    );
}

#[test]
fn another_logs_segment_is_refused() {
    let log = Log::write(Some(4000));
    let mut other_header = header();
    other_header.boot.rng_seed[0] ^= 1;
    let other = Log::write_with(&other_header, Some(4000), vec![]);
    fs::copy(other.segment(1), log.segment(1)).unwrap();
    let (_, end) = log.read();
    assert!(
        matches!(end, Err(LogError::ForeignSegment { .. })),
        "{end:?}"
    );

    let own = Log::write_with(&header(), Some(4000), vec![]);
    fs::copy(own.segment(2), own.segment(1)).unwrap();
    let (_, end) = own.read();
    assert!(
        matches!(end, Err(LogError::ForeignSegment { .. })),
        "{end:?}"
    );
}

#[test]
fn a_later_segment_is_not_the_beginning_of_a_log() {
    let log = Log::write(Some(4000));
    let error = LogReader::open(&log.segment(1)).unwrap_err().to_string();
    assert!(error.contains("segment 1"), "{error}");
}

#[test]
fn a_log_may_begin_later_than_its_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let later = LogHeader {
        first_seq: 40,
        ..header()
    };
    let entries = entries(50).split_off(39);
    let mut writer = LogWriter::create(&path, &later, &LogOptions::default()).unwrap();
    writer.append(entries.clone()).unwrap();
    drop(writer);
    let (found, end) = read(&path);
    end.unwrap();
    assert_eq!(found, entries);
}

#[test]
fn progress_ends_at_the_total() {
    let log = Log::write(Some(4000));
    let mut reader = LogReader::open(&log.path()).unwrap();
    assert_eq!(reader.total_bytes(), log.total_bytes());
    let mut before = 0;
    while reader.next_batch().unwrap().is_some() {
        assert!(reader.bytes_read() > before);
        before = reader.bytes_read();
    }
    assert_eq!(before, reader.total_bytes());
    let last = log.segments().len() - 1;
    let place = reader.place();
    assert_eq!(place.file, log.segment(last as u32));
    assert_eq!(place.offset, log.segments()[last].len() as u64);
}

#[test]
fn a_new_log_leaves_nothing_of_the_old_one() {
    let log = Log::write(Some(4000));
    fs::write(log.segment(7), b"LS").unwrap();
    drop(LogWriter::create(&log.path(), &header(), &LogOptions::default()).unwrap());
    assert_eq!(log.segments().len(), 1);
    assert!(!log.segment(7).exists());
    let (count, end) = log.read();
    end.unwrap();
    assert_eq!(count, 0);
}

#[test]
fn what_is_no_log_is_not_removed() {
    let log = Log::write(Some(4000));
    let segments = log.segments();
    let other = log.segment(7);
    fs::write(&other, "somebody's notes").unwrap();
    let error = LogWriter::create(&log.path(), &header(), &LogOptions::default()).unwrap_err();
    assert!(matches!(error, LogError::InTheWay { file } if file == other));
    assert_eq!(log.segments(), segments);
}

/// `log.1` of a log `log` is a segment, `log.01`, `log.1.txt` and `blog.1` are somebody's.
#[test]
fn similar_names_are_no_segments() {
    let log = Log::write(Some(4000));
    let folder = log.path().parent().unwrap().to_owned();
    let names = [
        "log.01",
        "log.+1",
        "log.0",
        "log.1.txt",
        "blog.99",
        "log.4294967296",
        "log.",
    ];
    for name in names {
        fs::write(folder.join(name), "somebody's notes").unwrap();
    }
    log.read().1.unwrap();
    drop(LogWriter::create(&log.path(), &header(), &LogOptions::default()).unwrap());
    for name in names {
        assert!(folder.join(name).exists(), "{name}");
    }
}

/// What compression cannot shorten still fits into a frame.
#[test]
fn the_largest_entry_of_noise_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut entry = entries(1).remove(0);
    let room = MAX_BATCH_BYTES as u64 - entry_bytes(&[]);
    let bytes = Random::new(6).bytes(room);
    assert_eq!(entry_bytes(&bytes), MAX_BATCH_BYTES as u64);
    entry.event = Event::Frame { bytes };
    let mut writer = LogWriter::create(&path, &header(), &LogOptions::default()).unwrap();
    writer.append(vec![entry.clone()]).unwrap();
    writer.flush().unwrap();
    let (found, end) = read(&path);
    end.unwrap();
    assert_eq!(found, [entry]);
}

/// Else nobody could read it again: compressed it is small enough.
#[test]
fn an_entry_above_the_limit_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut written = entries(2);
    let bytes = vec![0; MAX_BATCH_BYTES];
    written[1].event = Event::Frame { bytes };
    let mut writer = LogWriter::create(&path, &header(), &LogOptions::default()).unwrap();
    writer.append(vec![written.remove(0)]).unwrap();
    writer.append(written).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(
        matches!(error, LogError::Encode(CodecError::Oversized { .. })),
        "{error}"
    );
    drop(writer);
    let (found, end) = read(&path);
    end.unwrap();
    assert_eq!(found, entries(2)[..1]);
}

fn entry_bytes(bytes: &[u8]) -> u64 {
    let mut entry = entries(1).remove(0);
    entry.event = Event::Frame {
        bytes: bytes.to_vec(),
    };
    entry.size_bytes()
}
