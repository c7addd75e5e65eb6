//! `lockstep demo`: a pair on this host loses its primary, and its client does not notice.
//!
//! Rounds are played by [`vmm::demo`]; this file finds the guest, shows how far a round is, and prints what came of it.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use vmm::demo::{
    ArbiterKind, DiskAccess, DiskContents, Evidence, Guest, Images, Network, Report, RigDisk,
    RigOptions, RoundReport,
    disk_image::{self, FileSystem},
    images::Recipe,
    round::{self, Round, Stage},
    with_causes,
};
use vmm::{doctor::Choice, session::disk_config::Reads};

use super::{block_on, machine_args::EngineArg};

/// How often the progress is drawn on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is told elsewhere, if nothing else is to be told.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Room for a journal of some hundred thousand records.
const DISK_BYTES: u64 = 64 << 20;

/// Options of `lockstep demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// What runs in the pair
    #[arg(long, value_enum, default_value = "linux")]
    guest: GuestArg,
    /// What runs the guest
    #[arg(long, value_enum, default_value_t)]
    engine: EngineArg,
    /// Kill the primary after so many seconds of answers, and go on for as long again [default: linux 10, bare 3]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    kill_after: Option<Duration>,
    /// Do it again, with fresh processes, until it was done so often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Give the pair a disk on a disk server, which is the arbiter as well, and have a second client append records to the guest's journal: all
    /// that were durable must be on the disk when the guest has shut down
    #[arg(long)]
    disk: bool,
    /// How the replicas come to the disk
    #[arg(long, value_enum, requires = "disk", default_value = "server")]
    disk_access: DiskAccessArg,
    /// How a backup learns what the guest has read from the disk
    #[arg(long, value_enum, requires = "disk", default_value = "log")]
    reads: ReadsArg,
    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Suspect a replica that was silent for so many milliseconds [default: that of `lockstep primary`]: a host that is too busy for a pair
    /// needs more
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=600_000))]
    failure_timeout: Option<u64>,
    /// Let the client's TCP send again after so many milliseconds, not Linux's 200: what was on its way to the primary when it was killed
    /// is lost, and the first answer waits for that
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rto_min: Option<u64>,
    /// Make the guest by the recipes in this folder [default: guest-images/ here, or further up]
    #[arg(long, value_name = "DIR", conflicts_with = "kernel")]
    images: Option<PathBuf>,
    /// The guest's kernel, instead of making one
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The guest's initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The guest's command line; its address is appended
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    cmdline: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum GuestArg {
    /// Linux with `counterd`
    Linux,
    /// A bare-metal guest, which boots at once
    Bare,
}

#[derive(Clone, Copy, ValueEnum)]
enum DiskAccessArg {
    /// A disk server, which no primary that was taken over from can write to
    Server,
    /// One file, which nobody guards, and an arbiter of its own
    File,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReadsArg {
    /// From the log
    Log,
    /// It reads the disk itself
    #[value(name = "self")]
    SelfRead,
}

impl DemoArgs {
    /// The pair's disk, if there is to be one and there can be.
    fn disk(&self) -> anyhow::Result<Option<RigDisk>> {
        if !self.disk {
            return Ok(None);
        }
        anyhow::ensure!(
            matches!(self.guest, GuestArg::Linux),
            "Only the linux guest has a journal: leave out --guest or --disk"
        );
        disk_image::expect_programs()?;
        let reads = match self.reads {
            ReadsArg::Log => Reads::Log,
            ReadsArg::SelfRead => Reads::SelfRead,
        };
        Ok(Some(RigDisk {
            contents: DiskContents::FileSystem {
                kind: FileSystem::Ext4,
                bytes: DISK_BYTES,
            },
            access: match self.disk_access {
                DiskAccessArg::Server => DiskAccess::Server { reads },
                DiskAccessArg::File => DiskAccess::File { reads },
            },
            folder: None,
            primary_fault: None,
            timeout_s: None,
        }))
    }

    fn guest(&self) -> Guest {
        match self.guest {
            GuestArg::Linux => Guest::Linux,
            GuestArg::Bare => Guest::Bare,
        }
    }

