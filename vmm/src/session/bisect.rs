//! The first instruction at which two replays of one log part, by bisecting.
//!
//! In: two [`Subject`]s that can go to any position, alike at the log's beginning, and a position at which they differ or one of them is no more. Out: the
//! last moment at which both are alike, the next one, and in what they differ there. What always holds: every answer comes from two machines
//! that stand at the same position; nothing is concluded from digests.
//!
//! ```text
//!  exits:         alike ─────── e ──┬── e+1 ──────── differ        O(log exits) comparisons
//!  instructions:                e+0 … e+n ┬ e+n+1 … e+1            O(log instructions), where the engine stops there
//! ```

use std::fmt;

use logging_channel::Position;

use super::{
    fault::{Fault, FaultError},
    time_travel::{Arrival, TimeMachine, TravelError},
};
use crate::{
    engine::{AnyEngine, Checkpoint, CpuMode, Engine, EngineError, Registers},
    machine::{Machine, compare::StateDifference},
    symbols::Symbols,
};

/// Bisecting failed.
#[derive(Debug, thiserror::Error)]
pub enum BisectError {
    /// See [`TravelError`].
    #[error(transparent)]
    Travel(#[from] TravelError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`FaultError`].
    #[error(transparent)]
    Fault(#[from] FaultError),
}

/// A replay that goes anywhere.
pub trait Subject<E: Engine> {
    /// Goes to the arrival at `to`; `false` if there is no such moment.
    ///
    /// # Errors
    /// See [`BisectError`].
    fn go_to(&mut self, to: Position) -> Result<bool, BisectError>;

    /// The machine as it stands.
    fn machine(&mut self) -> &mut Machine<E>;
}

impl<E: Engine + Checkpoint> Subject<E> for TimeMachine<E> {
    fn go_to(&mut self, to: Position) -> Result<bool, BisectError> {
        Ok(self.run_to(to)? == Arrival::Reached)
    }

    fn machine(&mut self) -> &mut Machine<E> {
        self.machine_mut()
    }
}

/// A replay into which a fault is put whenever it comes by.
pub struct Faulty {
    replay: TimeMachine<AnyEngine>,
    fault: Fault,
    /// The machine stands behind the fault, with it.
    injected: bool,
}

impl Faulty {
    /// `replay` with `fault`.
    #[must_use]
    pub fn new(replay: TimeMachine<AnyEngine>, fault: Fault) -> Self {
        Self {
            replay,
            fault,
            injected: false,
        }
    }

    /// Goes on to the end, wherever that is, and says where and why.
    ///
    /// # Errors
    /// See [`BisectError`].
    pub fn run_to_end(&mut self) -> Result<Arrival, BisectError> {
        self.come_by()?;
        Ok(self.replay.run_to_end()?)
    }

    /// The replay itself.
    pub fn replay(&mut self) -> &mut TimeMachine<AnyEngine> {
        &mut self.replay
    }

    /// Goes to the fault, if it is not behind it already.
    fn come_by(&mut self) -> Result<(), BisectError> {
        if self.injected {
            return Ok(());
        }
        let at = self.fault.at;
        if at == Position::default() {
            return Err(FaultError::AtTheBeginning.into());
        }
        if self.replay.run_to(at)? != Arrival::Reached {
            let next = self.replay.position();
            return Err(FaultError::NoPosition { at, next }.into());
        }
        self.fault.inject(self.replay.machine_mut())?;
        self.injected = true;
        Ok(())
    }
}

impl Subject<AnyEngine> for Faulty {
    fn go_to(&mut self, to: Position) -> Result<bool, BisectError> {
        if to < self.replay.position() && self.injected {
            // Every earlier state is one from before the fault, or is come to through it again.
            self.replay.run_to(before(self.fault.at))?;
            self.injected = false;
        }
        if to >= self.fault.at {
            self.come_by()?;
        }
        if to == self.replay.position() {
            return Ok(true);
        }
        Ok(self.replay.run_to(to)? == Arrival::Reached)
    }

    fn machine(&mut self) -> &mut Machine<AnyEngine> {
        self.replay.machine_mut()
    }
}

/// A position before `at`, unless that is the first.
fn before(at: Position) -> Position {
    match at {
        Position {
            exits,
            instructions: 0,
        } => Position {
            exits: exits.saturating_sub(1),
            instructions: 0,
        },
        Position {
            exits,
            instructions,
        } => Position {
            exits,
            instructions: instructions - 1,
        },
    }
}

/// Where two replays part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstDifference {
    /// The last position known at which they were alike. What happened between it and [`Self::at`] made the difference.
    pub alike_at: Position,
    /// The next position, at which they differ. On a clock of exits it is an exit later, else an instruction or an exit.
    pub at: Position,
    /// The first one's registers where they were alike.
    pub registers: Registers,
    /// What kind of code was to be executed there.
    pub mode: CpuMode,
    /// Its function, where symbols are known.
    pub symbol: Option<String>,
    /// In what they differ at [`Self::at`]; `None` if only one of them gets there.
    pub difference: Option<StateDifference>,
}

impl FirstDifference {
    /// The same with the name of the function, if `symbols` has one.
    #[must_use]
    pub fn named(mut self, symbols: &Symbols) -> Self {
        self.symbol = symbols.name(self.registers.rip);
        self
    }
}

impl fmt::Display for FirstDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alike_at, at, .. } = self;
        write!(f, "alike at {alike_at} (RIP {:#x}", self.registers.rip)?;
        if let Some(symbol) = &self.symbol {
            write!(f, ", {symbol}")?;
        }
        write!(f, ", {}), different at {at}:", self.mode)?;
        match &self.difference {
            Some(difference) => {
                let lines = difference.to_string();
                lines.lines().try_for_each(|line| write!(f, "\n    {line}"))
            }
            None => write!(f, " only one of them gets there"),
        }
    }
}

