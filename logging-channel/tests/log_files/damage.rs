//! Damaged, rearranged and made-up bytes: an error, and never another entry.

use std::fs;
use std::sync::LazyLock;

use logging_channel::codec::{CodecError, HEADER_BYTES};
use logging_channel::log_file::{LogError, LogReader, cut_torn_tail};
use proptest::prelude::*;

use crate::fixture::{Log, Random, header, initrd, kernel, read};

#[test]
fn a_thousand_flipped_bits_are_found() {
    let log = Log::write(Some(4000));
    let whole = log.segments();
    let mut random = Random::new(2);
    for _ in 0..1000 {
        let number = random.below(whole.len() as u64) as usize;
        let byte = random.below(whole[number].len() as u64) as usize;
        let mut damaged = whole[number].clone();
        damaged[byte] ^= 1 << random.below(8);
        fs::write(log.segment(number as u32), &damaged).unwrap();
        let (_, end) = log.read();
        let error = end.expect_err("a flipped bit");
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
        let error = cut_torn_tail(&log.path()).expect_err("no cut helps");
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
        fs::write(log.segment(number as u32), &whole[number]).unwrap();
    }
    log.read().1.unwrap();
}

/// Where the frames of a file begin, and its end.
fn frame_places(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![0];
    while *places.last().unwrap() < bytes.len() {
        let at = *places.last().unwrap();
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        places.push(at + HEADER_BYTES + length as usize);
    }
    places
}

#[test]
fn frames_out_of_place_are_found() {
    let log = Log::write(None);
    let whole = log.segments().remove(0);
    let places = frame_places(&whole);
    assert_eq!(places.len(), log.frames.len() + 1);
    let frame = |number: usize| &whole[places[number]..places[number + 1]];
    let join = |order: &[usize]| {
        order
            .iter()
            .flat_map(|number| frame(*number))
            .copied()
            .collect()
    };
    let last = places.len() - 2;
    let orders: [Vec<usize>; 5] = [
        (0..=last).filter(|number| *number != 5).collect(),
        (0..=last)
            .flat_map(|number| vec![number; 1 + usize::from(number == 5)])
            .collect(),
        (0..=last)
            .map(|number| match number {
                5 => 6,
                6 => 5,
                other => other,
            })
            .collect(),
        (0..=last).chain([0]).collect(),
        (1..=last).collect(),
    ];
    for order in orders {
        log.put(&[join(&order)]);
        let (_, end) = log.read();
        let error = end.expect_err("a log with frames out of place");
        assert!(
            matches!(
                error,
                LogError::Damaged {
                    source: CodecError::PayloadChecksum,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_no_log_and_what_is_an_older_one_is_said() {
    let log = Log::write(None);
    log.put(&[[b"\x7fELF", &[0; 60][..]].concat()]);
    let error = LogReader::open(&log.path()).unwrap_err();
    let no_log = matches!(
        &error,
        LogError::Damaged {
            offset: 0,
            source: CodecError::Magic { .. },
            ..
        }
    );
    assert!(no_log, "{error:?}");

    // The beginning of every record of version 2.
    let mut old = b"LSTP\x02\x00\x00\x00".to_vec();
    old.extend([0x55; 100]);
    log.put(&[old]);
    let LogError::Damaged { source, .. } = LogReader::open(&log.path()).unwrap_err() else {
        panic!("an old record is refused by its version");
    };
    assert_eq!(
        source,
        CodecError::Version {
            found: 2,
            expected: 4
        }
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, bytes).unwrap();
        let (entries, end) = read(&path);
        prop_assert!(entries.is_empty() && end.is_err());
        prop_assert!(cut_torn_tail(&path).is_err());
    }

    /// What the checksums do not catch, the decompressor and the decoder must.
    #[test]
    fn changed_pieces_with_good_checksums_never_panic(
        frame: prop::sample::Index,
        at: prop::sample::Index,
        bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut file = WITH_IMAGES.clone();
        let places = frame_places(&file);
        let frame = frame.index(places.len() - 1);
        let piece = &mut file[places[frame] + HEADER_BYTES..places[frame + 1]];
        let at = at.index(piece.len());
        let end = piece.len().min(at + bytes.len());
        piece[at..end].copy_from_slice(&bytes[..end - at]);
        sign(&mut file);
        read_all(&file);
    }

    #[test]
    fn arbitrary_pieces_with_good_checksums_never_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
    ) {
        let mut file = WITH_IMAGES.clone();
        let header_end = frame_places(&file)[1];
        let frame_header = file[..HEADER_BYTES].to_vec();
        file.truncate(header_end);
        for piece in pieces {
            let start = file.len();
            file.extend(&frame_header);
            file.extend(&piece);
            file[start + 8..start + 12].copy_from_slice(&(piece.len() as u32).to_le_bytes());
        }
        sign(&mut file);
        read_all(&file);
    }
}

/// The file of a log with images.
static WITH_IMAGES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let log = Log::write_with(&header(), None, vec![kernel(), initrd()]);
    log.segments().remove(0)
});

/// Gives every frame of a file the checksums that its bytes should have.
fn sign(file: &mut [u8]) {
    let mut crc = 0_u32;
    for pair in frame_places(file).windows(2) {
        let frame = &mut file[pair[0]..pair[1]];
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        hasher.update(&frame[HEADER_BYTES..]);
        crc = hasher.finalize();
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        let header = crc32fast::hash(&frame[..16]);
        frame[16..20].copy_from_slice(&header.to_le_bytes());
    }
}

fn read_all(file: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, file).unwrap();
    drop(read(&path));
    drop(LogReader::open(&path).and_then(|reader| reader.images()));
}

#[test]
fn a_file_that_is_signed_again_is_the_same() {
    let file = WITH_IMAGES.clone();
    let mut signed = file.clone();
    sign(&mut signed);
    assert_eq!(signed, file);
}
