//! What a disk does for a guest alone and for a protected one, who reads in a pair, and what either costs the log.
//!
//! In: rows that the Linux guest's `diskbench` measures, past its page cache, in the same order on each machine: alone, protected with
//! `reads=log`, protected with `reads=self`; and again, so that a disk that is now faster and now slower is so for each. Out: medians, and their
//! quotients.
//!
//! The guest's block layer merges small requests to neighbouring blocks that are there at once: requests here are the program's, the log's are fewer.
//! The log's bytes are what the primary hands to TCP between a row's first and last word, as in the section of the log.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::setpriority_process;
use vmm::{
    demo::{DiskAccess, DiskContents, Guest, Member, RigDisk, RigOptions, network::Host},
    engine::EngineKind,
    host::Event,
    session::disk_config::Reads,
};

use super::pairs::{self, Served};

/// Larger than what any storage is likely to keep near by for us, small enough for any host.
const DISK_BYTES: usize = 256 << 20;
const ROUNDS: usize = 5;
/// A row takes so long.
const ROW: Duration = Duration::from_secs(1);
/// From one look at the console to the next.
const LOOK: Duration = Duration::from_millis(5);
/// All rows of one machine, on a slow disk and a busy host.
const PATIENCE: Duration = Duration::from_secs(600);
/// Of the throughput alone, where the channel is not the limit.
const AIM: f64 = 0.95;

/// Prints the section of an image file.
pub fn print() {
    println!("\ndisk: an image file, by the Linux guest on the software CPU");
    table(|reads| DiskAccess::File { reads });
}

/// Prints the section of the same image behind `lockstep disk-server`.
pub fn print_served() {
    println!("\ndisk-server: the same behind lockstep disk-server");
    table(|reads| DiskAccess::Server { reads });
}

/// One machine of a round.
#[derive(Clone, Copy)]
enum Way {
    Alone,
    Protected(Reads),
}

const WAYS: [Way; 3] = [
    Way::Alone,
    Way::Protected(Reads::Log),
    Way::Protected(Reads::SelfRead),
];

/// What the machines of one way did.
#[derive(Default)]
struct OneWay {
    /// Row by row.
    rounds: Vec<Vec<Measured>>,
    /// How far the backup was behind at most.
    lag: Duration,
}

/// What one machine did in a row.
#[derive(Clone, Debug)]
struct Measured {
    row: String,
    megabytes_a_second: f64,
    requests_a_second: f64,
    log_megabits_a_second: f64,
    log_bytes_a_request: f64,
}

fn table(access: fn(Reads) -> DiskAccess) {
    let folder = tempfile::tempdir().expect("a folder");
    make_image(&folder.path().join("shared.img"));
    let mut measured: [OneWay; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (way, measured) in WAYS.into_iter().zip(&mut measured) {
            let options = options(way, access, folder.path());
            let (rows, lag) = pairs::block_on(run(way, options));
            measured.rounds.push(rows);
            measured.lag = measured.lag.max(lag);
        }
    }
    println!(
        "  MB/s and requests a second; of alone, * below the aim of {AIM:.2}; log, Mbit/s; bytes of log a request"
    );
    println!(
        "                              alone |                 reads=log                  |                 reads=self"
    );
    for row in 0..measured[0].rounds[0].len() {
        print_row(&measured, row);
    }
    println!(
        "  the backup was behind by at most {} ms (reads=log), {} ms (reads=self)",
        measured[1].lag.as_millis(),
        measured[2].lag.as_millis()
    );
}

fn print_row(measured: &[OneWay; 3], row: usize) {
    let [alone, protected @ ..] = measured;
    let mut line = format!(
        "  {:17} {:7.1} {:7.0}",
        alone.rounds[0][row].row,
        alone.median(row, |measured| measured.megabytes_a_second),
        alone.median(row, |measured| measured.requests_a_second)
    );
    for way in protected {
        let requests_a_second = way.median(row, |measured| measured.requests_a_second);
        let quotient = requests_a_second / alone.median(row, |measured| measured.requests_a_second);
        line += &format!(
            " | {:7.1} {requests_a_second:7.0} {quotient:5.2}{} {:8.2} {:9.0}",
            way.median(row, |measured| measured.megabytes_a_second),
            if quotient < AIM { '*' } else { ' ' },
            way.median(row, |measured| measured.log_megabits_a_second),
            way.median(row, |measured| measured.log_bytes_a_request)
        );
    }
    println!("{line}");
}

impl OneWay {
    fn median(&self, row: usize, value: fn(&Measured) -> f64) -> f64 {
        let values = self.rounds.iter().map(|rows| value(&rows[row])).collect();
        super::median_and_maximum(values).0
    }
}