    fn kill_after(&self) -> Duration {
        self.kill_after.unwrap_or(match self.guest {
            GuestArg::Linux => Duration::from_secs(10),
            GuestArg::Bare => Duration::from_secs(3),
        })
    }
}

/// Plays all rounds and tells what came of them.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    // Before a kernel is built for minutes: can there be a network for the pair?
    drop(Network::enter()?);
    let disk = args.disk()?;
    block_on(async {
        let mut hangup = signal(SignalKind::hangup()).context("Cannot watch for SIGHUP")?;
        tokio::select! {
            done = play_all(args, disk) => done,
            _ = hangup.recv() => Err(anyhow::anyhow!("stopped by SIGHUP")),
        }
    })
}

async fn play_all(args: &DemoArgs, disk: Option<RigDisk>) -> anyhow::Result<ExitCode> {
    // Once for both replicas: they must agree.
    let Choice { engine, why } = args.engine.resolve();
    tell(&format!("engine {engine}: {why}"));
    let options = RigOptions {
        program: std::env::current_exe().context("Cannot find this program's file")?,
        images: images(args).await?,
        engine,
        arbiter: ArbiterKind::Tcp,
        disk,
        failure_timeout: args.failure_timeout.map(Duration::from_millis),
        retransmit_after: args.rto_min.map(Duration::from_millis),
    };
    let mut report = Report::new(engine.name(), args.guest(), options.disk.as_ref());
    for number in 1..=args.rounds {
        let title = if args.rounds > 1 {
            format!("round {number}/{}: ", args.rounds)
        } else {
            String::new()
        };
        let round = play(&title, args, options.clone()).await;
        tell_evidence(&round.evidence);
        match round.result {
            Ok(round) => {
                let text = format!("{title}{}\n{round}", report.title());
                if args.json {
                    tell(&text);
                } else {
                    print(&text)?;
                }
                report.rounds.push(round);
            }
            Err(error) => {
                report.error = Some(with_causes(&error));
                break;
            }
        }
    }
    report.passed = report.error.is_none() && report.rounds.iter().all(RoundReport::passed);
    conclude(args, &report)
}

/// The guest's files, built if they must be.
async fn images(args: &DemoArgs) -> anyhow::Result<Images> {
    if let Some(kernel) = &args.kernel {
        return Ok(Images::named(
            args.guest(),
            kernel.clone(),
            args.initrd.clone(),
            &args.cmdline,
        ));
    }
    let recipe = match &args.images {
        Some(folder) => Recipe::in_folder(args.guest(), folder)?,
        None => {
            let places = [std::env::current_dir(), std::env::current_exe()];
            Recipe::find(
                args.guest(),
                &places.into_iter().flatten().collect::<Vec<_>>(),
            )?
        }
    };
    tell(&format!(
        "making the {} guest: {}",
        args.guest(),
        recipe.script().display()
    ));
    Ok(recipe.make().await?)
}

/// Plays a round, and shows meanwhile how far it is.
async fn play(title: &str, args: &DemoArgs, options: RigOptions) -> Round {
    let (sender, stages) = watch::channel(Stage::Starting);
    let round = {
        let progress = Progress::new(title, args.guest(), stages);
        tokio::select! {
            round = round::play(options, args.kill_after(), &sender) => round,
            () = progress.show() => unreachable!("progress is shown until the round ends"),
        }
    };
    if std::io::stderr().is_terminal() {
        write_stderr("\r\x1b[K");
    }
    round
}

/// Prints the summary, and says by the exit code whether all went well.
fn conclude(args: &DemoArgs, report: &Report) -> anyhow::Result<ExitCode> {
    if args.json {
        print(&serde_json::to_string_pretty(report).context("Cannot write the report")?)?;
    } else if report.rounds.len() > 1 {
        print(&format!("\n{report}"))?;
    }
    match &report.error {
        Some(error) => Err(anyhow::anyhow!("{error}")),
        None if report.passed => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

/// On standard output.
fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("Cannot print on standard output")
}

fn tell_evidence(evidence: &[Evidence]) {
    for Evidence { name, tail } in evidence {
        tell(&format!("--- the end of {name}\n{tail}"));
    }
    if !evidence.is_empty() {
        tell("---");
    }
}

/// How far a round is, on standard error: one line drawn again and again on a terminal, else a line now and then.
struct Progress<'a> {
    title: &'a str,
    guest: Guest,
    stages: watch::Receiver<Stage>,
    terminal: bool,
    stage_begun: Instant,
    told: Option<(std::mem::Discriminant<Stage>, Instant)>,
    /// Answers, counted at the beginning of the present second and the one before.
    counted: [(Instant, u64); 2],
}

