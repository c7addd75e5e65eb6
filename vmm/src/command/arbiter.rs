//! `lockstep arbiter`: the TCP arbiter.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use arbiter::Store;
use clap::Args;
use tokio::net::TcpListener;
use vmm::host::Role;
use vmm::{host::EventSink, session::reports::Reporter};

use super::stop_signal;

/// How long the state file may be locked by somebody else.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of `lockstep arbiter`.
#[derive(Args)]
pub struct ArbiterArgs {
    /// Answer on this address, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// Keep the term in this file, which is made if it does not exist
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
}

/// Serves claims until it is stopped.
pub fn run(args: &ArbiterArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::Arbiter, EventSink::none());
    let store = Store::open(&args.state, LOCK_TIMEOUT)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("Cannot start the I/O thread")?
        .block_on(async {
            let listener = TcpListener::bind(&args.listen).await.with_context(|| {
                format!(
                    "Cannot listen on {}: is another arbiter running there?",
                    args.listen
                )
            })?;
            let stopped = async {
                stop_signal().await;
            };
            reporter.note(&format!("listening on {}", listener.local_addr()?));
            arbiter::serve(listener, store, stopped).await?;
            Ok(ExitCode::SUCCESS)
        })
}
