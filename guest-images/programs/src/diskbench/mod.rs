//! Requests to the disk itself, past the page cache, counted and timed: a small fio.
//!
//! ```text
//! lockstep: diskbench seq-write-4k-1 begin
//! lockstep: diskbench seq-write-4k-1 end bytes=8388608 requests=2048 ns=1999873000 errors=0 wrong=0
//! …
//! lockstep: diskbench ok
//! ```
//!
//! A row's name says its order (`seq`, `rand`), operation, request size (`4k`, `128k`) and depth (1, 32). What rows write tells its place;
//! later rows that read it check that. Everything on the disk is lost.

mod pattern;
mod queue;

use std::fs::{File, OpenOptions};
use std::io::{Error, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use self::pattern::{Offsets, Written, stamp};
use self::queue::{Operation, Queue};
use crate::command_line;
use crate::console::say;
use crate::disk;

/// How long a row takes if the command line does not say it.
const DURATION_MS: u64 = 2000;
/// Requests after which the clock is looked at: on some hosts that costs as much as a request.
const REQUESTS_A_LOOK: u64 = 16;
const SEED: u64 = 1;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    random: bool,
    operation: Operation,
    bytes: usize,
    depth: usize,
}

impl Row {
    /// All of them: what is written comes first, so that what is read can be checked.
    fn all() -> Vec<Self> {
        let mut rows = Vec::new();
        for operation in [Operation::Write, Operation::Read] {
            for random in [false, true] {
                for bytes in [4096, 131_072] {
                    let row = |depth| Self {
                        random,
                        operation,
                        bytes,
                        depth,
                    };
                    rows.extend([1, 32].map(row));
                }
            }
        }
        rows
    }

    fn name(&self) -> String {
        let order = if self.random { "rand" } else { "seq" };
        let operation = match self.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        format!("{order}-{operation}-{}k-{}", self.bytes / 1024, self.depth)
    }
}

/// When a row ends: at the first of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    duration: Duration,
    requests: u64,
}

/// What a row has done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: u64,
    elapsed: Duration,
    errors: u64,
    wrong: u64,
}

/// Runs the rows that `lockstep.diskbench=ROW,ROW…` names, without it all of them.
pub fn run(command_line: &str) {
    match bench(command_line) {
        Ok(true) => say("diskbench ok"),
        Ok(false) => say("diskbench FAILED: see errors= and wrong="),
        Err(error) => say(&format!("diskbench FAILED: {error}")),
    }
}

fn bench(command_line: &str) -> Result<bool, Error> {
    let rows = rows(command_line)?;
    let limits = limits(command_line)?;
    let writes = rows.iter().any(|row| row.operation == Operation::Write);
    let mut device = OpenOptions::new()
        .read(true)
        .write(writes)
        .custom_flags(libc::O_DIRECT)
        .open(disk::device(command_line))?;
    let size = device.seek(SeekFrom::End(0))?;
    if size < 131_072 {
        return Err(Error::other("the disk is smaller than a request"));
    }
    let mut written = Written::none(size);
    let mut good = true;
    for row in rows {
        say(&format!("diskbench {} begin", row.name()));
        let outcome = measure(row, &device, size, limits, &mut written)?;
        say(&format!(
            "diskbench {} end bytes={} requests={} ns={} errors={} wrong={}",
            row.name(),
            outcome.requests * row.bytes as u64,
            outcome.requests,
            outcome.elapsed.as_nanos(),
            outcome.errors,
            outcome.wrong
        ));
        good &= outcome.errors == 0 && outcome.wrong == 0;
    }
    Ok(good)
}

fn rows(command_line: &str) -> Result<Vec<Row>, Error> {
    let all = Row::all();
    let Some(names) = command_line::value(command_line, "lockstep.diskbench=") else {
        return Ok(all);
    };
    let find = |name| all.iter().find(|row| row.name() == name).copied();
    names
        .split(',')
        .map(|name| find(name).ok_or_else(|| Error::other(format!("there is no row {name}"))))
        .collect()
}

fn limits(command_line: &str) -> Result<Limits, Error> {
    let number = |option| -> Result<Option<u64>, Error> {
        let value = command_line::value(command_line, option);
        value
            .map(|text| text.parse().map_err(Error::other))
            .transpose()
    };
    let requests = number("lockstep.diskbench-requests=")?;
    // With so many requests asked for, no clock counts, unless it is asked for too.
    let without = if requests.is_some() {
        u64::MAX
    } else {
        DURATION_MS
    };
    let duration_ms = number("lockstep.diskbench-ms=")?.unwrap_or(without);
    Ok(Limits {
        duration: Duration::from_millis(duration_ms),
        requests: requests.unwrap_or(u64::MAX),
    })
}

