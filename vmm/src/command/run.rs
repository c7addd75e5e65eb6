//! `lockstep run`: a machine alone.

use std::process::ExitCode;

use clap::Args;
use vmm::{
    host::Role,
    session::{
        open_disks::DiskUser,
        reports::Reporter,
        setup::Prepared,
        solo::{self, InputTiming},
    },
};

use super::{block_on, boot_choices, live_args::LiveArgs, machine_args::MachineArgs, unless_quit};

/// Options of `lockstep run`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the machine to its guest's end.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Solo, args.machine.event_sink()?);
    let disks = args.machine.open_disks(DiskUser::Alone, &reporter, None)?;
    let config = args.machine.config(&reporter, &disks)?;
    let machine = Prepared::new(&config)?.boot(&boot_choices()?)?;
    let _raw = args.machine.raw_terminal()?;
    let timing = InputTiming {
        late_limit: args.live.late_limit(),
        jitter_seed: None,
    };
    let outcome = block_on(async {
        let mut world = args.machine.world(&disks)?;
        if let Some(ending) = unless_quit(solo::run(machine, &mut world, None, timing).await)? {
            reporter.ended(&ending);
        }
        Ok(ExitCode::SUCCESS)
    });
    // However it ended: nobody else has anything to do with these disks.
    disks.disks.end_alone()?;
    outcome
}
