//! `lockstep record`: a machine alone, and its log.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use logging_channel::log_file::{Keeper, LogHeader};
use vmm::{
    host::Role,
    session::{
        open_disks::DiskUser,
        playback::FileRecorder,
        reports::Reporter,
        setup::Prepared,
        solo::{self, InputTiming},
    },
};

use super::{
    block_on, boot_choices, live_args::LiveArgs, log_args::LogFormArgs, machine_args::MachineArgs,
    unless_quit,
};

/// Options of `lockstep record`.
#[derive(Args)]
pub struct RecordArgs {
    /// Write the log to this file
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    log: PathBuf,
    #[command(flatten)]
    form: LogFormArgs,
    /// Vary the timing of inputs at random, by this seed: for tests of replay
    #[arg(long, value_name = "NUMBER")]
    timing_seed: Option<u64>,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the machine and records it.
pub fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Solo, args.machine.event_sink()?);
    let disks = args.machine.open_disks(DiskUser::Alone, &reporter, None)?;
    let prepared = Prepared::new(&args.machine.config(&reporter, &disks)?)?;
    let boot = boot_choices()?;
    let header = LogHeader::new(prepared.identity().clone(), boot.clone(), Keeper::Record);
    let options = args.form.at(&args.log).log_options(&prepared);
    let recorder = FileRecorder::create(&args.log, &header, &options)?;
    let machine = prepared.boot(&boot)?;
    let _raw = args.machine.raw_terminal()?;
    let outcome = block_on(async {
        let mut world = args.machine.world(&disks)?;
        let session = solo::run(
            machine,
            &mut world,
            Some(Box::new(recorder)),
            InputTiming {
                late_limit: args.live.late_limit(),
                jitter_seed: args.timing_seed,
            },
        );
        if let Some(ending) = unless_quit(session.await)? {
            reporter.ended(&ending);
        }
        Ok(ExitCode::SUCCESS)
    });
    // However it ended: nobody else has anything to do with these disks.
    disks.disks.end_alone()?;
    outcome
}
