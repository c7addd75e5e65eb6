//! `--log FILE` and what goes with it, for the commands that write a log.

use std::path::PathBuf;

use clap::Args;
use logging_channel::{
    identity::BootChoices,
    log_file::{Keeper, LogHeader, LogOptions},
};
use vmm::session::setup::Prepared;

use super::machine_args::parse_size;

/// How a log is kept.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogFormArgs {
    /// Begin another file, FILE.1, FILE.2 and so on, whenever one has this size, such as 64M; a replay reads them all
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "log")]
    pub log_rotate: Option<u64>,
    /// Keep kernel and initial RAM disk in the log: a replay needs no other file
    #[arg(long, requires = "log")]
    pub log_images: bool,
}

impl LogFormArgs {
    /// What is asked for, for this machine.
    pub fn options(&self, prepared: &Prepared) -> LogOptions {
        LogOptions {
            rotate_bytes: self.log_rotate,
            images: if self.log_images {
                prepared.log_images()
            } else {
                Vec::new()
            },
        }
    }
}

/// The log of one replica, if it keeps one.
#[derive(Args, Clone, Debug)]
pub struct BlackBoxArgs {
    /// Keep a log of this replica in this file: replay it to see what happened
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub log: Option<PathBuf>,
    #[command(flatten)]
    pub form: LogFormArgs,
}

/// The beginning of a log of this machine.
pub fn header(prepared: &Prepared, boot: &BootChoices, keeper: Keeper) -> LogHeader {
    LogHeader::new(prepared.identity().clone(), boot.clone(), keeper)
}
