//! A counter that behaves as hardware's do, for hosts that have none: it steps over every instruction, counts conditional branches, and interrupts late by
//! random amounts. For tests.

use super::branches::Counter;
use crate::engine::{
    EngineError, Exit,
    kvm::{
        guest::Guest,
        step::{Stepped, Stepper},
    },
};

/// How late it may be.
const MARGIN: u64 = 32;

/// A counter that skids.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// Interrupts come so many instructions late, less one, at most.
    lateness: u64,
    random: u64,
    count: u64,
}

impl Simulated {
    /// The seed's skids. `beyond` the margin: instructions that interrupts may be later than the counter says.
    #[must_use]
    pub fn new(seed: u64, beyond: u64) -> Self {
        Self {
            lateness: MARGIN + beyond,
            random: seed,
            count: 0,
        }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn number(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Counter for Simulated {
    fn clock(&self) -> &'static str {
        "conditional-branches-simulated"
    }

    fn margin(&self) -> u64 {
        MARGIN
    }

    fn reset(&mut self) -> Result<(), EngineError> {
        self.count = 0;
        Ok(())
    }

    fn read(&mut self) -> Result<u64, EngineError> {
        Ok(self.count)
    }

    fn run(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
        events: Option<u64>,
    ) -> Result<Option<Exit>, EngineError> {
        let overflow = events.map_or(u64::MAX, |events| self.count + events);
        while self.count < overflow {
            let exit = self.step(guest, stepper)?;
            if exit.is_some() {
                return Ok(exit);
            }
        }
        for _ in 0..self.number() % self.lateness {
            let exit = self.step(guest, stepper)?;
            if exit.is_some() {
                return Ok(exit);
            }
        }
        Ok(None)
    }

    fn step(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
    ) -> Result<Option<Exit>, EngineError> {
        let stepped = stepper.step(guest, u64::MAX)?;
        self.count += u64::from(stepper.branched());
        Ok(match stepped {
            Stepped::Counted(_) => None,
            Stepped::Exited(_, exit) => Some(exit),
        })
    }
}
