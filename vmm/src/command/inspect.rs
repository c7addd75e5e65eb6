//! `lockstep replay --until POSITION` and `--gdb ADDR`: a replay that stops, to be looked at.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::bail;
use logging_channel::{Entry, Position, log_file::LogReader};
use vmm::{
    engine::AnyEngine,
    gdb,
    host::ConsoleOutput,
    machine::Machine,
    session::{
        divergence::DivergenceReport,
        playback::{self, LoadedLog},
        reports::Reporter,
        time_travel::{Arrival, Limits, TimeMachine},
    },
};

use super::HALTED;

/// Instructions between two looks at what the guest has printed.
const SLICE_INSTRUCTIONS: u64 = 20_000_000;

/// The whole log, as far as it is good.
fn entries(reader: LogReader, reporter: &Reporter) -> Arc<[Entry]> {
    let LoadedLog { entries, cut } = playback::load(reader);
    if let Some(cut) = cut {
        reporter.note(&format!("{cut}; what is before it is replayed"));
    }
    entries
}

/// Replays up to `until` and tells what the machine is there.
pub fn until(
    machine: Machine<AnyEngine>,
    reader: LogReader,
    until: Position,
    mut console: ConsoleOutput,
    reporter: &Reporter,
) -> anyhow::Result<ExitCode> {
    let mut replay = TimeMachine::new(machine, entries(reader, reporter), None);
    let arrival = loop {
        let arrival = replay.advance(until, SLICE_INSTRUCTIONS)?;
        // The console is a convenience here; that it cannot be written changes nothing in the replay.
        drop(console.write(&replay.take_printed()));
        if let Some(arrival) = arrival {
            break arrival;
        }
    };
    if let Arrival::Diverged(divergence) = arrival {
        let report = DivergenceReport::new(divergence, replay.machine_mut())?;
        reporter.diverged(&report);
        return Ok(HALTED.into());
    }
    let at = replay.position();
    reporter.stopped(at, &replay.machine_mut().inspect()?);
    match arrival {
        Arrival::Reached => Ok(ExitCode::SUCCESS),
        Arrival::Passed => bail!(
            "There is no position {until} on this clock: the next one is {at}, where the replay stopped"
        ),
        Arrival::Ended(_) => bail!("The guest ended at {at}, before {until}"),
        Arrival::LogEnds => bail!("The log ends at {at}, before {until}"),
        Arrival::Diverged(_) => unreachable!("told above"),
    }
}

/// Lets a debugger go to and fro in the log.
pub fn debug(
    mut machine: Machine<AnyEngine>,
    reader: LogReader,
    address: SocketAddr,
    console: ConsoleOutput,
    reporter: &Reporter,
) -> anyhow::Result<ExitCode> {
    if !machine.set_breakpoints(&[0]) {
        bail!("A debugger needs an engine that stops anywhere: record with --engine soft");
    }
    machine.set_breakpoints(&[]);
    let entries = entries(reader, reporter);
    let replay = TimeMachine::new(machine, entries, Some(Limits::default()));
    let listener = gdb::Listener::bind(address)?;
    reporter.note(&format!(
        "waiting for a debugger: gdb -ex 'target remote {}'",
        listener.address()
    ));
    gdb::serve(&listener, replay, console)?;
    Ok(ExitCode::SUCCESS)
}

/// `HOST:PORT`, or a port on this host's loopback.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    use std::net::{Ipv4Addr, ToSocketAddrs};
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let wrong = || format!("{text:?} is no address: give HOST:PORT, or a port such as 1234");
    let mut found = text.to_socket_addrs().map_err(|_| wrong())?;
    found.next().ok_or_else(wrong)
}
