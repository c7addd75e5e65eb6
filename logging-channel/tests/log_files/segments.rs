//! Segments that are missing, or are another log's.

use std::fs;

use logging_channel::log_file::{LogError, LogHeader, LogReader, cut_torn_tail};

use crate::fixture::{Log, header};

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
    let entries: Vec<_> = crate::fixture::entries(50).split_off(39);
    let mut writer =
        logging_channel::log_file::LogWriter::create(&path, &later, &Default::default()).unwrap();
    writer.append(entries.clone()).unwrap();
    drop(writer);
    let (read, end) = crate::fixture::read(&path);
    end.unwrap();
    assert_eq!(read, entries);
}
