//! `lockstep record` and `lockstep replay`: a machine alone, and the same again from its log.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use vmm::{
    host::Role,
    session::{
        SessionError,
        playback::{self, FileRecorder},
        replica::ReplicaError,
        reports::Reporter,
        setup::Prepared,
        solo,
    },
};

use super::{HALTED, block_on, boot_choices, machine_args::MachineArgs, unless_quit};

/// Options of `lockstep record`.
#[derive(Args)]
pub struct RecordArgs {
    /// Write the log to this file
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Vary the timing of inputs at random, by this seed: for tests of replay
    #[arg(long, value_name = "NUMBER")]
    timing_seed: Option<u64>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Options of `lockstep replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// The log to replay
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the machine and records it.
pub fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Solo, args.machine.event_sink()?);
    let prepared = Prepared::new(&args.machine.config(&reporter))?;
    let boot = boot_choices()?;
    let recorder = FileRecorder::create(&args.log, prepared.identity().clone(), boot.clone())?;
    let machine = prepared.boot(&boot)?;
    let _raw = args.machine.raw_terminal()?;
    block_on(async {
        let mut world = args.machine.world()?;
        let session = solo::run(
            machine,
            &mut world,
            Some(Box::new(recorder)),
            args.timing_seed,
        );
        if let Some(ending) = unless_quit(session.await)? {
            reporter.ended(&ending);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Replays a recorded machine, and compares.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Replay, args.machine.event_sink()?);
    let reader = playback::open(&args.log)?;
    let prepared = Prepared::new(&args.machine.config(&reporter))?;
    let differences = reader.header().identity.mismatches(prepared.identity());
    if !differences.is_empty() {
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        bail!(
            "{} was recorded on another machine: {}",
            args.log.display(),
            differences.join("; ")
        );
    }
    let machine = prepared.boot(&reader.header().boot)?;
    let replayed = playback::replay(machine, reader, args.machine.console.open()?);
    let ending = match replayed {
        Err(SessionError::Replica(ReplicaError::Diverged(report))) => {
            reporter.diverged(&report);
            return Ok(HALTED.into());
        }
        ending => ending?,
    };
    reporter.ended(&ending);
    Ok(ExitCode::SUCCESS)
}
