//! `lockstep primary` and `lockstep backup`: the two replicas of a pair.

use std::{process::ExitCode, sync::Arc, time::Duration};

use arbiter::Arbiter;
use clap::Args;
use logging_channel::{
    protocol::{Limits, Report, Timing},
    transport::{self, Connection},
};
use vmm::{
    host::Role,
    session::{
        Outcome, PairOptions, SessionError,
        backup::{self, Served},
        disk_fault::DiskFault,
        fault::Fault,
        open_disks::{DiskUser, OpenDisks},
        primary,
        reports::Reporter,
        setup::Prepared,
    },
};

use super::{
    block_on, boot_choices, exit_code, live_args::LiveArgs, log_args::BlackBoxArgs,
    machine_args::MachineArgs, symbol_args::SymbolArgs, unless_quit,
};

/// What both replicas are told about the pair.
#[derive(Args)]
struct PairArgs {
    /// Who decides which replica is live: file:PATH on a shared disk, or tcp:HOST:PORT
    #[arg(long, value_name = "ARB")]
    arbiter: arbiter::Address,
    /// Suspect a peer that was silent for this long, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=600_000))]
    failure_timeout: u64,
    /// Kill or stop this replica at a point of a disk request's way, to see what becomes of the request: POINT:COUNT:kill or POINT:COUNT:stop
    #[arg(long, value_name = "FAULT", hide_short_help = true)]
    disk_fault: Option<DiskFault>,
    #[command(flatten)]
    live: LiveArgs,
}

/// Options of `lockstep primary`.
#[derive(Args)]
pub struct PrimaryArgs {
    /// Where the backup listens, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    backup: String,
    /// Look for the backup for so long, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    connect_timeout: u64,
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    black_box: BlackBoxArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Options of `lockstep backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// Wait for the primary on this address, HOST:PORT (TCP, and UDP for heartbeats)
    #[arg(long, value_name = "ADDR")]
    listen: String,
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    black_box: BlackBoxArgs,
    /// Put a fault into this replica, to see it found: memory:ADDRESS.BIT@POSITION or REGISTER.BIT@POSITION, at the next exit or entry from there on
    #[arg(long, value_name = "FAULT", hide_short_help = true)]
    inject: Option<Fault>,
    #[command(flatten)]
    symbols: SymbolArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl PairArgs {
    fn open_disks(
        &self,
        machine: &MachineArgs,
        black_box: &BlackBoxArgs,
        user: DiskUser,
        reporter: &Reporter,
    ) -> anyhow::Result<OpenDisks> {
        let disks = machine.open_disks(user, reporter, self.disk_fault.clone())?;
        if black_box.options().is_some() && disks.disks.is_any_apart() {
            anyhow::bail!(
                "--log keeps a log that can be replayed, and with reads=self or private that log lacks what the disks read: give reads=log, or no --log"
            );
        }
        Ok(disks)
    }

    fn options(
        &self,
        reporter: Reporter,
        black_box: &BlackBoxArgs,
        connect_timeout: Duration,
    ) -> PairOptions {
        PairOptions {
            arbiter: Arc::new(Arbiter::new(self.arbiter.clone())),
            timing: Timing::with_failure_timeout(Duration::from_millis(self.failure_timeout)),
            limits: Limits::default(),
            late_limit: self.live.late_limit(),
            connect_timeout,
            log: black_box.options(),
            fault: None,
            reporter,
        }
    }
}

/// Runs a machine with a backup.
pub fn primary(args: &PrimaryArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Primary, args.machine.event_sink()?);
    let disks =
        args.pair
            .open_disks(&args.machine, &args.black_box, DiskUser::Primary, &reporter)?;
    let prepared = Prepared::new(&args.machine.config(&reporter, &disks)?)?;
    let boot = boot_choices()?;
    let _raw = args.machine.raw_terminal()?;
    let options = args.pair.options(
        reporter.clone(),
        &args.black_box,
        Duration::from_secs(args.connect_timeout),
    );
    block_on(async {
        let mut world = args.machine.world(&disks)?;
        finish(
            &reporter,
            primary::run(prepared, boot, &args.backup, &mut world, options).await,
        )
    })
}

/// Waits for a primary and is its backup.
pub fn backup(args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Backup, args.machine.event_sink()?);
    let disks =
        args.pair
            .open_disks(&args.machine, &args.black_box, DiskUser::Backup, &reporter)?;
    let mut prepared = Prepared::new(&args.machine.config(&reporter, &disks)?)?;
    let symbols = args.symbols.read(&prepared)?;
    let reporter = reporter.with_symbols(symbols);
    let _raw = args.machine.raw_terminal()?;
    let options = PairOptions {
        fault: args.inject,
        ..args
            .pair
            .options(reporter.clone(), &args.black_box, Duration::ZERO)
    };
    block_on(async {
        let mut world = args.machine.world(&disks)?;
        loop {
            let connection = accept(&args.listen, &reporter).await?;
            match backup::run(prepared, connection, &mut world, options.clone()).await {
                Ok(Served::Session(outcome)) => return finish(&reporter, Ok(outcome)),
                Ok(Served::NoPair {
                    prepared: machine,
                    reason,
                }) => {
                    reporter.note(&format!("no pair: {reason}"));
                    prepared = *machine;
                }
                Err(error) => return finish(&reporter, Err(error)),
            }
        }
    })
}

/// Waits for a primary. Nobody else can connect while it is served: whoever starts a second pair here by mistake is refused
/// before it moves the arbiter's term.
async fn accept(address: &str, reporter: &Reporter) -> anyhow::Result<Connection> {
    let listener = transport::listen(address).await?;
    reporter.note(&format!(
        "waiting for the primary on {}",
        listener.local_addr()
    ));
    Ok(listener.accept().await?)
}

/// Every outcome but the guest's end has been told by the protocol's reports.
fn finish(reporter: &Reporter, result: Result<Outcome, SessionError>) -> anyhow::Result<ExitCode> {
    let result = match result {
        Err(SessionError::CutOff(reason)) => {
            reporter.report(&Report::Halted {
                reason: reason.clone(),
            });
            Ok(Outcome::Halted { reason })
        }
        result => result,
    };
    let Some(outcome) = unless_quit(result)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if let Outcome::Ended(ending) = &outcome {
        reporter.ended(ending);
    }
    Ok(exit_code(&outcome))
}
