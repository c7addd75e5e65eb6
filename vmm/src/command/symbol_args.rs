//! `--system-map`: where the names of guest addresses come from, for the commands that report any.

use std::path::PathBuf;

use clap::Args;
use vmm::{session::setup::Prepared, symbols::Symbols};

/// Names of guest addresses.
#[derive(Args, Clone, Debug)]
pub struct SymbolArgs {
    /// Name guest addresses in reports by this System.map [default: the symbols of the kernel's ELF file, if it has them]
    #[arg(long, value_name = "FILE")]
    system_map: Option<PathBuf>,
}

impl SymbolArgs {
    /// The names for this machine.
    pub fn read(&self, prepared: &Prepared) -> anyhow::Result<Symbols> {
        Ok(match &self.system_map {
            Some(path) => Symbols::read_system_map(path)?,
            None => prepared.symbols(),
        })
    }
}