/// An image whose blocks are all there: a file's first writes to its holes are the file system's work.
fn make_image(path: &Path) {
    std::fs::write(path, vec![0x5A; DISK_BYTES]).expect("room for an image");
    let image = std::fs::File::open(path).expect("the image just made");
    image.sync_all().expect("the image is written");
}

fn options(way: Way, access: fn(Reads) -> DiskAccess, folder: &Path) -> RigOptions {
    let reads = match way {
        Way::Alone => Reads::Log,
        Way::Protected(reads) => reads,
    };
    let mut options = pairs::options(EngineKind::Soft, Guest::Linux);
    options.disk = Some(RigDisk {
        contents: DiskContents::Zeros {
            bytes: DISK_BYTES as u64,
        },
        access: access(reads),
        folder: Some(folder.to_owned()),
        primary_fault: None,
        timeout_s: None,
    });
    let rows = format!(
        " lockstep.run=diskbench lockstep.diskbench-ms={}",
        ROW.as_millis()
    );
    options.images.command_line += &rows;
    options
}

/// What the rows of one machine are, and how far behind its backup was at most.
async fn run(way: Way, options: RigOptions) -> (Vec<Measured>, Duration) {
    let (served, _awake) = match way {
        Way::Alone => {
            let served = pairs::alone_of(options).await;
            let awake = Awake::keep(&served);
            (served, Some(awake))
        }
        Way::Protected(_) => (pairs::started_pair_of(options).await, None),
    };
    let rows = follow(&served).await;
    let lags = match way {
        Way::Alone => Vec::new(),
        Way::Protected(_) => served.rig.events(Member::Primary).expect("events"),
    };
    let lags = lags.into_iter().map(|stamped| match stamped.event {
        Event::Lag { ms, .. } => Duration::from_millis(ms),
        _ => Duration::ZERO,
    });
    (rows, lags.max().unwrap_or_default())
}

/// The other host's processor is kept from sleeping, as a backup does. Where the processors are a hypervisor's, one that sleeps hears of a
/// finished request late: a machine alone did a quarter less at depth 1, which says nothing about its protection.
struct Awake {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    fn keep(served: &Served) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let spin = {
            let over = Arc::clone(&over);
            move || {
                // Of this thread: whoever has something to do goes first (setpriority(2)).
                setpriority_process(None, 19).expect("lower is always allowed");
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let network = served.rig.network();
        let thread = network.on_host(Host::Backup, || std::thread::spawn(spin));
        Self {
            over,
            thread: Some(thread.expect("a host")),
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only spins");
        }
    }
}

/// Reads the guest's console until it has told all rows.
async fn follow(served: &Served) -> Vec<Measured> {
    let log_bytes = || served.channel(Host::Primary).tcp_payload_bytes();
    let begun = Instant::now();
    let mut rows = Vec::new();
    let mut seen = 0;
    let (mut row_begun, mut logged) = (begun, 0);
    loop {
        let console = served.console();
        assert!(
            begun.elapsed() < PATIENCE,
            "diskbench takes too long: {console}"
        );
        // A line without an end may still grow.
        let whole = console.rfind('\n').map_or(0, |end| end + 1);
        for line in console[seen..whole].lines() {
            let Some((_, words)) = line.split_once("lockstep: diskbench ") else {
                continue;
            };
            match words.trim().split_once(' ') {
                None if words.trim() == "ok" => return rows,
                Some((_, "begin")) => (row_begun, logged) = (Instant::now(), log_bytes()),
                Some((row, outcome)) if outcome.starts_with("end ") => {
                    let logged = log_bytes() - logged;
                    rows.push(Measured::new(row, outcome, logged, row_begun.elapsed()));
                }
                _ => panic!("{line}"),
            }
        }
        seen = whole;
        tokio::time::sleep(LOOK).await;
    }
}

impl Measured {
    fn new(row: &str, outcome: &str, log_bytes: u64, elapsed: Duration) -> Self {
        let number = |name: &str| -> f64 {
            let mut words = outcome.split(' ');
            let word = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let number = word.and_then(|word| word.parse().ok());
            number.unwrap_or_else(|| panic!("no {name} in {outcome}"))
        };
        let seconds = number("ns") / 1e9;
        let requests = number("requests");
        Self {
            row: row.to_owned(),
            megabytes_a_second: number("bytes") / seconds / 1e6,
            requests_a_second: requests / seconds,
            log_megabits_a_second: log_bytes as f64 * 8.0 / 1e6 / elapsed.as_secs_f64(),
            log_bytes_a_request: log_bytes as f64 / requests,
        }
    }
}
