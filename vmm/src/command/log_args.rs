//! `--log FILE` and what goes with it, for the commands that write a log.

use std::path::{Path, PathBuf};

use clap::Args;
use vmm::session::black_box::BlackBoxOptions;

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
    /// A log in this file.
    pub fn at(&self, path: &Path) -> BlackBoxOptions {
        BlackBoxOptions {
            path: path.to_owned(),
            rotate_bytes: self.log_rotate,
            with_images: self.log_images,
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

impl BlackBoxArgs {
    /// The log, if one is asked for.
    pub fn options(&self) -> Option<BlackBoxOptions> {
        self.log.as_deref().map(|path| self.form.at(path))
    }
}