impl<'a> Progress<'a> {
    fn new(title: &'a str, guest: Guest, stages: watch::Receiver<Stage>) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self {
            title,
            guest,
            stages,
            terminal,
            stage_begun: now,
            told: None,
            counted: [(now, 0); 2],
        }
    }

    /// Never returns.
    async fn show(mut self) {
        let mut stage = std::mem::discriminant(&Stage::Starting);
        loop {
            let now = *self.stages.borrow();
            if std::mem::replace(&mut stage, std::mem::discriminant(&now)) != stage {
                self.stage_begun = Instant::now();
            }
            let line = self.line(now);
            self.draw(stage, &line);
            tokio::time::sleep(DRAW_INTERVAL).await;
        }
    }

    fn draw(&mut self, stage: std::mem::Discriminant<Stage>, line: &str) {
        if self.terminal {
            write_stderr(&format!("\r\x1b[K{}{line}", self.title));
            return;
        }
        let told_already = self
            .told
            .is_some_and(|(told, at)| told == stage && at.elapsed() < TELL_INTERVAL);
        if !told_already {
            self.told = Some((stage, Instant::now()));
            tell(&format!("{}{line}", self.title));
        }
    }

    fn line(&mut self, stage: Stage) -> String {
        let elapsed_s = self.stage_begun.elapsed().as_secs();
        match stage {
            Stage::Starting => format!("starting arbiter, backup and primary, {elapsed_s} s"),
            Stage::Booting => format!("the {} guest boots on both, {elapsed_s} s", self.guest),
            Stage::Connecting => format!("connecting to the guest's service, {elapsed_s} s"),
            Stage::BeforeKill {
                answers,
                durable,
                until,
            } => {
                let rate = self.rate(answers);
                let durable = records(durable);
                format!(
                    "{answers} answers, {rate}/s{durable}; the primary will be killed in {:.1} s",
                    seconds_until(until)
                )
            }
            Stage::AfterKill {
                answers,
                durable,
                until,
            } => {
                let rate = self.rate(answers);
                let durable = records(durable);
                format!(
                    "primary killed; {answers} answers, {rate}/s{durable}; {:.1} s to go",
                    seconds_until(until)
                )
            }
            Stage::Draining => "waiting for the last answers".into(),
            Stage::ShuttingDown => format!("the guest shuts down, {elapsed_s} s"),
        }
    }

    /// Answers a second, over the last second or two.
    fn rate(&mut self, answers: u64) -> u64 {
        let now = Instant::now();
        if now - self.counted[1].0 >= Duration::from_secs(1) {
            self.counted = [self.counted[1], (now, answers)];
        }
        let (since, before) = self.counted[0];
        let elapsed = (now - since).as_secs_f64().max(DRAW_INTERVAL.as_secs_f64());
        (answers.saturating_sub(before) as f64 / elapsed) as u64
    }
}

fn tell(text: &str) {
    write_stderr(&format!("{text}\n"));
}

/// A standard error that nobody reads is no reason to stop.
fn write_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn records(durable: Option<u64>) -> String {
    durable.map_or_else(String::new, |durable| {
        format!(", {durable} durable records")
    })
}

fn seconds_until(instant: Instant) -> f64 {
    instant
        .saturating_duration_since(Instant::now())
        .as_secs_f64()
}

/// Seconds, with a fraction if need be.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    const MAX_SECONDS: f64 = 86_400.0;
    let wrong = || {
        format!("{text:?} is not a number of seconds between 0 and {MAX_SECONDS}, such as 3 or 0.5")
    };
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.0..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_seconds("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "-1", "x", "NaN", "inf", "1e9"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
