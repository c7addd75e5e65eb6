use proptest::prelude::*;

use super::*;
use crate::entry::{Digest, DiskOutcome, EndReason, Event, OutputKind, PageRange, Position};
use crate::identity::{BootChoices, Identity, Mismatch};
use crate::protocol::{Heartbeat, Role};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 16]>().prop_map(Digest)
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let range = any::<(u64, u32)>().prop_map(|(first, count)| PageRange { first, count });
    let ranges = prop::collection::vec(range, 0..20);
    prop_oneof![
        any::<u64>().prop_map(|guest_ns| Event::Time { guest_ns }),
        any::<u64>().prop_map(|guest_ns| Event::Tick { guest_ns }),
        any::<u8>().prop_map(|vector| Event::Interrupt { vector }),
        bytes().prop_map(|bytes| Event::Frame { bytes }),
        bytes().prop_map(|bytes| Event::ConsoleInput { bytes }),
        bytes().prop_map(|bytes| Event::Entropy { bytes }),
        Just(Event::Step { limit: 16 }),
        (0..4_usize, digest()).prop_map(|(kind, digest)| Event::Output {
            kind: [
                OutputKind::Frame,
                OutputKind::Console,
                OutputKind::Disk,
                OutputKind::DiskRead,
            ][kind],
            digest,
        }),
        (any::<(u8, u64, u32)>(), 0..4, bytes()).prop_map(
            |((disk, request, checksum), outcome, bytes)| Event::Disk {
                disk,
                request,
                outcome: match outcome {
                    0 => DiskOutcome::Done {
                        bytes: bytes.into()
                    },
                    1 => DiskOutcome::DoneApart { checksum },
                    2 => DiskOutcome::Failed,
                    _ => DiskOutcome::Unsupported,
                },
            }
        ),
        digest().prop_map(|digest| Event::Digest { digest }),
        (0..3, digest()).prop_map(|(reason, digest)| Event::End {
            reason: [EndReason::Reset, EndReason::Halted, EndReason::TripleFault][reason as usize],
            digest,
        }),
        any::<(u64, u32)>().prop_map(|(guest_ns, ps_per_instruction)| Event::Clock {
            guest_ns,
            ps_per_instruction,
        }),
        (any::<u32>(), ranges, bytes()).prop_map(|(part, ranges, bytes)| Event::Pages {
            part,
            ranges,
            bytes,
        }),
        (any::<u32>(), bytes()).prop_map(|(parts, bytes)| Event::State { parts, bytes }),
    ]
}

