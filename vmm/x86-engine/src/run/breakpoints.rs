//! Stopping at addresses, for debuggers: beside the loop, which knows nothing of them and pays nothing for them.
//!
//! In: a goal, and linear addresses in ascending order. Out: a stop before the next instruction at one of them. What always holds: the
//! guest cannot tell; where it stops is a function of its state and of the addresses, not of where it was stopped before.
//!
//! An instruction that leads to itself (an iteration of a repeated string instruction, a jump to itself) arrives at its address once.

use super::{Cpu, Turn};
use crate::{
    decode::cache::Run,
    exit::{Goal, Stop},
};

impl Cpu {
    /// Runs to `goal`, or until [`Self::arrived_at`] one of `addresses`, whichever comes first. The instruction that comes next is executed in
    /// any case.
    ///
    /// # Panics
    /// If the last exit was not answered.
    pub fn run_to_addresses(&mut self, goal: Goal, addresses: &[u64]) -> Stop {
        if let Some(stop) = self.further_exit() {
            return stop;
        }
        let (limit, wants_interrupt) = goal.limit();
        while self.since_exit < limit && !(wants_interrupt && self.core.accepts_interrupts()) {
            self.turn_start = self.linear_rip();
            let turn = self.turn_towards(limit - self.since_exit, addresses);
            if turn == Turn::Exited {
                let stop = self.stop();
                self.core.mxcsr.collect();
                return stop;
            }
            if self.arrived_at(addresses) {
                break;
            }
        }
        self.core.mxcsr.collect();
        Stop::Reached
    }

    /// Whether the next instruction is at one of `addresses` and the last one, which [`Self::run_to_addresses`] executed, was elsewhere.
    #[must_use]
    pub fn arrived_at(&self, addresses: &[u64]) -> bool {
        let here = self.linear_rip();
        here != self.turn_start && addresses.binary_search(&here).is_ok()
    }

    fn linear_rip(&self) -> u64 {
        self.core.linear_rip(self.core.rip)
    }

    /// Once around the figure, up to the next of the addresses.
    fn turn_towards(&mut self, budget: u64, addresses: &[u64]) -> Turn {
        if self.core.is_special() {
            return self.special_turn();
        }
        let block = match self.block() {
            Ok(block) => block,
            Err(_) => return self.deliver_pending(),
        };
        let most = self.instructions_before(block, addresses);
        self.core.budget = budget;
        self.execute(block, budget.min(most))
    }

    /// How many instructions of the block at RIP come before one of the addresses; 1 if the first is at one.
    fn instructions_before(&self, block: Run, addresses: &[u64]) -> u64 {
        let start = self.linear_rip();
        let first = block.first as usize;
        let ops = &self.cache.ops[first..first + usize::from(block.count)];
        if addresses.binary_search(&start).is_ok() {
            return 1;
        }
        let behind = addresses.partition_point(|address| *address <= start);
        addresses[behind..]
            .iter()
            .map(|address| address - start)
            .take_while(|offset| *offset < u64::from(block.bytes))
            .find_map(|offset| ops.iter().position(|op| u64::from(op.offset) == offset))
            .map_or(u64::MAX, |index| index as u64)
    }
}

#[cfg(test)]
#[path = "breakpoints_tests.rs"]
mod tests;
