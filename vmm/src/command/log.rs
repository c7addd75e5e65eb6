//! `lockstep log`: what is in a log.

use std::{
    io::{BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use logging_channel::{
    EventKind, Position,
    codec::EntrySizes,
    log_file::{self, LogReader},
    statistics::Statistics,
};
use vmm::{
    host::say,
    log_report::{
        dump::{self, Selection},
        info::LogInfo,
        stats::LogBudget,
        svg,
    },
};

/// Exit code of `log verify` where something is wrong with the log.
const NOT_GOOD: u8 = 1;

/// Options of `lockstep log`.
#[derive(Args)]
pub struct LogArgs {
    #[command(subcommand)]
    verb: LogVerb,
}

#[derive(Subcommand)]
enum LogVerb {
    /// What the log says about itself, and how far it goes
    Info(InfoArgs),
    /// Its entries, a line each
    Dump(DumpArgs),
    /// What it consists of: entries, bytes and rate of each kind of event
    Stats(StatsArgs),
    /// Check all of it: checksums, sequence, images; exits with 1 if something is wrong
    Verify(VerifyArgs),
}

#[derive(Args)]
struct InfoArgs {
    /// The log
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SelectionArgs {
    /// Only entries from this position on, such as 60+12
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
    /// Only entries up to this position
    #[arg(long, value_name = "POSITION")]
    to: Option<Position>,
    /// Only entries of this kind, such as tick; may be repeated
    #[arg(long, value_name = "KIND")]
    kind: Vec<EventKind>,
}

impl SelectionArgs {
    fn selection(&self) -> Selection {
        Selection {
            from: self.from,
            to: self.to,
            kinds: self.kind.clone(),
        }
    }
}

#[derive(Args)]
struct DumpArgs {
    /// The log
    file: PathBuf,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: SelectionArgs,
}

#[derive(Args)]
struct StatsArgs {
    /// The log
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Draw the rate over the guest's time into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
}

#[derive(Args)]
struct VerifyArgs {
    /// The log
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// If the log is torn, shorten its last file to what is whole
    #[arg(long)]
    cut: bool,
}

/// Does what was asked for.
pub fn run(args: &LogArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        LogVerb::Info(args) => info(args),
        LogVerb::Dump(args) => dump(args),
        LogVerb::Stats(args) => stats(args),
        LogVerb::Verify(args) => verify(args),
    }
}

fn open(path: &Path) -> anyhow::Result<LogReader> {
    LogReader::open(path).with_context(|| format!("Cannot read the log {}", path.display()))
}

/// Prints; somebody who reads no further is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("Cannot print on standard output")
        }
        _ => Ok(()),
    }
}

fn as_json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("Cannot write JSON")? + "\n")
}

fn info(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let info = LogInfo::read(&mut open(&args.file)?);
    print(&if args.json {
        as_json(&info)?
    } else {
        info.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn dump(args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let mut reader = open(&args.file)?;
    let selection = args.selection.selection();
    let mut out = BufWriter::new(std::io::stdout().lock());
    while let Some(entries) = next_batch(&mut reader)? {
        for entry in entries.iter().filter(|entry| selection.has(entry)) {
            let line = if args.json {
                dump::object(entry).to_string()
            } else {
                dump::line(entry)
            };
            match writeln!(out, "{line}") {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                written => written.context("Cannot print on standard output")?,
            }
        }
        if entries.last().is_some_and(|entry| selection.is_past(entry)) {
            break;
        }
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("Cannot print on standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The next entries; a torn tail is told, and is the log's end.
fn next_batch(reader: &mut LogReader) -> anyhow::Result<Option<Vec<logging_channel::Entry>>> {
    match reader.next_batch() {
        Err(torn @ log_file::LogError::Torn { .. }) => {
            say(&format!("lockstep log: its tail was cut off: {torn}"));
            Ok(None)
        }
        batch => Ok(batch?),
    }
}

fn stats(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let mut reader = open(&args.file)?;
    let selection = args.selection.selection();
    let mut statistics = Statistics::default();
    while let Some(entries) = next_batch(&mut reader)? {
        let mut sizes = EntrySizes::default();
        for entry in &entries {
            let bytes = sizes.next(entry);
            if selection.has(entry) {
                statistics.add(entry, bytes);
            }
        }
    }
    let budget = LogBudget::new(&statistics, reader.total_bytes());
    print(&if args.json {
        as_json(&budget)?
    } else {
        budget.to_string()
    })?;
    if let Some(path) = &args.svg {
        let plot = svg::plot(&args.file.display().to_string(), &statistics);
        std::fs::write(path, plot).with_context(|| format!("Cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    if args.cut
        && let Some(cut) = log_file::cut_torn_tail(&args.file)
            .with_context(|| format!("Cannot cut the log {}", args.file.display()))?
    {
        say(&format!(
            "lockstep log: cut {} bytes off {} at byte {}; its last entry is {}",
            cut.bytes,
            cut.file.display(),
            cut.offset,
            cut.last_entry
        ));
    }
    let info = LogInfo::read(&mut open(&args.file)?);
    print(&if args.json {
        as_json(&info)?
    } else {
        format!(
            "{}: {} entries in {} bytes, {}\n",
            args.file.display(),
            info.entries,
            info.bytes,
            info.end
        )
    })?;
    Ok(if info.is_good() {
        ExitCode::SUCCESS
    } else {
        NOT_GOOD.into()
    })
}
