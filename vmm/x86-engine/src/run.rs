//! The loop: find a block, execute it, count.
//!
//! ```text
//!  run(goal) ─► budget left? ─► special case (trap pending, shadow, TF, breakpoint)? ─► one instruction
//!      ▲             │                                                └─ no ──► block ─► ops, up to the budget
//!      │             ▼                                                                   │
//!      └──────── Stop::Reached                  Ok │ Exception: deliver │ Exit: Stop::Exit ◄┘
//! ```
//!
//! What always holds between two turns: `since_exit` is the exact number of instructions that retired since the last exit
//! (iterations of repeated string instructions and delivered exceptions count one each, so that every turn moves the clock), and
//! the state is that of an instruction boundary.

mod breakpoints;

use crate::{
    cpu::{Core, Halt, Register, Shadow},
    decode::cache::{BlockCache, Run},
    exception::Exception,
    exit::{Answer, Completion, Exit, Goal, Reply, Stop},
    flags,
    isa::system::interrupt::combine,
    memory::ram::{PAGE_BYTES, Ram},
};

/// DR6: single step.
const DEBUG_SINGLE_STEP: u64 = 1 << 14;

/// What a turn of the loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The clock moved on.
    Done,
    /// There is an exit in [`Core::exit`].
    Exited,
}

/// An x86-64 processor and the memory it runs on.
pub struct Cpu {
    pub(crate) core: Core,
    pub(crate) cache: BlockCache,
    pub(crate) since_exit: u64,
    pub(crate) retired: u64,
    /// The exit that the caller must answer.
    pub(crate) unanswered: Option<(Exit, Completion)>,
    /// A further exit of the instruction whose last exit was just answered.
    pub(crate) next_exit: Option<(Exit, Completion)>,
    /// Linear address of the last turn's first instruction, where somebody looks for addresses.
    turn_start: u64,
}

impl Cpu {
    /// A processor after power-on, which stays in protected mode: see [`crate::state::State::default`]. Give it a state with
    /// [`Self::restore`].
    ///
    /// # Panics
    /// On a host without SSE4.2.
    #[must_use]
    pub fn new(ram: Ram) -> Self {
        crate::isa::simd::require_host();
        let cache = BlockCache::new(ram.bytes());
        let mut cpu = Self {
            core: Core::new(ram),
            cache,
            since_exit: 0,
            retired: 0,
            unanswered: None,
            next_exit: None,
            turn_start: 0,
        };
        cpu.core.update_mode();
        cpu
    }

