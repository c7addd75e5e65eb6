//! The `lockstep` command.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::Command::parse().run() {
        Ok(code) => code,
        Err(error) => {
            vmm::host::say(&format!("lockstep: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
