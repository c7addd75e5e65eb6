//! `monitor COMMAND`: what a replay can do and gdb has no words for.

use logging_channel::Position;

use super::target::{Debugged, looked};
use crate::{
    engine::{Checkpoint, Inspect},
    session::time_travel::{Arrival, TravelError},
};

const HELP: &str = "\
monitor position         where the machine stands: exits since boot + instructions since the last one
monitor goto POSITION    goes there, such as 6297+120; then: maintenance flush register-cache
monitor registers        all registers, control registers and segments included
monitor digest           digest of registers, devices and all of memory, as in `replay --until`
";

impl<E: Checkpoint + Inspect> Debugged<E> {
    /// The answer to a command.
    pub(super) fn monitor(&mut self, command: &str) -> Result<String, TravelError> {
        let words: Vec<&str> = command.split_whitespace().collect();
        Ok(match words[..] {
            ["position"] => self.whereabouts(),
            ["goto", position] => match position.parse() {
                Ok(position) => self.go_to(position)?,
                Err(error) => format!("{error}\n"),
            },
            ["registers"] => {
                let view = looked(self.replay.machine_mut().view())?;
                format!("{view}\n")
            }
            ["digest"] => {
                let digest = looked(self.replay.machine_mut().full_digest())?;
                format!("{digest}\n")
            }
            _ => HELP.to_owned(),
        })
    }

    fn whereabouts(&self) -> String {
        let at = self.replay.position();
        let why = match self.replay.stopped() {
            Some(Arrival::Ended(ending)) => {
                format!(", where the guest ended ({:?})", ending.reason)
            }
            Some(Arrival::LogEnds) => ", where the log ends".to_owned(),
            Some(Arrival::Diverged(divergence)) => format!("\n{divergence}"),
            Some(Arrival::Reached | Arrival::Passed) | None => String::new(),
        };
        format!("{at}{why}\n")
    }

    fn go_to(&mut self, position: Position) -> Result<String, TravelError> {
        let arrival = self.replay.run_to(position)?;
        self.replay.settle()?;
        self.print();
        let not_there = match arrival {
            Arrival::Passed => format!("there is no position {position}: the next one is "),
            _ => String::new(),
        };
        Ok(format!("{not_there}{}", self.whereabouts()))
    }
}
