//! A run of a guest, and when it printed what.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use logging_channel::{Digest, EndReason, Entry, Position, identity::BootChoices};
use vmm::{
    effect::Effect,
    inputs::{
        InputError, Inputs, Live, Next, Situation, inbox::Inbox, live::HostClock,
        recorder::Recorder,
    },
    session::{
        replica::Replica,
        setup::{MachineConfig, Prepared},
    },
};

/// A line on the console.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    /// Since the beginning of the run.
    at: Duration,
    /// Processor time until then.
    busy: Duration,
    /// Instructions until then, where they are counted.
    retired: u64,
}

/// What became of a guest.
#[derive(Clone, Debug)]
pub struct Run {
    lines: Vec<Line>,
    end: Line,
}

/// A part of a run: from one line of the console to another.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// What it is called.
    pub name: &'static str,
    /// In the line that begins it; the beginning of the run if empty.
    pub from: &'static str,
    /// In the line that ends it; the end of the run if empty.
    pub to: &'static str,
}

/// How long a part of a run took, and how much was done in it.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Wall time, seconds.
    pub seconds: f64,
    /// Processor time, seconds: what else the host does hardly counts.
    pub busy_seconds: f64,
    /// Instructions, where they are counted.
    pub instructions: f64,
}

impl Run {
    /// Starts a program that runs a guest with its console on standard output, and waits for the guest's end.
    ///
    /// # Panics
    /// If it fails.
    pub fn of_process(mut command: Command) -> Self {
        let begun = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let process = child.id();
        let line = |text| Line {
            text,
            at: begun.elapsed(),
            busy: processor_time_of(process),
            retired: 0,
        };
        let mut console = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = Vec::new();
        let mut bytes = Vec::new();
        while console.read_until(b'\n', &mut bytes).expect("a console") > 0 {
            lines.push(line(String::from_utf8_lossy(&bytes).trim().to_owned()));
            bytes.clear();
        }
        let end = line(String::new());
        let status = child.wait().expect("a child");
        assert!(status.success(), "{command:?} failed: {lines:#?}");
        Self { lines, end }
    }

    /// Runs a machine in this process, to count its instructions. What it prints goes nowhere else, what it records neither.
    ///
    /// # Panics
    /// If that fails.
    pub fn counted(config: &MachineConfig) -> Self {
        let begun = Instant::now();
        let choices = BootChoices {
            unix_time_s: 1_700_000_000,
            rng_seed: [7; 32],
        };
        let machine = Prepared::new(config).and_then(|prepared| prepared.boot(&choices));
        let clock = HostClock::starting_at(0);
        let run = Arc::default();
        let inputs = Counted {
            live: Live::new(clock, Arc::<Inbox>::default(), Box::new(Forgetful), 1),
            begun,
            begun_busy: processor_time(),
            text: Vec::new(),
            retired: 0,
            lines: Arc::clone(&run),
        };
        let mut replica = Replica::new(machine.expect("a machine"), inputs);
        replica.run().expect("the guest runs to its end");
        let mut lines = std::mem::take(&mut *run.lock().expect("no panic"));
        let end = lines.pop().expect("the end is a line, too");
        Self { lines, end }
    }

    /// How long a part took; `None` if this run has no such part.
    pub fn cost(&self, span: Span) -> Option<Cost> {
        let begin = Line {
            text: String::new(),
            at: Duration::ZERO,
            busy: Duration::ZERO,
            retired: 0,
        };
        let find = |text: &str, otherwise| {
            if text.is_empty() {
                Some(otherwise)
            } else {
                self.lines.iter().find(|line| line.text.contains(text))
            }
        };
        let (from, to) = (find(span.from, &begin)?, find(span.to, &self.end)?);
        Some(Cost {
            seconds: (to.at - from.at).as_secs_f64(),
            busy_seconds: (to.busy.saturating_sub(from.busy)).as_secs_f64(),
            instructions: (to.retired - from.retired) as f64,
        })
    }

    /// The lines that tell what the workloads computed.
    pub fn checksums(&self) -> Vec<&str> {
        let text = self.lines.iter().map(|line| line.text.as_str());
        text.filter(|line| line.starts_with("lockstep: workload") && line.contains(" end "))
            .collect()
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time of the threads that a process has now. Linux counts it at timer ticks: to some milliseconds.
fn processor_time_of(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Forgets entries.
struct Forgetful;

impl Recorder for Forgetful {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        std::hint::black_box(entry);
        Ok(())
    }
}

/// Live inputs that note how many instructions the guest had retired when it printed a line.
struct Counted {
    live: Live,
    begun: Instant,
    begun_busy: Duration,
    /// What was printed since the last look.
    text: Vec<u8>,
    retired: u64,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Counted {
    /// Whole lines leave `text`.
    fn note(&mut self) {
        while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.text.drain(..=end).collect();
            self.note_line(String::from_utf8_lossy(&line).trim().to_owned());
        }
    }

    fn note_line(&mut self, text: String) {
        let line = Line {
            text,
            at: self.begun.elapsed(),
            busy: processor_time() - self.begun_busy,
            retired: self.retired,
        };
        self.lines.lock().expect("no panic").push(line);
    }
}

impl Inputs for Counted {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        self.live.time(at)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        self.retired = machine.retired().expect("an engine that counts");
        if !self.text.is_empty() {
            self.note();
        }
        self.live.next(at, machine)
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        self.live.interrupted(at, vector)
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        if let Effect::Print(bytes) = &effect {
            self.text.extend_from_slice(bytes);
        }
        self.live.output(at, effect)
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.live.digest(at, digest)
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        // What the guest did after it was last asked for inputs is less than a slice.
        self.note();
        self.note_line(String::new());
        self.live.end(at, reason, digest)
    }
}