    /// Instructions since the last exit.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.since_exit
    }

    /// Instructions since the processor was made (or since the restored state's was).
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// Whether an external interrupt can be injected here (at an exit that wants no reply: once it is answered).
    #[must_use]
    pub fn accepts_interrupts(&self) -> bool {
        let at_boundary = self
            .unanswered
            .is_none_or(|(_, completion)| completion == Completion::Retired);
        at_boundary && self.next_exit.is_none() && self.core.accepts_interrupts()
    }

    /// Delivers an external interrupt.
    ///
    /// # Panics
    /// Unless [`Self::accepts_interrupts`].
    pub fn interrupt(&mut self, vector: u8) {
        assert!(self.accepts_interrupts(), "no interrupt is accepted here");
        if self.core.deliver_interrupt(vector).is_err() {
            if self.core.pending.is_some() {
                self.deliver_pending();
            } else {
                // A device where the interrupt descriptor table should be, as in `deliver_pending`.
                self.core.exit = Some((Exit::Shutdown, Completion::Retired));
            }
            self.next_exit = self.core.exit.take();
        }
        self.apply_invalidations();
    }

    /// Memory was written by somebody else: `bytes` bytes at a guest-physical address.
    pub fn memory_written(&mut self, address: u64, bytes: u64) {
        let end = (address + bytes).min(self.core.ram.bytes());
        let mut from = address;
        while from < end {
            let to = end.min((from & !(PAGE_BYTES - 1)) + PAGE_BYTES);
            self.core.written_from_outside(from, to - from);
            from = to;
        }
        self.apply_invalidations();
    }

    /// The memory.
    #[must_use]
    pub fn ram(&self) -> &Ram {
        &self.core.ram
    }

    /// The memory; [`Self::memory_written`] must be told what was written.
    pub fn ram_mut(&mut self) -> &mut Ram {
        &mut self.core.ram
    }

    /// Runs to `goal`.
    ///
    /// # Panics
    /// If the last exit was not answered.
    pub fn run(&mut self, goal: Goal) -> Stop {
        let stop = self.run_to(goal);
        self.core.mxcsr.collect();
        stop
    }

    fn run_to(&mut self, goal: Goal) -> Stop {
        if let Some(stop) = self.further_exit() {
            return stop;
        }
        let (limit, wants_interrupt) = goal.limit();
        while self.since_exit < limit {
            let budget = limit - self.since_exit;
            if wants_interrupt && self.core.accepts_interrupts() {
                break;
            }
            if self.turn(budget) == Turn::Exited {
                return self.stop();
            }
        }
        Stop::Reached
    }

    /// What is left of the instruction whose last exit was just answered.
    fn further_exit(&mut self) -> Option<Stop> {
        assert!(self.unanswered.is_none(), "the last exit was not answered");
        self.core.exit = Some(self.next_exit.take()?);
        Some(self.stop())
    }

    fn stop(&mut self) -> Stop {
        self.unanswered = self.core.exit.take();
        self.since_exit = 0;
        let (exit, _) = self.unanswered.expect("whoever exits makes an exit");
        Stop::Exit(exit)
    }

    /// Answers the last exit.
    ///
    /// # Panics
    /// If there is none, or the reply is not of its kind.
    pub fn reply(&mut self, reply: Reply) {
        let (exit, completion) = self.unanswered.take().expect("an exit to be answered");
        match (completion, reply) {
            (Completion::Retired, Reply::None) => {}
            (Completion::Accumulator, Reply::Port(value)) => {
                let Exit::PortRead { width, .. } = exit else {
                    unreachable!("only port reads go to the accumulator");
                };
                match width {
                    1 => self.core.put(Register::Rax, value as u8),
                    2 => self.core.put(Register::Rax, value as u16),
                    _ => self.core.put(Register::Rax, value),
                }
            }
            (Completion::TimeStamp, Reply::Tsc { value }) => {
                self.core.put(Register::Rax, value as u32);
                self.core.put(Register::Rdx, (value >> 32) as u32);
                if let Exit::TscRead { with_aux: true } = exit {
                    let aux = self.core.msrs.tsc_aux as u32;
                    self.core.put(Register::Rcx, aux);
                }
            }
            (Completion::Again, Reply::Mmio(data)) => self.again(Answer::Read(data)),
            (Completion::Again, Reply::Port(value)) => {
                self.again(Answer::Read(u64::from(value).to_le_bytes()));
            }
            (Completion::Again, Reply::None) => self.again(Answer::Written),
            (completion, reply) => panic!("{reply:?} does not answer {exit:?} ({completion:?})"),
        }
    }

    /// Executes the current instruction again, now that one more of its accesses is answered. It retires with the exit.
    fn again(&mut self, answer: Answer) {
        self.core.answers.push(answer);
        self.core.answers_used = 0;
        self.single();
        self.next_exit = self.core.exit.take();
        self.core.mxcsr.collect();
        if self.next_exit.is_none() {
            self.core.answers.clear();
        }
        self.since_exit = 0;
    }

    /// Once around the figure. `budget` is at least 1.
    #[inline(always)]
    fn turn(&mut self, budget: u64) -> Turn {
        if self.core.is_special() {
            return self.special_turn();
        }
        let block = match self.block() {
            Ok(block) => block,
            Err(_) => return self.deliver_pending(),
        };
        self.core.budget = budget;
        self.execute(block, budget)
    }

    /// One instruction with a trap flag, a shadow, a breakpoint or RF around it, or the delivery of a pending trap.
    #[cold]
    fn special_turn(&mut self) -> Turn {
        if self.core.pending_debug != 0 && self.core.shadow != Shadow::Traps {
            let status = std::mem::take(&mut self.core.pending_debug);
            self.core.pending = Some(Exception::debug(status));
            return self.deliver_pending();
        }
        if self.core.flags.system(flags::RF) == 0 && self.core.shadow != Shadow::Traps {
            let hit = self.core.matching_breakpoints();
            if hit != 0 {
                self.core.pending = Some(Exception::debug(hit));
                return self.deliver_pending();
            }
        }
        // A fault would set it again, in the RFLAGS that are pushed.
        self.core.flags.set_system(flags::RF, false);
        let shadowed = self.core.shadow != Shadow::None;
        let turn = self.single();
        if shadowed {
            self.core.shadow = Shadow::None;
        }
        turn
    }

    /// Executes one instruction, or an iteration of one, and its trap if TF is set.
    fn single(&mut self) -> Turn {
        let traced = self.core.flags.system(flags::TF) != 0;
        let block = match self.block() {
            Ok(block) => block,
            Err(_) => return self.deliver_pending(),
        };
        self.core.budget = 1;
        self.core.untraced = false;
        let turn = self.execute(block, 1);
        if traced && self.core.completed && !self.core.untraced {
            self.core.pending_debug |= DEBUG_SINGLE_STEP;
            // The trap wakes the processor before anybody could see it halted.
            if self
                .core
                .exit
                .take_if(|(exit, _)| *exit == Exit::Halt)
                .is_some()
            {
                return Turn::Done;
            }
        }
        turn
    }

    /// Executes a block, or as much of it as the budget allows.
    #[inline(always)]
    fn execute(&mut self, block: Run, budget: u64) -> Turn {
        let core = &mut self.core;
        let count = usize::from(block.count);
        let first = block.first as usize;
        let ops = &self.cache.ops[first..first + count];
        let start = core.rip;
        core.general[Register::Block as usize] = start;
        core.rip = core.advanced(start, u64::from(block.bytes));
        core.block_end = if budget < count as u64 {
            budget as usize
        } else {
            count
        };
        let mut done = 0;
        let halt = loop {
            let op = &ops[done];
            if let Err(halt) = (op.run)(core, op) {
                break Some(halt);
            }
            done += 1;
            if done >= core.block_end {
                break None;
            }
        };
        if halt.is_none() && core.iterations == 0 && core.stale_code.is_empty() {
            if done < count {
                core.rip = core.advanced(start, u64::from(ops[done].offset));
            }
            core.completed = true;
            self.since_exit += done as u64;
            self.retired += done as u64;
            return Turn::Done;
        }
        self.finish(block, start, done, halt)
    }

    /// What follows a block that did not simply run through.
    #[cold]
    #[inline(never)]
    fn finish(&mut self, block: Run, start: u64, done: usize, halt: Option<Halt>) -> Turn {
        let core = &mut self.core;
        let first = block.first as usize;
        let ops = &self.cache.ops[first..first + usize::from(block.count)];
        let mut retired = done as u64;
        let iterations = std::mem::take(&mut core.iterations);
        core.completed = halt.is_none();
        match halt {
            None => {
                if let Some(op) = ops.get(done) {
                    core.rip = core.advanced(start, u64::from(op.offset));
                }
                // The instruction's own count is in `done` already.
                retired += iterations.saturating_sub(1);
            }
            Some(Halt::Repeat) => {
                core.rip = core.advanced(start, u64::from(ops[done].offset));
                retired += iterations;
                core.completed = true;
            }
            Some(Halt::Exception) => {
                core.rip = core.advanced(start, u64::from(ops[done].offset));
                retired += iterations;
            }
            Some(Halt::Exit) => {
                let (_, completion) = core
                    .exit
                    .expect("a handler that halts for an exit makes one");
                if completion == Completion::Again {
                    core.rip = core.advanced(start, u64::from(ops[done].offset));
                    retired += iterations;
                } else {
                    core.completed = true;
                    retired += 1;
                }
            }
        }
        self.since_exit += retired;
        self.retired += retired;
        self.apply_invalidations();
        match halt {
            Some(Halt::Exception) => self.deliver_pending(),
            Some(Halt::Exit) => Turn::Exited,
            None | Some(Halt::Repeat) => Turn::Done,
        }
    }

    /// Delivers the pending exception; an exception on the way makes it a double fault, and one on that way a shutdown.
    #[cold]
    #[inline(never)]
    fn deliver_pending(&mut self) -> Turn {
        let core = &mut self.core;
        core.answers.clear();
        core.answers_used = 0;
        let mut exception = core.pending.take().expect("an exception is pending");
        self.since_exit += 1;
        self.retired += 1;
        while core.deliver_exception(exception).is_err() {
            // A device where a descriptor table should be: nothing sensible follows.
            let second = core.pending.take();
            if let Some(address) = second.and_then(|second| second.fault_address) {
                // Even if it becomes a double fault.
                core.cr2 = address;
            }
            match second.and_then(|second| combine(exception, second)) {
                Some(combined) => exception = combined,
                None => {
                    core.exit = Some((Exit::Shutdown, Completion::Retired));
                    return Turn::Exited;
                }
            }
        }
        self.apply_invalidations();
        Turn::Done
    }

    /// Drops decoded code that was overwritten.
    fn apply_invalidations(&mut self) {
        while let Some(page) = self.core.stale_code.pop() {
            self.cache.drop_page(page, &mut self.core.ram);
        }
    }
}

impl Core {
    /// Whether the next instruction is not to be executed in a block.
    #[inline(always)]
    fn is_special(&self) -> bool {
        self.shadow != Shadow::None
            || self.pending_debug != 0
            || self.flags.system(flags::TF | flags::RF) != 0
            || self.breakpoints_armed
    }

    /// Instruction breakpoints at RIP: the bits for DR6.
    fn matching_breakpoints(&self) -> u64 {
        if !self.breakpoints_armed {
            return 0;
        }
        let linear = self.linear_rip(self.rip);
        let dr7 = self.debug[7];
        (0..4)
            .filter(|index| dr7 >> (index * 2) & 3 != 0 && dr7 >> (16 + index * 4) & 3 == 0)
            .filter(|index| self.debug[*index as usize] == linear)
            .fold(0, |hit, index| hit | 1 << index)
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
