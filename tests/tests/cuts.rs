//! A thousand random cuts of a real recording: whatever is left of a log, all that is whole of it replays, to the very state that the uncut log has there.
//!
//! ```text
//!  record ──► FILE, FILE.1, … ──┬─ replayed uncut ──► for each entry: position and digest after it ──┐
//!                               ├─ frames ──► how many entries each byte of the log leaves whole ────┼─ equal
//!                               └─ cut at a random byte ──► replayed to its end ─────────────────────┘
//! ```
//!
//! A cut leaves the segments before it whole, its own one torn, and none behind it. `LOCKSTEP_CUT_SEED` chooses other cuts.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use lockstep_tests::{exactness::random::Random, images};
use logging_channel::{
    Digest, Position,
    log_file::{ImageKind, LogError, LogReader, segment_path},
};
use vmm::{
    engine::{AnyEngine, EngineKind, kvm::CountKind},
    host::Console,
    machine::boot::BootProtocol,
    session::{
        playback::{Digests, Finish, Playback},
        setup::{ImageSource, MachineConfig, Prepared},
    },
};

const CUTS: u64 = 1_000;
/// One cut in so many is anywhere, the header and the images included; the others are among the entries.
const ANYWHERE_ONE_IN: u64 = 10;

/// Records a guest on the software CPU: faults, system calls and timer interrupts, its log in pieces with the images in it.
fn record(folder: &Path) -> PathBuf {
    let log = folder.join("log");
    let recorded = Command::new(images::lockstep())
        .args(["record", "--engine", "soft", "--memory", "4M"])
        .args([
            "--cmdline",
            "count=60 loops=2000 hz=500",
            "--console",
            "none",
        ])
        .args(["--log-images", "--log-rotate", "2K", "--timing-seed", "1"])
        .arg("--kernel")
        .arg(images::bare("user"))
        .arg("--log")
        .arg(&log)
        .output()
        .expect("lockstep runs");
    assert!(recorded.status.success(), "{recorded:?}");
    log
}

/// A replay of a log by nothing but the log.
fn play(reader: LogReader) -> Playback<AnyEngine> {
    let mut images = reader.images().expect("whole images").into_iter();
    let kernel = images.find(|image| image.kind == ImageKind::Kernel);
    let identity = &reader.header().identity;
    let config = MachineConfig {
        engine: EngineKind::Soft,
        count: CountKind::default(),
        kernel: ImageSource::Bytes(Arc::from(kernel.expect("a kernel").bytes)),
        boot: BootProtocol::Auto,
        initrd: None,
        command_line: identity.command_line.clone(),
        memory_bytes: identity.memory_bytes,
        mac: None,
        disks: vec![],
    };
    let prepared = Prepared::new(&config).expect("a machine");
    assert_eq!(prepared.identity(), identity);
    let machine = prepared.boot(&reader.header().boot).expect("it boots");
    let console = Console::None.open().expect("a console");
    Playback::new(machine, reader, console, Digests::Compared)
}

/// A recording and what is known of it.
struct Uncut {
    /// Its segments' bytes, one after the other.
    bytes: Vec<u8>,
    /// Where each segment begins in [`Self::bytes`], and where the last one ends.
    borders: Vec<usize>,
    /// Where frames of entries end, and the number of the last entry in each.
    frames: Vec<(usize, u64)>,
    /// Where the first frame of entries begins.
    entries_begin: usize,
    /// The machine after the entry of that number; first, before any.
    states: Vec<(Position, Digest)>,
}

impl Uncut {
    fn new(log: &Path) -> Self {
        let mut bytes = Vec::new();
        let mut borders = vec![0];
        for number in 0.. {
            let Ok(segment) = std::fs::read(segment_path(log, number)) else {
                break;
            };
            bytes.extend(segment);
            borders.push(bytes.len());
        }
        let (entries_begin, frames) = frames(log);
        Self {
            bytes,
            borders,
            frames,
            entries_begin,
            states: states(log),
        }
    }

    /// Entries in the first `end` bytes.
    fn entries_before(&self, end: usize) -> u64 {
        let whole = self.frames.iter().rev().find(|frame| frame.0 <= end);
        whole.map_or(0, |frame| frame.1)
    }

    /// Writes the first `end` bytes as a log.
    fn write_cut(&self, folder: &Path, end: usize) -> PathBuf {
        let log = folder.join("log");
        for (number, border) in self.borders.windows(2).enumerate() {
            let path = segment_path(&log, number as u32);
            if border[0] < end || number == 0 {
                let segment = &self.bytes[border[0]..end.min(border[1])];
                std::fs::write(path, segment).expect("a file");
            } else {
                drop(std::fs::remove_file(path));
            }
        }
        log
    }

    /// What is wrong with the replay of the first `end` bytes, if anything is.
    fn check(&self, folder: &Path, end: usize) -> Result<Cut, String> {
        let reader = match LogReader::open(&self.write_cut(folder, end)) {
            Ok(reader) => reader,
            Err(LogError::NoHeader { bytes, .. }) if bytes == end as u64 => {
                return Ok(Cut::NoHeader);
            }
            Err(error) => return Err(format!("opening: {error}")),
        };
        match reader.images() {
            Ok(images) if !images.is_empty() => {}
            // Cut right behind the header, it looks like a log without images: its replay asks for them.
            Ok(_) => return Ok(Cut::NoImages),
            Err(LogError::Torn { .. } | LogError::Unexpected { .. }) => return Ok(Cut::NoImages),
            Err(error) => return Err(format!("its images: {error}")),
        }
        self.check_replay(play(reader), end)
    }