/// Positions that stay, go on a little, or are anywhere.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let number = || prop_oneof![0..3_u64, 0..5000_u64, any::<u64>()];
    let place = (number(), number(), event());
    (1..u64::MAX / 2, prop::collection::vec(place, 0..40)).prop_map(|(first, places)| {
        let entry = |(seq, (exits, instructions, event))| Entry {
            seq,
            at: Position {
                exits,
                instructions,
            },
            event,
        };
        (first..).zip(places).map(entry).collect()
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    (
        any::<(u32, u64)>(),
        (".{0,20}", ".{0,20}", ".{0,200}", ".{0,10}"),
        (digest(), prop::option::of(digest())),
        prop::collection::vec(".{0,30}", 0..5),
    )
        .prop_map(|(numbers, texts, digests, devices)| Identity {
            format_version: numbers.0,
            clock: texts.0,
            cpu_model: texts.1,
            memory_bytes: numbers.1,
            command_line: texts.2,
            kernel: digests.0,
            boot: texts.3,
            initrd: digests.1,
            devices,
        })
}

fn message() -> impl Strategy<Value = Message> {
    let boot = any::<(u64, [u8; 32])>().prop_map(|(unix_time_s, rng_seed)| BootChoices {
        unix_time_s,
        rng_seed,
    });
    let mismatch =
        (".{0,20}", ".{0,20}", ".{0,20}").prop_map(|(field, primary, backup)| Mismatch {
            field,
            primary,
            backup,
        });
    prop_oneof![
        (identity(), boot, any::<(u64, u64, u64)>()).prop_map(
            |(identity, boot, (term, session, failure_timeout_ms))| Message::Hello {
                identity,
                boot,
                term,
                session,
                failure_timeout_ms,
            }
        ),
        Just(Message::Welcome),
        (prop::collection::vec(mismatch, 0..5), ".{0,100}")
            .prop_map(|(mismatches, reason)| Message::Refuse { mismatches, reason }),
        (entries(), any::<u64>()).prop_map(|(entries, released_through)| Message::Entries {
            entries,
            released_through,
        }),
        any::<(u64, u64)>().prop_map(|(received, executed)| Message::Ack { received, executed }),
        Just(Message::Goodbye),
        ".{0,40}".prop_map(|description| Message::Diverged { description }),
    ]
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    any::<(bool, u64, u64, u64, u64)>().prop_map(|(primary, term, counter, heard, session)| {
        Heartbeat {
            role: if primary { Role::Primary } else { Role::Backup },
            term,
            counter,
            heard,
            session,
        }
    })
}

/// Every message of `bytes`, and the error they end with, if any.
fn decode_all(bytes: &[u8]) -> (Vec<Message>, Option<CodecError>) {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let mut messages = Vec::new();
    loop {
        match decoder.pull() {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

fn sample_frame() -> Vec<u8> {
    encode_message(&Message::Ack {
        received: 300,
        executed: 2,
    })
    .unwrap()
}

/// A frame with a good header and good checksums around any payload.
fn frame_around(payload: &[u8]) -> Vec<u8> {
    let mut frame = sample_frame();
    frame.truncate(HEADER_BYTES);
    frame[8..12].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame[12..16].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    sign_header(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

fn sign_header(frame: &mut [u8]) {
    let crc = crc32fast::hash(&frame[..16]);
    frame[16..20].copy_from_slice(&crc.to_le_bytes());
}

proptest! {
    #[test]
    fn messages_survive_the_wire_in_any_pieces(
        messages in prop::collection::vec(message(), 0..6),
        piece in 1_usize..300,
    ) {
        let mut decoder = Decoder::new();
        let mut decoded = Vec::new();
        let bytes: Vec<u8> = messages.iter().flat_map(|m| encode_message(m).unwrap()).collect();
        for chunk in bytes.chunks(piece) {
            decoder.push(chunk);
            while let Some(message) = decoder.pull().unwrap() {
                decoded.push(message);
            }
        }
        prop_assert_eq!(decoded, messages);
        prop_assert_eq!(decoder.unread_bytes(), 0);
        prop_assert_eq!(decoder.position(), bytes.len() as u64);
    }

    #[test]
    fn any_flipped_bit_is_found(message in message(), at: prop::sample::Index) {
        let mut bytes = encode_message(&message).unwrap();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (messages, error) = decode_all(&bytes);
        prop_assert!(messages.is_empty());
        prop_assert!(error.is_some());
    }

    #[test]
    fn a_truncated_frame_is_waited_for(message in message(), at: prop::sample::Index) {
        let bytes = encode_message(&message).unwrap();
        let (messages, error) = decode_all(&bytes[..at.index(bytes.len())]);
        prop_assert!(messages.is_empty());
        prop_assert_eq!(error, None);
    }

    #[test]
    fn random_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 20..2000)) {
        let (messages, error) = decode_all(&bytes);
        prop_assert!(messages.is_empty());
        prop_assert!(error.is_some());
    }

    #[test]
    fn random_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode_all(&frame_around(&payload));
    }

    #[test]
    fn damaged_payloads_with_good_checksums_never_panic(
        message in message(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut payload = encode_message(&message).unwrap().split_off(HEADER_BYTES);
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = decode_all(&frame_around(&payload));
    }

    #[test]
    fn bytes_in_one_piece_have_the_form_of_bytes_one_by_one(
        bytes in prop::collection::vec(any::<u8>(), 0..70_000),
    ) {
        let one_by_one = canonical_bytes(&bytes);
        let frame = Event::Frame { bytes: bytes.clone() };
        let encoded = canonical_bytes(&frame);
        prop_assert_eq!(&encoded[1..], &one_by_one[..]);
        prop_assert_eq!(from_canonical_bytes::<Event>(&encoded), Ok(frame));
        let read = DiskOutcome::Done { bytes: bytes.into() };
        let encoded = canonical_bytes(&read);
        prop_assert_eq!(&encoded[1..], &one_by_one[..]);
        prop_assert_eq!(from_canonical_bytes::<DiskOutcome>(&encoded), Ok(read));
    }

    #[test]
    fn random_batches_never_panic_and_decode_in_sequence(
        payload in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let (messages, _) = decode_all(&frame_around(&[&[ENTRIES_TAG][..], &payload].concat()));
        for message in messages {
            let Message::Entries { entries, .. } = message else { panic!("{message:?}") };
            prop_assert_eq!(check_sequence(&entries), Ok(()));
        }
    }

    #[test]
    fn size_bytes_is_an_upper_bound(entries in entries()) {
        let sum: u64 = entries.iter().map(Entry::size_bytes).sum();
        let frame = encode_message(&Message::Entries { entries, released_through: u64::MAX });
        prop_assert!(frame.unwrap().len() as u64 <= sum + 64);
    }

    #[test]
    fn heartbeats_survive_the_wire_and_damage_is_found(
        heartbeat in heartbeat(),
        at: prop::sample::Index,
    ) {
        let mut bytes = encode_heartbeat(&heartbeat);
        prop_assert_eq!(decode_heartbeat(&bytes), Ok(heartbeat));
        prop_assert!(decode_heartbeat(&bytes[..at.index(bytes.len())]).is_err());
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode_heartbeat(&bytes).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_found() {
    let frame = sample_frame();
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (messages, error) = decode_all(&damaged);
        assert!(messages.is_empty() && error.is_some(), "bit {bit}");
    }
}

#[test]
fn each_fault_has_its_own_error() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(Damage, CodecError); 7] = [
        (|f| f[0] = b'X', CodecError::Magic { found: *b"XSTP" }),
        (
            |f| f[4] = 9,
            CodecError::Version {
                found: 9,
                expected: 4,
            },
        ),
        (|f| f[9] ^= 1, CodecError::HeaderChecksum),
        (
            |f| {
                f[7] = 0x80;
                sign_header(f);
            },
            CodecError::Flags { found: 0x8000 },
        ),
        (
            |f| {
                f[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
                sign_header(f);
            },
            CodecError::TooLong {
                bytes: u64::from(u32::MAX),
                limit: MAX_PAYLOAD_BYTES,
            },
        ),
        (|f| *f.last_mut().unwrap() ^= 1, CodecError::PayloadChecksum),
        (
            |f| {
                let mut payload = f.split_off(HEADER_BYTES);
                payload.extend([0, 0]);
                *f = frame_around(&payload);
            },
            CodecError::TrailingBytes { count: 2 },
        ),
    ];
    for (damage, expected) in cases {
        let mut frame = sample_frame();
        damage(&mut frame);
        assert_eq!(decode_all(&frame), (vec![], Some(expected)));
    }
    let (_, error) = decode_all(&frame_around(&[0xee]));
    assert!(matches!(error, Some(CodecError::Malformed(_))), "{error:?}");
}

/// Lengths inside a payload are bounded before anything is allocated for them.
#[test]
fn huge_lengths_inside_a_payload_are_refused() {
    let huge = [253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    let refuse = 2;
    let entries = 3;
    for start in [
        &[refuse][..],
        &[refuse, 0],
        &[refuse, 1],
        &[entries, 1, 1, 2, 2, 3],
    ] {
        let payload = [start, &huge].concat();
        let (_, error) = decode_all(&frame_around(&payload));
        assert!(
            matches!(error, Some(CodecError::Malformed(_))),
            "{start:?}: {error:?}"
        );
    }
}

#[test]
fn a_full_batch_passes_and_one_more_does_not() {
    let entry = |seq| Entry {
        seq,
        at: Position {
            exits: u64::MAX,
            instructions: u64::MAX,
        },
        event: Event::Output {
            kind: OutputKind::Frame,
            digest: Digest([255; 16]),
        },
    };
    let fit = MAX_BATCH_BYTES as u64 / entry(1).size_bytes();
    let batch = |count: u64| Message::Entries {
        entries: (1..=count).map(entry).collect(),
        released_through: u64::MAX,
    };
    let full = batch(fit);
    assert_eq!(
        decode_all(&encode_message(&full).unwrap()),
        (vec![full], None)
    );
    let error = encode_message(&batch(fit + 1)).unwrap_err();
    assert!(
        matches!(
            error,
            CodecError::Oversized {
                what: "Entries",
                ..
            }
        ),
        "{error}"
    );

    let frame = Entry {
        event: Event::Frame {
            bytes: vec![7; MAX_BATCH_BYTES - 64],
        },
        ..entry(1)
    };
    let longest = Message::Entries {
        entries: vec![frame],
        released_through: 1,
    };
    assert_eq!(
        decode_all(&encode_message(&longest).unwrap()),
        (vec![longest], None)
    );
}

#[test]
fn control_messages_are_short() {
    let refuse = |bytes| Message::Refuse {
        mismatches: vec![],
        reason: "x".repeat(bytes),
    };
    assert!(encode_message(&refuse(MAX_CONTROL_BYTES - 64)).is_ok());
    let error = encode_message(&refuse(MAX_CONTROL_BYTES)).unwrap_err();
    assert!(
        matches!(error, CodecError::Oversized { what: "Refuse", .. }),
        "{error}"
    );
}

#[test]
fn a_long_message_that_is_no_batch_is_refused_before_it_is_decoded() {
    let mut payload = vec![0; MAX_CONTROL_BYTES + 1];
    payload[0] = 2;
    let too_long = CodecError::TooLong {
        bytes: payload.len() as u64,
        limit: MAX_CONTROL_BYTES,
    };
    assert_eq!(
        decode_all(&frame_around(&payload)),
        (vec![], Some(too_long))
    );
}

#[test]
fn a_batch_with_a_gap_is_not_encoded() {
    let entry = |seq| Entry {
        seq,
        at: Position::default(),
        event: Event::Step { limit: 16 },
    };
    let message = Message::Entries {
        entries: vec![entry(1), entry(3)],
        released_through: 0,
    };
    let gap = CodecError::Gap {
        previous: 1,
        found: 3,
    };
    assert_eq!(encode_message(&message), Err(gap));
}

#[test]
fn a_damaged_stream_stays_damaged() {
    let mut decoder = Decoder::new();
    decoder.push(&[0; HEADER_BYTES]);
    let error = decoder.pull().unwrap_err();
    decoder.push(&sample_frame());
    assert_eq!(decoder.pull(), Err(error));
}

#[test]
fn canonical_bytes_are_read_back_and_nothing_else_is() {
    let value = (7_u64, vec![Some(Position::default()), None]);
    let bytes = canonical_bytes(&value);
    assert_eq!(from_canonical_bytes(&bytes), Ok(value.clone()));
    let mut longer = bytes.clone();
    longer.push(0);
    type Value = (u64, Vec<Option<Position>>);
    assert_eq!(
        from_canonical_bytes::<Value>(&longer),
        Err(CodecError::TrailingBytes { count: 1 })
    );
    for cut in 0..bytes.len() {
        let cut = from_canonical_bytes::<Value>(&bytes[..cut]);
        assert!(matches!(cut, Err(CodecError::Malformed(_))), "{cut:?}");
    }
}

proptest! {
    /// A frame grows by an entry's size when the entry is added.
    #[test]
    fn entry_sizes_are_what_they_take_in_a_frame(entries in entries()) {
        let frame_bytes = |count: usize| {
            let entries = entries[..count].to_vec();
            let message = Message::Entries { entries, released_through: 0 };
            encode_message(&message).unwrap().len() as u64
        };
        let mut sizes = EntrySizes::default();
        let sizes: Vec<u64> = entries.iter().map(|entry| sizes.next(entry)).collect();
        for count in 2..=entries.len() {
            prop_assert_eq!(frame_bytes(count) - frame_bytes(count - 1), sizes[count - 1]);
        }
    }
}
