use super::*;
use crate::codec::{CodecError, canonical_bytes, from_canonical_bytes};
use crate::{Digest, EndReason, OutputKind};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Batch(#[serde(with = "super")] Vec<Entry>);

fn at(exits: u64, instructions: u64) -> Position {
    Position {
        exits,
        instructions,
    }
}

fn encoded(entries: &[Entry]) -> Vec<u8> {
    let batch = Batch(entries.to_vec());
    let bytes = canonical_bytes(&batch);
    assert_eq!(from_canonical_bytes(&bytes), Ok(batch));
    bytes
}

fn number(value: u64) -> Vec<u8> {
    let bytes = canonical_bytes(&Varint(value));
    assert_eq!(from_canonical_bytes(&bytes), Ok(Varint(value)));
    bytes
}

#[test]
fn numbers_take_as_many_groups_of_seven_bits_as_they_need() {
    assert_eq!(number(0), [0]);
    assert_eq!(number(127), [0x7f]);
    assert_eq!(number(128), [0x80, 1]);
    assert_eq!(number(300), [0xac, 2]);
    for bits in 1..=64_u32 {
        let longest = u64::MAX >> (64 - bits);
        assert_eq!(
            number(longest).len() as u32,
            bits.div_ceil(7),
            "{bits} bits"
        );
    }
}

#[test]
fn every_number_has_one_form() {
    let eleven_groups = [[0x80; 10].as_slice(), &[1]].concat();
    let beyond_64_bits = [[0xff; 9].as_slice(), &[2]].concat();
    for bytes in [
        &[0x80, 0][..],
        &[0x81, 0x80, 0],
        &eleven_groups,
        &beyond_64_bits,
        &[0x80],
    ] {
        let number = from_canonical_bytes::<Varint>(bytes);
        assert!(
            matches!(number, Err(CodecError::Malformed(_))),
            "{bytes:?}: {number:?}"
        );
    }
}

#[test]
fn differences_lead_back_from_everywhere_and_short_ways_are_short() {
    let places = [
        0,
        1,
        2,
        63,
        1 << 32,
        u64::MAX / 2,
        u64::MAX / 2 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for base in places {
        for value in places {
            assert_eq!(Varint::difference(base, value).from(base), value);
        }
    }
    assert_eq!(Varint::difference(1000, 1063).0, 126);
    assert_eq!(Varint::difference(1000, 937).0, 125);
    assert_eq!(Varint::difference(u64::MAX, 0).0, 2);
}

/// The bytes that the documentation shows.
#[test]
fn a_small_batch_byte_by_byte() {
    let entry = |seq, at, event| Entry { seq, at, event };
    let bytes = encoded(&[
        entry(7, at(6297, 0), Event::Time { guest_ns: 1000 }),
        entry(8, at(6297, 0), Event::Interrupt { vector: 0x30 }),
        entry(9, at(6297, 5), Event::Step { limit: 16 }),
        entry(10, at(6298, 5), Event::Tick { guest_ns: 999 }),
    ]);
    let expected = [
        &[7, 4][..],
        &[0xb2, 0x62, 0, 0, 0xd0, 0x0f],
        &[0, 0, 2, 0x30],
        &[0, 10, 6, 16],
        &[2, 5, 1, 1],
    ];
    assert_eq!(bytes, expected.concat());
}

/// What one more entry adds to a batch: the log's budget.
#[test]
fn entries_are_small() {
    let digest = Digest([255; 16]);
    let millisecond = 5_000_000_000 + 1_000_000;
    let end = EndReason::TripleFault;
    let exits = [
        (
            Event::Time {
                guest_ns: 5_000_020_000,
            },
            6,
        ),
        (
            Event::Tick {
                guest_ns: millisecond,
            },
            6,
        ),
        (Event::Interrupt { vector: 0xef }, 4),
        (
            Event::Clock {
                guest_ns: millisecond,
                ps_per_instruction: 5_000,
            },
            9,
        ),
        (Event::Frame { bytes: vec![1; 60] }, 64),
        (Event::ConsoleInput { bytes: vec![b'x'] }, 5),
        (Event::Entropy { bytes: vec![1; 64] }, 68),
        (Event::Step { limit: 1000 }, 6),
        (
            Event::Output {
                kind: OutputKind::Frame,
                digest,
            },
            20,
        ),
        (Event::Digest { digest }, 19),
        (
            Event::End {
                reason: end,
                digest,
            },
            20,
        ),
    ];
    let first = Entry {
        seq: 1,
        at: at(1_000_000, 0),
        event: Event::Tick {
            guest_ns: 5_000_000_000,
        },
    };
    let added = |at, event: &Event| {
        let event = event.clone();
        let second = Entry { seq: 2, at, event };
        encoded(&[first.clone(), second]).len() - encoded(std::slice::from_ref(&first)).len()
    };
    for (event, most) in &exits {
        let bytes = added(at(1_000_003, 0), event);
        assert!(
            bytes <= *most,
            "{event:?} takes {bytes} bytes, should be {most}"
        );
    }
    // Where the clock counts instructions, the count since the exit comes with it.
    for (event, most) in &exits[..3] {
        let bytes = added(at(1_000_001, 16_000), event);
        assert!(bytes <= *most + 2, "{event:?} takes {bytes} bytes");
        assert!(bytes <= 8, "{event:?} takes {bytes} bytes");
    }
}

#[test]
fn a_batch_above_its_limit_is_not_decoded() {
    let entry = |seq| Entry {
        seq,
        at: Position::default(),
        event: Event::Interrupt { vector: 32 },
    };
    let fit = MAX_BATCH_BYTES as u64 / entry(1).size_bytes();
    let batch = |count| canonical_bytes(&Batch((1..=count).map(entry).collect()));
    let full: Batch = from_canonical_bytes(&batch(fit)).unwrap();
    assert_eq!(full.0.len() as u64, fit);
    let error = from_canonical_bytes::<Batch>(&batch(fit + 1)).unwrap_err();
    assert!(error.to_string().contains("too many entries"), "{error}");
}

#[test]
fn sequence_numbers_end_at_64_bits() {
    let mut bytes = vec![253];
    bytes.extend([0xff; 8]);
    let interrupt = [0, 0, 2, 32];
    let one = [&bytes[..], &[1], &interrupt].concat();
    let last: Batch = from_canonical_bytes(&one).unwrap();
    assert_eq!(last.0[0].seq, u64::MAX);
    let two = [&bytes[..], &[2], &interrupt, &interrupt].concat();
    let error = from_canonical_bytes::<Batch>(&two).unwrap_err();
    assert!(error.to_string().contains("beyond 64 bits"), "{error}");
}
