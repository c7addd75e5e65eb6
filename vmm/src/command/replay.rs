//! `lockstep replay`: a recorded machine again, from its log alone.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use logging_channel::{
    Position,
    log_file::{LogError, LogReader},
};
use vmm::{
    engine::AnyEngine,
    host::{Console, EventSink, Role},
    session::{
        fault::Fault,
        playback::{Digests, Finish, Playback, Progress},
        reports::Reporter,
        second_opinion,
        setup::Prepared,
        time_travel::Described,
    },
};

use super::{
    HALTED, inspect,
    recorded_machine::{self, RecordedMachineArgs},
    symbol_args::SymbolArgs,
};

/// Turns between two looks at the clock: some milliseconds.
const TURNS_AT_A_TIME: u32 = 256;
/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Options of `lockstep replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// The log to replay
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Compare the machine's periodic digests too, and look closer where something differs: a second replay says whether this host repeats
    /// itself, and if not, from which instruction on
    #[arg(long)]
    verify: bool,
    /// Put a fault into the replay and find it: memory:ADDRESS.BIT@POSITION or REGISTER.BIT@POSITION
    #[arg(
        long,
        value_name = "FAULT",
        requires = "verify",
        hide_short_help = true
    )]
    inject: Option<Fault>,
    /// Stop at this position, such as 6297+120, and tell registers and digest
    #[arg(long, value_name = "POSITION", conflicts_with_all = ["inject", "gdb"])]
    until: Option<Position>,
    /// Serve a debugger at this address, such as 1234 or 127.0.0.1:1234: it goes forwards and backwards
    #[arg(long, value_name = "ADDR", conflicts_with = "inject", value_parser = inspect::parse_address)]
    gdb: Option<SocketAddr>,
    #[command(flatten)]
    symbols: SymbolArgs,
    /// Where the serial console goes: stdio, none, or a file
    #[arg(long, value_name = "stdio|none|FILE", default_value = "stdio")]
    console: Console,
    /// Write what happens to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    #[command(flatten)]
    machine: RecordedMachineArgs,
}

/// What a replay is made from.
struct Subject {
    reporter: Reporter,
    described: Described,
    log: PathBuf,
}

impl Subject {
    fn new(args: &ReplayArgs) -> anyhow::Result<(Self, Prepared, LogReader)> {
        let sink = match &args.events {
            Some(path) => EventSink::open(path)?,
            None => EventSink::none(),
        };
        let reporter = Reporter::new(Role::Replay, sink);
        let reader = open(&args.log)?;
        let config = args.machine.config(&reader, &reporter)?;
        let prepared = Prepared::new(&config)?;
        recorded_machine::check(reader.header(), &prepared)
            .with_context(|| format!("Cannot replay {}", args.log.display()))?;
        let symbols = args.symbols.read(&prepared)?;
        let described = Described {
            config,
            choices: reader.header().boot.clone(),
        };
        let subject = Self {
            reporter: reporter.with_symbols(symbols),
            described,
            log: args.log.clone(),
        };
        Ok((subject, prepared, reader))
    }
}

fn open(path: &std::path::Path) -> anyhow::Result<LogReader> {
    LogReader::open(path).with_context(|| format!("Cannot replay {}", path.display()))
}

/// Replays a recorded machine, and compares.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let (subject, prepared, reader) = Subject::new(args)?;
    if let Some(fault) = args.inject {
        return inject(&subject, reader, fault);
    }
    let machine = prepared.boot(&subject.described.choices)?;
    if let Some(until) = args.until {
        let console = args.console.open()?;
        return inspect::until(machine, reader, until, console, &subject.reporter);
    }
    if let Some(address) = args.gdb {
        let console = args.console.open()?;
        return inspect::debug(machine, reader, address, console, &subject.reporter);
    }
    let digests = if args.verify {
        Digests::Compared
    } else {
        Digests::PassedOver
    };
    let mut playback = Playback::new(machine, reader, args.console.open()?, digests);
    let finish = run(
        &mut playback,
        args.console == Console::Stdio,
        &subject.reporter,
    )?;
    conclude(&subject, finish, playback, args.verify)
}

/// Replays to the end and shows how it gets on.
fn run(
    playback: &mut Playback<AnyEngine>,
    console_is_stdio: bool,
    reporter: &Reporter,
) -> anyhow::Result<Finish> {
    let begun = Instant::now();
    let bar = progress_bar(console_is_stdio);
    let mut shown = Instant::now();
    let finish = loop {
        if let Some(finish) = playback.advance(TURNS_AT_A_TIME)? {
            break finish;
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            show(&bar, &playback.progress(), begun.elapsed());
            shown = Instant::now();
        }
    };
    bar.finish_and_clear();
    let Progress {
        entries, guest_ns, ..
    } = playback.progress();
    let took = begun.elapsed();
    reporter.note(&format!(
        "replayed {entries} entries, {:.3} s of the guest's time in {:.3} s: {:.2} times its speed",
        guest_ns as f64 / 1e9,
        took.as_secs_f64(),
        guest_ns as f64 / 1e9 / took.as_secs_f64()
    ));
    Ok(finish)
}

/// A bar on the terminal, unless the guest's console is there.
fn progress_bar(console_is_stdio: bool) -> ProgressBar {
    let shares_terminal = console_is_stdio && std::io::stdout().is_terminal();
    if shares_terminal || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % of the log  {msg}");
    ProgressBar::new(1).with_style(style.expect("a template that indicatif takes"))
}

fn show(bar: &ProgressBar, progress: &Progress, took: Duration) {
    bar.set_length(progress.bytes_total);
    bar.set_position(progress.bytes_read);
    let guest_s = progress.guest_ns as f64 / 1e9;
    bar.set_message(format!(
        "at {}, {guest_s:.1} s of guest time, {:.2} times its speed",
        progress.at,
        guest_s / took.as_secs_f64()
    ));
}

fn conclude(
    subject: &Subject,
    finish: Finish,
    mut playback: Playback<AnyEngine>,
    verify: bool,
) -> anyhow::Result<ExitCode> {
    let reporter = &subject.reporter;
    match finish {
        Finish::Ended(ending) => {
            reporter.ended(&ending);
            Ok(ExitCode::SUCCESS)
        }
        Finish::LogEnds { at, digest, why } => {
            reporter.log_ended(at, &digest);
            match why {
                None => Ok(ExitCode::SUCCESS),
                Some(torn @ LogError::Torn { .. }) => {
                    reporter.note(&format!("its tail was cut off: {torn}"));
                    Ok(ExitCode::SUCCESS)
                }
                Some(damage) => Err(damage).context("All before was replayed, the rest cannot be"),
            }
        }
        Finish::Diverged(report) => {
            reporter.diverged(&report);
            if verify {
                let reader = open(&subject.log)?;
                let opinion = second_opinion::on_divergence(
                    playback.machine_mut(),
                    &subject.described,
                    reader,
                )?;
                reporter.opinion(&opinion);
            }
            Ok(HALTED.into())
        }
    }
}

/// Shows that a fault is found, and where.
fn inject(subject: &Subject, reader: LogReader, fault: Fault) -> anyhow::Result<ExitCode> {
    let found = second_opinion::on_fault(&subject.described, reader, fault)?;
    if let Some(report) = &found.report {
        subject.reporter.diverged(report);
    }
    if let Some(opinion) = &found.opinion {
        subject.reporter.opinion(opinion);
    }
    match (found.report, found.opinion) {
        (Some(_), _) => return Ok(HALTED.into()),
        (None, Some(_)) => subject.reporter.note(
            "the replay came to its log's end all the same: nothing that is compared was touched",
        ),
        (None, None) => subject.reporter.note("the fault left no trace"),
    }
    Ok(ExitCode::SUCCESS)
}