    fn check_replay(&self, mut playback: Playback<AnyEngine>, end: usize) -> Result<Cut, String> {
        let finish = loop {
            let finish = playback.advance(u32::MAX);
            if let Some(finish) = finish.map_err(|error| error.to_string())? {
                break finish;
            }
        };
        let (entries, whole) = (self.entries_before(end), self.states.len() as u64 - 1);
        if playback.progress().entries != entries {
            return Err(format!(
                "{} of {entries} entries replayed",
                playback.progress().entries
            ));
        }
        let expected = self.states[entries as usize];
        let (state, cut) = match finish {
            Finish::Ended(ending) if entries == whole => ((ending.at, ending.digest), Cut::Ended),
            Finish::LogEnds { at, digest, why } if entries < whole => match why {
                None | Some(LogError::Torn { .. } | LogError::MissingSegment { .. }) => {
                    ((at, digest), Cut::LogEnds)
                }
                Some(error) => return Err(format!("it ends with {error}")),
            },
            finish => return Err(format!("{finish:?} after {entries} of {whole} entries")),
        };
        if state != expected {
            return Err(format!("{state:?} instead of {expected:?}"));
        }
        Ok(cut)
    }
}

/// What became of a cut log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    NoHeader,
    NoImages,
    LogEnds,
    Ended,
}

/// Where the entries begin, and [`Uncut::frames`].
fn frames(log: &Path) -> (usize, Vec<(usize, u64)>) {
    let mut reader = LogReader::open(log).expect("a log");
    let mut frames: Vec<(usize, u64)> = Vec::new();
    while let Some(batch) = reader.next_batch().expect("a whole log") {
        let last = batch.last().expect("a batch has entries").seq;
        frames.push((reader.bytes_read() as usize, last));
    }
    // Little is lost where the first of the frames counts as no entries.
    (frames[0].0, frames)
}

/// The machine after each entry, in a replay of the whole log.
fn states(log: &Path) -> Vec<(Position, Digest)> {
    let mut playback = play(LogReader::open(log).expect("a log"));
    let mut states = Vec::new();
    loop {
        let machine = playback.machine_mut();
        let state = (
            machine.position(),
            machine.full_digest().expect("registers"),
        );
        // Entries that one exit makes leave one state.
        states.resize(playback.progress().entries as usize + 1, state);
        let before = playback.progress().entries;
        let finish = loop {
            let finish = playback.advance(1).expect("it replays");
            if finish.is_some() || playback.progress().entries > before {
                break finish;
            }
        };
        if let Some(finish) = finish {
            let Finish::Ended(ending) = finish else {
                panic!("{finish:?}")
            };
            states.resize(
                playback.progress().entries as usize + 1,
                (ending.at, ending.digest),
            );
            return states;
        }
    }
}

fn seed() -> u64 {
    let text = std::env::var("LOCKSTEP_CUT_SEED").unwrap_or_else(|_| "1".to_owned());
    text.parse().expect("LOCKSTEP_CUT_SEED is a number")
}

/// Where to cut; first the borders of segments, and the byte behind each.
fn cuts(uncut: &Uncut) -> Vec<usize> {
    let mut random = Random::new(seed());
    let borders = uncut
        .borders
        .iter()
        .flat_map(|border| [*border, border + 1]);
    let mut cuts: Vec<usize> = borders.filter(|end| *end <= uncut.bytes.len()).collect();
    let mut within = |range: Range<usize>| {
        range.start + random.up_to((range.end - range.start) as u64) as usize - 1
    };
    for number in 0..CUTS {
        let begin = if number % ANYWHERE_ONE_IN == 0 {
            0
        } else {
            uncut.entries_begin
        };
        cuts.push(within(begin..uncut.bytes.len()));
    }
    cuts
}

#[test]
fn everything_before_a_cut_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let uncut = Uncut::new(&record(folder.path()));
    let cuts = cuts(&uncut);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<Cut> = std::thread::scope(|scope| {
        let shares = cuts.chunks(cuts.len().div_ceil(threads)).map(|share| {
            let uncut = &uncut;
            scope.spawn(move || {
                let folder = tempfile::tempdir().expect("a folder");
                let check = |end: &usize| {
                    let cut = uncut.check(folder.path(), *end);
                    cut.unwrap_or_else(|wrong| {
                        panic!("seed {}, cut at byte {end}: {wrong}", seed())
                    })
                };
                share.iter().map(check).collect::<Vec<_>>()
            })
        });
        let shares: Vec<_> = shares.collect();
        let joined = shares.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .flat_map(|cuts| cuts.expect("every cut replays"))
            .collect()
    });
    let count = |kind| found.iter().filter(|cut| **cut == kind).count();
    eprintln!(
        "{} bytes, {} segments, {} entries; without a header {}, without images {}, ended early {}, whole {}",
        uncut.bytes.len(),
        uncut.borders.len() - 1,
        uncut.states.len() - 1,
        count(Cut::NoHeader),
        count(Cut::NoImages),
        count(Cut::LogEnds),
        count(Cut::Ended)
    );
    assert!(uncut.borders.len() > 2, "the log is in pieces");
    assert!(count(Cut::NoHeader) > 0 && count(Cut::NoImages) > 0);
    assert!(count(Cut::LogEnds) as u64 > CUTS / 2);
    assert_eq!(count(Cut::Ended), 1, "the log in full");
}
