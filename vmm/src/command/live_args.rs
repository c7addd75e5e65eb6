//! Options of every command that runs a guest live.

use std::time::Duration;

use clap::Args;

/// How a live guest is treated.
#[derive(Args, Clone, Copy, Debug)]
pub struct LiveArgs {
    /// Under KVM, stop a guest that computes without exits when an input has waited for so long, milliseconds; 0 never does
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    late_input_limit: u64,
}

impl LiveArgs {
    /// How long an input waits; `None`: for ever.
    pub fn late_limit(self) -> Option<Duration> {
        (self.late_input_limit > 0).then(|| Duration::from_millis(self.late_input_limit))
    }
}
