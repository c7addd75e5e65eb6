//! The command line: policy. What is done is the library's.

mod arbiter;
mod demo;
mod disk_server;
mod doctor;
mod inspect;
mod live_args;
mod log;
mod log_args;
mod machine_args;
mod pair;
mod record;
mod recorded_machine;
mod replay;
mod run;
mod symbol_args;

use std::{future::Future, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use logging_channel::identity::BootChoices;
use vmm::{
    host::unix_time_s,
    inputs::live::random_bytes,
    session::{Outcome, SessionError},
};

/// Exit code of a replica that may not go on: it lost its claim, or diverged.
const HALTED: u8 = 3;
/// Exit code where no pair was formed.
const REFUSED: u8 = 2;

/// A fault-tolerant hypervisor: a virtual machine that outlives its host.
#[derive(Parser)]
#[command(version, about)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a machine alone
    Run(run::RunArgs),
    /// Wait for a primary and be its backup
    Backup(pair::BackupArgs),
    /// Run a machine with a backup
    Primary(pair::PrimaryArgs),
    /// Decide which replica of a pair is live
    Arbiter(arbiter::ArbiterArgs),
    /// Serve disk images over NBD, and decide which replica may write them
    DiskServer(disk_server::DiskServerArgs),
    /// Show it: a pair on this host loses its primary, its client notices nothing
    Demo(demo::DemoArgs),
    /// Run a machine alone and record it
    Record(record::RecordArgs),
    /// Replay a recorded machine
    Replay(replay::ReplayArgs),
    /// Tell what is in a log: info, dump, stats, verify
    Log(log::LogArgs),
    /// Tell what this host can do, and which engine suits it
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Run(args) => run::run(&args),
            Verb::Backup(args) => pair::backup(&args),
            Verb::Primary(args) => pair::primary(&args),
            Verb::Arbiter(args) => arbiter::run(&args),
            Verb::DiskServer(args) => disk_server::run(&args),
            Verb::Demo(args) => demo::run(&args),
            Verb::Record(args) => record::record(&args),
            Verb::Replay(args) => replay::replay(&args),
            Verb::Log(args) => log::run(&args),
            Verb::Doctor(args) => doctor::run(&args),
        }
    }
}

/// Runs a session until it ends or somebody stops it.
fn block_on<T>(session: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("Cannot start the I/O thread")?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = session => outcome,
            signal = stop_signal() => Err(anyhow::anyhow!("stopped by {signal}")),
        }
    });
    // Threads that still wait for input must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "SIGINT",
        _ = terminated => "SIGTERM",
    }
}

/// What a new machine starts from.
fn boot_choices() -> anyhow::Result<BootChoices> {
    let mut rng_seed = [0; 32];
    rng_seed.copy_from_slice(&random_bytes(32)?);
    Ok(BootChoices {
        unix_time_s: unix_time_s(),
        rng_seed,
    })
}

/// The exit code for an outcome, which has been told already.
fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::Ended(_) => ExitCode::SUCCESS,
        Outcome::Refused { .. } => REFUSED.into(),
        Outcome::Halted { .. } => HALTED.into(),
    }
}

/// Quitting from the console is no failure.
fn unless_quit<T>(result: Result<T, SessionError>) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SessionError::Quit) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