fn measure(
    row: Row,
    device: &File,
    size: u64,
    limits: Limits,
    written: &mut Written,
) -> Result<Outcome, Error> {
    let mut requests = Requests::new(row, device, size)?;
    let mut outcome = Outcome::default();
    let mut looked = 0;
    let start = Instant::now();
    let mut limit = limits.requests;
    loop {
        requests.begin(limit)?;
        if requests.begun == outcome.requests {
            break;
        }
        requests.end(&mut outcome, written)?;
        if outcome.requests - looked >= REQUESTS_A_LOOK {
            looked = outcome.requests;
            if start.elapsed() >= limits.duration {
                limit = 0;
            }
        }
    }
    outcome.elapsed = start.elapsed();
    if row.operation == Operation::Write {
        outcome.errors += u64::from(device.sync_data().is_err());
    }
    Ok(outcome)
}

/// A row's requests.
struct Requests<'a> {
    row: Row,
    queue: Queue<'a>,
    offsets: Offsets,
    /// Where each slot's request goes.
    places: Vec<u64>,
    free: Vec<usize>,
    begun: u64,
}

impl<'a> Requests<'a> {
    fn new(row: Row, device: &'a File, size: u64) -> Result<Self, Error> {
        let bytes = row.bytes as u64;
        Ok(Self {
            row,
            queue: Queue::new(device, row.depth, row.bytes)?,
            offsets: if row.random {
                Offsets::random(size, bytes, SEED)
            } else {
                Offsets::sequential(size, bytes)
            },
            places: vec![0; row.depth],
            free: (0..row.depth).collect(),
            begun: 0,
        })
    }

    /// Begins as many as there are free slots, but not more than `limit` since the row's beginning.
    fn begin(&mut self, limit: u64) -> Result<(), Error> {
        while self.begun < limit
            && let Some(slot) = self.free.pop()
        {
            let place = self.offsets.next();
            self.places[slot] = place;
            if self.row.operation == Operation::Write {
                stamp(self.queue.buffer(slot), place);
            }
            self.queue.prepare(slot, self.row.operation, place);
            self.begun += 1;
        }
        self.queue.submit()
    }

    /// Waits for some to end, and counts them.
    fn end(&mut self, outcome: &mut Outcome, written: &mut Written) -> Result<(), Error> {
        for completion in self.queue.wait()? {
            let place = self.places[completion.slot];
            self.free.push(completion.slot);
            outcome.requests += 1;
            if !completion.whole {
                outcome.errors += 1;
            } else if self.row.operation == Operation::Read {
                outcome.wrong += written.wrong(self.queue.buffer(completion.slot), place);
            } else {
                written.insert(place, self.row.bytes as u64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_sixteen_rows_with_names_of_their_own() {
        let names: std::collections::BTreeSet<String> = Row::all().iter().map(Row::name).collect();
        assert_eq!(names.len(), 16);
        assert!(names.contains("rand-read-128k-32"));
    }

    #[test]
    fn rows_and_limits_are_taken_from_the_command_line() {
        let rows = rows("lockstep.diskbench=seq-read-4k-1,rand-write-128k-32").expect("rows");
        let names: Vec<String> = rows.iter().map(Row::name).collect();
        assert_eq!(names, ["seq-read-4k-1", "rand-write-128k-32"]);
        super::rows("lockstep.diskbench=seq-read-5k-1").expect_err("no such row");
        let expect = |text: &str, duration_ms, requests| {
            let duration = Duration::from_millis(duration_ms);
            let limits = limits(text).expect("limits");
            assert_eq!(limits, Limits { duration, requests });
        };
        expect("quiet", DURATION_MS, u64::MAX);
        expect("lockstep.diskbench-ms=5", 5, u64::MAX);
        expect("lockstep.diskbench-requests=9", u64::MAX, 9);
        expect(
            "lockstep.diskbench-requests=9 lockstep.diskbench-ms=5",
            5,
            9,
        );
        limits("lockstep.diskbench-ms=soon").expect_err("no number");
    }

    #[test]
    fn what_rows_read_they_check() {
        let path = std::env::temp_dir().join(format!("diskbench-rows-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("a file");
        std::fs::remove_file(&path).expect("removed");
        let size = 1 << 20;
        file.set_len(size).expect("a size");
        let limits = Limits {
            duration: Duration::MAX,
            requests: 300,
        };
        let mut written = Written::none(size);
        let mut measure = |row: Row, limits| {
            let outcome = measure(row, &file, size, limits, &mut written).expect("measured");
            (outcome.requests, outcome.errors, outcome.wrong)
        };
        let row = |operation, depth| Row {
            random: false,
            operation,
            bytes: 4096,
            depth,
        };
        assert_eq!(measure(row(Operation::Write, 32), limits), (300, 0, 0));
        assert_eq!(measure(row(Operation::Read, 32), limits), (300, 0, 0));
        std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 5 * 4096).expect("written");
        let once = Limits {
            requests: 256,
            ..limits
        };
        assert_eq!(measure(row(Operation::Read, 1), once), (256, 0, 1));
    }
}
