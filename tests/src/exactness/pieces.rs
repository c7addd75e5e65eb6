//! A log's inputs, with every run of the guest cut into pieces.
//!
//! In: a log's inputs. Out: the same, and stops in between at instruction counts of a seed's choice. What always holds: the machine is told
//! the same at the same positions, whatever the pieces.

use logging_channel::{Digest, EndReason, Position};
use vmm::{
    effect::Effect,
    engine::Goal,
    inputs::{InputError, Inputs, Next, Situation},
};

use super::random::Random;

/// Every so many pieces, one is so short that it ends within or next to the block of instructions where the last one ended.
const SHORT_ONE_IN: u64 = 12;
const SHORT_INSTRUCTIONS: u64 = 16;

/// Inputs in pieces.
pub struct Pieces<I> {
    inputs: I,
    random: Random,
    /// The longest piece; without one, nothing is cut.
    longest: Option<u64>,
    /// Where the guest stops if it does not exit before, and the log knows nothing of it.
    stop: Option<Position>,
}

impl<I> Pieces<I> {
    /// Cut at random, at most `longest` instructions long; `None` cuts nothing.
    #[must_use]
    pub fn new(inputs: I, longest: Option<u64>, seed: u64) -> Self {
        Self {
            inputs,
            random: Random::new(seed),
            longest,
            stop: None,
        }
    }

    /// Whether a machine that stands at `at` was stopped by this and nothing else.
    #[must_use]
    pub fn stopped_at(&self, at: Position) -> bool {
        self.stop == Some(at)
    }

    fn cut(&mut self, goal: Goal, at: Position) -> Goal {
        let end = match goal {
            Goal::Exit => u64::MAX,
            Goal::Instructions(end) => end,
            Goal::Interruptible { .. } => {
                panic!("a log of this clock says where interrupts come")
            }
        };
        let Some(longest) = self.longest else {
            return goal;
        };
        let short = self.random.once_in(SHORT_ONE_IN);
        let most = if short {
            longest.min(SHORT_INSTRUCTIONS)
        } else {
            longest
        };
        let length = self.random.up_to(most);
        let piece = at.instructions + length;
        if piece >= end {
            return goal;
        }
        self.stop = Some(Position {
            instructions: piece,
            ..at
        });
        Goal::Instructions(piece)
    }
}

impl<I: Inputs> Inputs for Pieces<I> {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        self.inputs.time(at)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        self.stop = None;
        Ok(match self.inputs.next(at, machine)? {
            Next::Run(goal) => Next::Run(self.cut(goal, at)),
            next => next,
        })
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        self.inputs.interrupted(at, vector)
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        self.inputs.output(at, effect)
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.inputs.digest(at, digest)
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.inputs.end(at, reason, digest)
    }
}
