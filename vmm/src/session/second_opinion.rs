//! After a divergence: a second replay of the same log, to tell what differs.
//!
//! In: a machine that has parted from its log, or a fault to put into a replay. Out: an [`Opinion`]. What always holds: the log and the machine's
//! description alone decide what the second replay is; it has boot, memory and engine of its own.
//!
//! ```text
//!  the first replay parted at P ──► a second one, to its end ──┬─ the same state at P: this host repeats itself, the recording is what differs
//!                                                              └─ another: two replays are bisected to the first instruction at which they part
//! ```

use logging_channel::log_file::LogReader;

use super::{
    SessionError,
    bisect::{self, BisectError, Faulty, FirstDifference},
    divergence::DivergenceReport,
    fault::Fault,
    playback,
    replica::ReplicaError,
    time_travel::{Arrival, Described, Limits, Origin, TimeMachine},
};
use crate::{
    engine::AnyEngine,
    machine::{Machine, compare::StateDifference},
    symbols::Symbols,
};

/// What a second replay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It came to the same state at the same place.
    Repeats,
    /// It differs from the first, from here on.
    Unlike(Box<FirstDifference>),
    /// It came to another state, but where the two part could not be narrowed down: they do so at another place each time.
    Unsteady(StateDifference),
}

impl Opinion {
    /// The same with the names of functions.
    #[must_use]
    pub fn named(self, symbols: &Symbols) -> Self {
        match self {
            Self::Unlike(difference) => Self::Unlike(Box::new(difference.named(symbols))),
            other => other,
        }
    }
}

impl std::fmt::Display for Opinion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repeats => f.write_str(
                "a second replay parted in the same place and the same state: this host repeats itself, the recorded run was another, or its log was changed, since the last entry that agreed",
            ),
            Self::Unlike(difference) => write!(f, "two replays on this host part: {difference}"),
            Self::Unsteady(difference) => write!(
                f,
                "a second replay came to another state, and the place where it parts is another each time:\n    {}",
                difference.to_string().replace('\n', "\n    ")
            ),
        }
    }
}

fn unlike(first: FirstDifference) -> Opinion {
    Opinion::Unlike(Box::new(first))
}

fn travel(
    described: &Described,
    entries: &std::sync::Arc<[logging_channel::Entry]>,
) -> Result<TimeMachine<AnyEngine>, SessionError> {
    let machine = described.boot()?;
    let replay = TimeMachine::new(machine, entries.clone(), Some(Limits::default()));
    Ok(replay.with_origin(Box::new(described.clone())))
}

/// On a machine that has parted from the log that `reader` has just opened.
///
/// # Errors
/// If an engine fails, or memory for a second machine cannot be had.
pub fn on_divergence(
    parted: &mut Machine<AnyEngine>,
    described: &Described,
    reader: LogReader,
) -> Result<Opinion, SessionError> {
    let entries = playback::load(reader).entries;
    let mut second = travel(described, &entries)?;
    second.run_to_end().map_err(BisectError::from)?;
    let difference = StateDifference::between(parted, second.machine_mut());
    let Some(difference) = difference.map_err(ReplicaError::from)? else {
        return Ok(Opinion::Repeats);
    };
    let until = second.position();
    let mut third = travel(described, &entries)?;
    let first = bisect::first_difference(&mut second, &mut third, until)?;
    Ok(first.map_or(Opinion::Unsteady(difference), unlike))
}

/// What came of a fault.
pub struct Found {
    /// Where the replay noticed that it had parted; `None` if it came to its end all the same.
    pub report: Option<Box<DivergenceReport>>,
    /// Where it parts from one without the fault; `None` if both end alike.
    pub opinion: Option<Opinion>,
}

/// On a replay with `fault`, beside one without.
///
/// # Errors
/// If an engine fails, or the fault cannot be put in.
pub fn on_fault(
    described: &Described,
    reader: LogReader,
    fault: Fault,
) -> Result<Found, SessionError> {
    let entries = playback::load(reader).entries;
    let mut sound = travel(described, &entries)?;
    let mut faulty = Faulty::new(travel(described, &entries)?, fault);
    let report = match faulty.run_to_end()? {
        Arrival::Diverged(divergence) => {
            let report = DivergenceReport::new(divergence, faulty.replay().machine_mut());
            Some(Box::new(report.map_err(ReplicaError::from)?))
        }
        _ => None,
    };
    let until = faulty.replay().position();
    let first = bisect::first_difference(&mut sound, &mut faulty, until)?;
    Ok(Found {
        report,
        opinion: first.map(unlike),
    })
}