/// How two subjects are at some position.
enum Verdict {
    Alike,
    Differ(Option<StateDifference>),
    /// Neither gets there.
    Nowhere,
}

/// Two replays and what is known of them.
struct Pair<'a, A, B> {
    expected: &'a mut A,
    actual: &'a mut B,
}

impl<A, B> Pair<'_, A, B> {
    fn compare<E: Engine>(&mut self, at: Position) -> Result<Verdict, BisectError>
    where
        A: Subject<E>,
        B: Subject<E>,
    {
        let arrived = (self.expected.go_to(at)?, self.actual.go_to(at)?);
        if arrived == (false, false) {
            return Ok(Verdict::Nowhere);
        }
        if arrived != (true, true) {
            return Ok(Verdict::Differ(None));
        }
        let difference = StateDifference::between(self.expected.machine(), self.actual.machine())?;
        Ok(match difference {
            None => Verdict::Alike,
            difference => Verdict::Differ(difference),
        })
    }
}

/// Finds where `actual` parts from `expected`, at or before `until`. `None` if they are alike there, or differ from the very beginning.
///
/// # Errors
/// See [`BisectError`].
pub fn first_difference<E: Engine>(
    expected: &mut impl Subject<E>,
    actual: &mut impl Subject<E>,
    until: Position,
) -> Result<Option<FirstDifference>, BisectError> {
    let mut pair = Pair { expected, actual };
    let at_exit = |exits| Position {
        exits,
        instructions: 0,
    };
    let mut alike = Position::default();
    let mut different = (until, pair.compare(until)?);
    if !matches!(different.1, Verdict::Differ(_))
        || matches!(pair.compare(alike)?, Verdict::Differ(_))
    {
        return Ok(None);
    }
    // By exits.
    while different.0.exits - alike.exits > 1 {
        let middle = at_exit(alike.exits + (different.0.exits - alike.exits) / 2);
        match pair.compare(middle)? {
            Verdict::Alike => alike = middle,
            verdict => different = (middle, verdict),
        }
    }
    if different.0.exits > alike.exits {
        let exit = at_exit(different.0.exits);
        if exit != different.0 {
            match pair.compare(exit)? {
                Verdict::Alike => alike = exit,
                verdict => different = (exit, verdict),
            }
        }
    }
    by_instructions(&mut pair, &mut alike, &mut different)?;
    pair.expected.go_to(alike)?;
    let machine = pair.expected.machine();
    let Verdict::Differ(difference) = different.1 else {
        return Ok(None);
    };
    Ok(Some(FirstDifference {
        alike_at: alike,
        at: different.0,
        registers: machine.registers()?,
        mode: machine.mode()?,
        symbol: None,
        difference,
    }))
}

/// Between an exit and the next, where the engine stops in between.
fn by_instructions<E, A, B>(
    pair: &mut Pair<'_, A, B>,
    alike: &mut Position,
    different: &mut (Position, Verdict),
) -> Result<(), BisectError>
where
    E: Engine,
    A: Subject<E>,
    B: Subject<E>,
{
    // Instructions from the last exit to the moment where they differ, or, where that is the next exit, to that.
    let mut above = if different.0.exits == alike.exits {
        different.0.instructions
    } else {
        let Some(count) = instructions_between(pair.expected, *alike, different.0)? else {
            return Ok(());
        };
        count
    };
    while above - alike.instructions > 1 {
        let middle = Position {
            exits: alike.exits,
            instructions: alike.instructions + (above - alike.instructions) / 2,
        };
        match pair.compare(middle)? {
            Verdict::Alike => *alike = middle,
            // Both have exited before: the difference is not behind that.
            Verdict::Nowhere => above = middle.instructions,
            verdict @ Verdict::Differ(_) => {
                above = middle.instructions;
                *different = (middle, verdict);
            }
        }
    }
    Ok(())
}

/// Instructions that retire from `from` to `to`, counted from the exit before `from`; `None` where nobody counts.
fn instructions_between<E: Engine>(
    subject: &mut impl Subject<E>,
    from: Position,
    to: Position,
) -> Result<Option<u64>, BisectError> {
    use crate::inputs::Situation;
    subject.go_to(from)?;
    let Some(begin) = subject.machine().retired() else {
        return Ok(None);
    };
    subject.go_to(to)?;
    let end = subject.machine().retired();
    Ok(end.map(|end| from.instructions + end.saturating_sub(begin)))
}
