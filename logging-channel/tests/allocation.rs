//! However the bytes of the channel or of a file are chosen, decoding them allocates no more than the documentation says.
//!
//! One test alone: the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use logging_channel::codec::{
    CodecError, Decoder, HEADER_BYTES, MAX_BATCH_BYTES, MAX_CONTROL_BYTES, MAX_PAYLOAD_BYTES,
    encode_message,
};
use logging_channel::identity::{BootChoices, FORMAT_VERSION, Identity};
use logging_channel::log_file::{Keeper, LogError, LogHeader, LogOptions, LogReader, LogWriter};
use logging_channel::protocol::Message;
use logging_channel::{Digest, Entry, Event, Position};
use zstd::stream::raw::CParameter;

/// A message, besides its frame.
const MESSAGE_BOUND_BYTES: usize = 4 << 20;
/// A file, all in all, besides zstd's own memory.
const FILE_BOUND_BYTES: usize = 8 << 20;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: all memory is the system allocator's, under the caller's contract with it; only sizes are noted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` had at once.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    (PEAK.load(Relaxed) - before, result)
}

fn frame(magic: &[u8; 4], crc_before: u32, payload: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc_before);
    hasher.update(payload);
    let version = u16::try_from(FORMAT_VERSION).unwrap();
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = magic.to_vec();
    frame.extend(version.to_le_bytes());
    frame.extend([0, 0]);
    frame.extend(length.to_le_bytes());
    frame.extend(hasher.finalize().to_le_bytes());
    frame.extend(crc32fast::hash(&frame).to_le_bytes());
    frame.extend(payload);
    frame
}

fn batch(event: &Event) -> Vec<u8> {
    let entry = |seq| Entry {
        seq,
        at: Position::default(),
        event: event.clone(),
    };
    let count = MAX_BATCH_BYTES as u64 / entry(1).size_bytes();
    let message = Message::Entries {
        entries: (1..=count).map(entry).collect(),
        released_through: 0,
    };
    encode_message(&message).unwrap().split_off(HEADER_BYTES)
}

/// Payloads made to need much: full batches, lengths that lie, lists of the smallest elements.
fn greedy_payloads() -> Vec<Vec<u8>> {
    let huge = [253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    let mebibyte = [252, 0, 0, 0x0f, 0];
    let (refuse, entries, frame_event) = (2, 3, 3);
    let full = |length: usize, start: &[u8], filler: &[u8]| {
        let mut payload = start.to_vec();
        payload.extend(filler.iter().copied().cycle().take(length - start.len()));
        payload
    };
    let many = |tag| [&[tag][..], &mebibyte].concat();
    let many_entries = [&[entries, 1][..], &mebibyte].concat();
    vec![
        batch(&Event::Interrupt { vector: 32 }),
        batch(&Event::Frame { bytes: vec![1] }),
        batch(&Event::Frame {
            bytes: vec![1; MAX_BATCH_BYTES - 64],
        }),
        [&[entries, 1][..], &huge].concat(),
        [&[entries, 1, 2, 0, 0, frame_event][..], &mebibyte].concat(),
        full(MAX_PAYLOAD_BYTES, &many_entries, &[0, 0, 2, 32]),
        full(MAX_PAYLOAD_BYTES, &many_entries, &[0, 0, frame_event, 0]),
        full(MAX_PAYLOAD_BYTES, &many_entries, &[0, 0, frame_event, 1, 7]),
        full(MAX_CONTROL_BYTES, &many(refuse), &[0]),
        full(MAX_PAYLOAD_BYTES, &many(refuse), &[0]),
    ]
}

fn check_messages() {
    for payload in greedy_payloads() {
        let mut decoder = Decoder::new();
        decoder.push(&frame(b"LSTP", 0, &payload));
        let (bytes, _) = peak(|| decoder.pull());
        let start = &payload[..payload.len().min(16)];
        assert!(bytes <= MESSAGE_BOUND_BYTES, "{start:?} took {bytes} bytes");
    }
}

/// A log of a header alone, and the bytes of its file.
fn empty_log(path: &Path) -> Vec<u8> {
    let identity = Identity {
        format_version: FORMAT_VERSION,
        clock: "exits".to_owned(),
        cpu_model: String::new(),
        memory_bytes: 0,
        command_line: String::new(),
        kernel: Digest([0; 16]),
        boot: String::new(),
        initrd: None,
        devices: vec![],
    };
    let boot = BootChoices {
        unix_time_s: 0,
        rng_seed: [0; 32],
    };
    let header = LogHeader::new(identity, boot, Keeper::Record);
    drop(LogWriter::create(path, &header, &LogOptions::default()).unwrap());
    fs::read(path).unwrap()
}

/// A zstd stream of its own for `plain`.
fn compressed(plain: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    encoder
        .set_parameter(CParameter::WindowLog(window_log))
        .unwrap();
    std::io::Write::write_all(&mut encoder, plain).unwrap();
    encoder.finish().unwrap()
}

/// The file's first frame with a zstd stream that ends, so that others can be put behind it.
fn header_as_whole_stream(file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    // The stream goes on, as far as its decoder knows; what is there comes out before it says so.
    let mut stream = zstd::stream::read::Decoder::new(&file[HEADER_BYTES..]).unwrap();
    let end = std::io::Read::read_to_end(&mut stream, &mut plain);
    assert!(end.is_err() && !plain.is_empty());
    frame(b"LSLG", 0, &compressed(&plain, 20))
}

fn check_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let header = header_as_whole_stream(&empty_log(&path));
    let crc = u32::from_le_bytes(header[12..16].try_into().unwrap());
    let entries_frame = 2;
    let plains = greedy_payloads()
        .into_iter()
        .map(|payload| [&[entries_frame], &payload[1..]].concat());
    // A header with as many devices as its limit lets through, without names.
    let mut devices = vec![0; MAX_PAYLOAD_BYTES];
    devices[24..29].copy_from_slice(&[252, 0, 0, 1, 0]);
    let bomb = compressed(&vec![0; 200 << 20], 20);
    assert!(bomb.len() < 100_000);
    let wide = compressed(&vec![0; 20 << 20], 24);
    let mut pieces: Vec<Vec<u8>> = plains.map(|plain| compressed(&plain, 20)).collect();
    pieces.extend([compressed(&devices, 20), bomb.clone(), wide.clone()]);
    for piece in pieces {
        // Where a file begins, and behind a good header.
        for start in [&[][..], &header] {
            let crc = if start.is_empty() { 0 } else { crc };
            fs::write(&path, [start, &frame(b"LSLG", crc, &piece)].concat()).unwrap();
            let (bytes, _) = peak(|| {
                let mut reader = LogReader::open(&path)?;
                let images = reader.images().map(drop);
                while reader.next_batch()?.is_some() {}
                images
            });
            let start = &piece[..piece.len().min(16)];
            assert!(bytes <= FILE_BOUND_BYTES, "{start:?} took {bytes} bytes");
        }
    }
    fs::write(&path, &header).unwrap();
    let mut reader = LogReader::open(&path).expect("the header is good");
    assert!(matches!(reader.next_batch(), Ok(None)));
    fs::write(&path, frame(b"LSLG", 0, &bomb)).unwrap();
    let LogError::Damaged { source, .. } = LogReader::open(&path).unwrap_err() else {
        panic!("a bomb is damage")
    };
    assert!(matches!(source, CodecError::TooLong { .. }), "{source}");
    fs::write(&path, frame(b"LSLG", 0, &wide)).unwrap();
    let LogError::Damaged { source, .. } = LogReader::open(&path).unwrap_err() else {
        panic!("too wide a window is damage")
    };
    assert!(matches!(source, CodecError::Compression(_)), "{source}");
}

#[test]
fn decoding_stays_within_its_bounds() {
    let (bytes, _) = peak(|| vec![1_u8; 1 << 20]);
    assert!(bytes >= 1 << 20, "the allocator counts");
    check_messages();
    check_files();
}
