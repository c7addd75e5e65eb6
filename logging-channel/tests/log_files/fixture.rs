//! A log with every kind of entry, in several segments, and what can be read of one.

use std::fs;
use std::path::{Path, PathBuf};

use logging_channel::identity::{BootChoices, FORMAT_VERSION, Identity};
use logging_channel::log_file::{
    Image, ImageKind, Keeper, LogError, LogHeader, LogOptions, LogReader, LogWriter, segment_path,
};
use logging_channel::{
    Digest, DiskOutcome, EndReason, Entry, Event, OutputKind, PageRange, Position,
};

/// Random numbers, the same in every run: xorshift64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    pub fn digest(&mut self) -> Digest {
        Digest::of(&self.bytes(8))
    }
}

pub fn kernel() -> Image {
    let mut bytes = vec![0; 300_000];
    bytes.extend(Random::new(1).bytes(20_000));
    Image {
        kind: ImageKind::Kernel,
        bytes,
    }
}

pub fn initrd() -> Image {
    Image {
        kind: ImageKind::Initrd,
        bytes: b"070701 and so on".repeat(20),
    }
}

pub fn header() -> LogHeader {
    let identity = Identity {
        format_version: FORMAT_VERSION,
        clock: "instructions".to_owned(),
        cpu_model: "lockstep-1".to_owned(),
        memory_bytes: 64 << 20,
        command_line: "console=ttyS0".to_owned(),
        kernel: Digest::of(&kernel().bytes),
        boot: "auto".to_owned(),
        initrd: Some(Digest::of(&initrd().bytes)),
        devices: vec![
            "virtio-net mac=52:54:00:00:00:01".to_owned(),
            "virtio-rng".to_owned(),
        ],
    };
    let boot = BootChoices {
        unix_time_s: 1_700_000_000,
        rng_seed: [7; 32],
    };
    LogHeader::new(identity, boot, Keeper::Record)
}

/// The kinds in turn, the last one `End`.
pub fn entries(count: u64) -> Vec<Entry> {
    let mut random = Random::new(9);
    let mut at = Position::default();
    let mut guest_ns = 0;
    let mut entry = |seq| {
        if random.below(3) > 0 {
            at.exits += random.below(40);
            at.instructions = 0;
        }
        at.instructions += random.below(20_000);
        guest_ns += random.below(2_000_000);
        let event = match (seq == count, seq % 13) {
            (true, _) => Event::End {
                reason: EndReason::Halted,
                digest: random.digest(),
            },
            (_, 0) => Event::Frame {
                bytes: random.bytes(60),
            },
            (_, 1) => Event::Time { guest_ns },
            (_, 2) => Event::Tick { guest_ns },
            (_, 3) => Event::Interrupt {
                vector: random.below(256) as u8,
            },
            (_, 4) => Event::ConsoleInput {
                bytes: random.bytes(3),
            },
            (_, 5) => Event::Entropy {
                bytes: random.bytes(16),
            },
            (_, 6) => Event::Step {
                limit: random.below(1000),
            },
            (_, 7) => Event::Output {
                kind: [
                    OutputKind::Frame,
                    OutputKind::Console,
                    OutputKind::Disk,
                    OutputKind::DiskRead,
                ][random.below(4) as usize],
                digest: random.digest(),
            },
            (_, 8) => Event::Clock {
                guest_ns,
                ps_per_instruction: 4900 + random.below(200) as u32,
            },
            (_, 9) => Event::Pages {
                part: random.below(3) as u32,
                ranges: (0..random.below(4))
                    .map(|_| PageRange {
                        first: random.below(1 << 20),
                        count: 1 + random.below(64) as u32,
                    })
                    .collect(),
                bytes: random.bytes(100),
            },
            (_, 10) => Event::State {
                parts: random.below(3) as u32,
                bytes: random.bytes(50),
            },
            (_, 11) => Event::Disk {
                disk: random.below(4) as u8,
                request: random.below(1000),
                outcome: match random.below(4) {
                    0 => DiskOutcome::Done {
                        bytes: random.bytes(60).into(),
                    },
                    1 => DiskOutcome::DoneApart {
                        checksum: random.below(1 << 32) as u32,
                    },
                    2 => DiskOutcome::Failed,
                    _ => DiskOutcome::Unsupported,
                },
            },
            _ => Event::Digest {
                digest: random.digest(),
            },
        };
        Entry { seq, at, event }
    };
    (1..=count).map(&mut entry).collect()
}

/// A log file and what went into it.
pub struct Log {
    folder: tempfile::TempDir,
    pub entries: Vec<Entry>,
    /// After each frame with entries: the bytes of all segments, and the entries in them.
    pub frames: Vec<(u64, usize)>,
}

impl Log {
    /// 500 entries in frames of up to eight, and segments of about `rotate_bytes`.
    pub fn write(rotate_bytes: Option<u64>) -> Self {
        Self::write_with(&header(), rotate_bytes, vec![])
    }

    pub fn write_with(header: &LogHeader, rotate_bytes: Option<u64>, images: Vec<Image>) -> Self {
        let mut log = Self {
            folder: tempfile::tempdir().unwrap(),
            entries: entries(500),
            frames: vec![],
        };
        let options = LogOptions {
            rotate_bytes,
            images,
        };
        let mut writer = LogWriter::create(&log.path(), header, &options).unwrap();
        log.frames.push((log.total_bytes(), 0));
        let mut random = Random::new(5);
        let mut written = 0;
        while written < log.entries.len() {
            let end = log
                .entries
                .len()
                .min(written + 1 + random.below(8) as usize);
            writer.append(log.entries[written..end].to_vec()).unwrap();
            writer.flush().unwrap();
            written = end;
            // The writer is still there, with whatever it has not handed out.
            log.frames.push((log.total_bytes(), written));
        }
        log
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn segment(&self, number: u32) -> PathBuf {
        segment_path(&self.path(), number)
    }

    /// The bytes of each segment.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        let files = (0..).map(|number| fs::read(self.segment(number)));
        files.map_while(Result::ok).collect()
    }

    pub fn total_bytes(&self) -> u64 {
        let sizes = (0..).map(|number| fs::metadata(self.segment(number)));
        sizes.map_while(Result::ok).map(|file| file.len()).sum()
    }

    /// Has these segments and no others.
    pub fn put(&self, segments: &[Vec<u8>]) {
        let old = self.segments().len();
        for (number, bytes) in (0..).zip(segments) {
            fs::write(self.segment(number), bytes).unwrap();
        }
        for number in segments.len()..old {
            fs::remove_file(self.segment(number as u32)).unwrap();
        }
    }

    /// How many entries can be read, and how that ends. They are the ones that were written, or this panics.
    pub fn read(&self) -> (usize, Result<(), LogError>) {
        let (entries, end) = read(&self.path());
        assert!(entries.len() <= self.entries.len(), "more than was written");
        assert_eq!(entries, self.entries[..entries.len()]);
        (entries.len(), end)
    }
}

/// What can be read of a log, and how that ends.
pub fn read(path: &Path) -> (Vec<Entry>, Result<(), LogError>) {
    let mut entries = Vec::new();
    let mut reader = match LogReader::open(path) {
        Ok(reader) => reader,
        Err(error) => return (entries, Err(error)),
    };
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => entries.extend(batch),
            Ok(None) => return (entries, Ok(())),
            Err(error) => {
                assert!(
                    matches!(reader.next_batch(), Ok(None)),
                    "nothing follows an error"
                );
                return (entries, Err(error));
            }
        }
    }
}
