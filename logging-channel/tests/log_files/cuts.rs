//! A log that was cut anywhere gives all before the cut, says that it is torn, and can be cut to a whole one.

use logging_channel::log_file::{LogError, cut_torn_tail};

use crate::fixture::{Log, Random};

/// The segments as a keeper leaves them that was killed when it had written this many bytes.
fn cut(segments: &[Vec<u8>], mut bytes: usize) -> Vec<Vec<u8>> {
    let mut left = Vec::new();
    for segment in segments {
        let length = segment.len().min(bytes);
        left.push(segment[..length].to_vec());
        bytes -= length;
        if bytes == 0 {
            break;
        }
    }
    left
}

/// A frame's header, a mark's payload: where a segment ends, its mark says that another follows.
fn check_cut(log: &Log, whole: &[Vec<u8>], bytes: usize) {
    log.put(&cut(whole, bytes));
    let readable = log
        .frames
        .iter()
        .rev()
        .find(|(end, _)| *end <= bytes as u64);
    let (count, end) = log.read();
    assert_eq!(
        count,
        readable.map_or(0, |(_, entries)| *entries),
        "cut at byte {bytes}"
    );
    match end {
        Ok(()) => assert_eq!(cut_torn_tail(&log.path()).unwrap(), None),
        Err(LogError::Torn {
            bytes: torn,
            last_entry,
            ..
        }) => {
            assert_eq!(last_entry, count as u64);
            let cut = cut_torn_tail(&log.path()).unwrap().expect("it is torn");
            assert_eq!((cut.bytes, cut.last_entry), (torn, last_entry));
            let (left, end) = log.read();
            end.unwrap_or_else(|error| panic!("cut at byte {bytes}, then cut off: {error}"));
            assert_eq!(left, count);
            assert_eq!(cut_torn_tail(&log.path()).unwrap(), None);
        }
        // No keeper leaves that: the next segment is there before the mark that it is.
        Err(LogError::MissingSegment { .. }) => {
            let mut boundary = 0;
            assert!(whole.iter().any(|segment| {
                boundary += segment.len();
                boundary == bytes
            }));
        }
        Err(LogError::NoHeader { .. }) => {
            assert!((bytes as u64) < log.frames[0].0);
            assert!(matches!(
                cut_torn_tail(&log.path()),
                Err(LogError::NoHeader { .. })
            ));
        }
        Err(error) => panic!("cut at byte {bytes}: {error}"),
    }
}

#[test]
fn a_thousand_random_cuts_lose_nothing_before_them() {
    let log = Log::write(Some(4000));
    let whole = log.segments();
    assert!(whole.len() > 2, "{} segments", whole.len());
    let total: usize = whole.iter().map(Vec::len).sum();
    let mut random = Random::new(1);
    for _ in 0..1000 {
        check_cut(&log, &whole, random.below(total as u64) as usize);
    }
}

#[test]
fn so_does_a_cut_at_each_byte_around_the_first_rotation() {
    let log = Log::write(Some(4000));
    let whole = log.segments();
    let rotation = whole[0].len();
    for bytes in rotation - 60..rotation + 500 {
        check_cut(&log, &whole, bytes);
    }
}

#[test]
fn so_does_a_cut_at_each_byte_of_the_first_header() {
    let log = Log::write(None);
    let whole = log.segments();
    for bytes in 0..log.frames[2].0 as usize {
        check_cut(&log, &whole, bytes);
    }
}

/// The next segment is begun before the mark that it is there: each state between.
#[test]
fn a_keeper_killed_while_it_goes_on_to_the_next_segment_leaves_a_good_log() {
    let log = Log::write(Some(4000));
    let whole = log.segments();
    // The mark: a frame header, and a byte that compresses to a block.
    let mark = whole[0].len()
        - whole[0]
            .windows(4)
            .rev()
            .position(|four| four == b"LSLG")
            .unwrap()
        - 4;
    let header_bytes = 20 + u32::from_le_bytes(whole[1][8..12].try_into().unwrap()) as usize;
    let entries = log
        .frames
        .iter()
        .rev()
        .find(|(end, _)| *end <= mark as u64)
        .unwrap()
        .1;
    for header in [0, 1, 19, 20, header_bytes - 1] {
        log.put(&[whole[0][..mark].to_vec(), whole[1][..header].to_vec()]);
        let (count, end) = log.read();
        assert_eq!(count, entries);
        assert!(matches!(end, Err(LogError::Torn { .. })), "{end:?}");
        assert!(cut_torn_tail(&log.path()).unwrap().is_some());
        assert_eq!(log.segments(), [&whole[0][..mark]]);
    }
    for part in 0..=whole[0].len() - mark {
        log.put(&[
            whole[0][..mark + part].to_vec(),
            whole[1][..header_bytes].to_vec(),
        ]);
        let (count, end) = log.read();
        assert_eq!(count, entries);
        let whole_mark = part == 0 || mark + part == whole[0].len();
        assert_eq!(end.is_ok(), whole_mark, "{end:?}");
        assert_eq!(cut_torn_tail(&log.path()).unwrap().is_some(), !whole_mark);
        log.read().1.unwrap();
    }
}

#[test]
fn a_torn_segment_before_others_is_damage_and_stays() {
    let log = Log::write(Some(4000));
    let mut segments = log.segments();
    let length = segments[0].len();
    segments[0].truncate(length - 100);
    log.put(&segments);
    let error = cut_torn_tail(&log.path()).unwrap_err();
    assert!(matches!(error, LogError::Unexpected { .. }), "{error}");
    assert_eq!(log.segments(), segments);
}
