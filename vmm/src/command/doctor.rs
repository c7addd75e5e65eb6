//! `lockstep doctor`: what this host can do.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Args;
use vmm::doctor::{Diagnosis, Facts};

/// Options of `lockstep doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Looks, tries, measures, and prints what came of it.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let diagnosis = Diagnosis::of(Facts::gather());
    let text = if args.json {
        serde_json::to_string_pretty(&diagnosis).context("Cannot write the diagnosis")? + "\n"
    } else {
        diagnosis.to_string()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("Cannot print on standard output")?;
    Ok(ExitCode::SUCCESS)
}
