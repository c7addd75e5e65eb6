//! One instruction, exactly.
//!
//! In: a guest between two instructions, and how many counts are wanted at most. Out: how many were made, or an exit. What always holds: a count is
//! what the software CPU counts (an instruction, an iteration of a repeated one, a delivered exception), the guest stands between two counts
//! afterwards, and it cannot see that it was stepped.
//!
//! KVM's own single step is not that. It is helped along, for each instruction, by what the instruction is ([`instruction`]):
//!
//! ```text
//!  exceptions      a step over a fault ends after the handler's first instruction: breakpoints on the handlers of those exceptions that
//!                  the instruction may raise stop the guest before it. There are four; that is enough for any one instruction
//!  IRET, SYSRET    kvm-pvm does not report the step, and the guest runs on: a breakpoint where they go to, instead of a step
//!  repeated ones   kvm-pvm steps over up to 1024 iterations, a processor over one: RCX is made as small as what is wanted, and put back
//!  HLT             cannot be stepped over: it is run, and exits
//!  SYSCALL         kvm-pvm does it wrong from user mode: done here
//!  PUSHF           a processor that steps pushes its trap flag: taken out again
//! ```
//!
//! Where the guest is afterwards is checked against where the instruction can have gone: a step that was more than one instruction is an
//! error, never a wrong count. Not possible at all is a guest that single-steps itself: one that sets its trap flag is an error.

mod instruction;
mod transfer;
mod user;

use iced_x86::{FlowControl, Instruction};
use kvm_bindings::kvm_regs;

use self::{
    instruction::{Manner, Place, Repetition},
    user::UserStep,
};
use super::{
    guest::Guest,
    paging,
    pvm::Completed,
    vcpu::{BREAKPOINTS, Debugging, RawExit},
};
use crate::engine::{EngineError, Exit};

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_RF: u64 = 1 << 16;
/// Iterations of a repeated instruction that one step makes at most: where KVM's emulator pauses by itself.
const MOST_ITERATIONS: u64 = 1024;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// So many counts.
    Counted(u64),
    /// So many counts, the exit's own instruction among them if it is over with that, and then an exit.
    Exited(u64, Exit),
}

/// A repeated instruction that exited before all of its iterations.
#[derive(Clone, Copy, Debug)]
struct Shortened {
    repetition: Repetition,
    instruction: Instruction,
    /// Iterations to go besides those that RCX has.
    rest: u64,
}

/// Steps through a guest.
#[derive(Debug, Default)]
pub struct Stepper {
    shortened: Option<Shortened>,
    /// The last step was over a conditional branch.
    branched: bool,
    /// The instruction of the last exit is over, and counts, once the answer is there.
    counts_later: bool,
    accepts_interrupts: bool,
}

/// Where the guest came to a stop.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, on the stack"
)]
enum Stop {
    /// Between two instructions.
    Here(Place),
    Exit(Exit),
}

impl Stepper {
    /// A stepper whose guest stands between two instructions.
    pub fn between_instructions(accepts_interrupts: bool) -> Self {
        Self {
            accepts_interrupts,
            ..Self::default()
        }
    }

    /// Whether the guest accepts an interrupt where it stands.
    pub fn accepts_interrupts(&self) -> bool {
        self.accepts_interrupts
    }

    /// Whether the last step was over a conditional branch.
    pub fn branched(&self) -> bool {
        self.branched
    }

    /// The guest was run without a step, and has stopped or exited.
    pub fn ran(&mut self, guest: &mut Guest) -> Result<(), EngineError> {
        (self.shortened, self.counts_later, guest.shown) = (None, false, None);
        self.settle(guest)
    }

    /// Goes on by at least one count and at most `most`, unless an exit comes before.
    pub fn step(&mut self, guest: &mut Guest, most: u64) -> Result<Stepped, EngineError> {
        let place = place(guest)?;
        let next = place.fetch(&guest.memory);
        let manner = next
            .as_ref()
            .map_or(Manner::Plain, |next| instruction::manner(&place, next));
        let mut stepped = match (manner, next) {
            (Manner::SystemCall, Some(next)) => transfer::system_call(guest, place, &next)?,
            (Manner::Repeated(repetition), Some(next)) if repetition.count(&place.regs) != 0 => {
                self.repeated(guest, &place, next, repetition, most)?
            }
            (Manner::Return(way), Some(next)) => transfer::go_back(guest, &place, &next, way)?,
            _ => single(guest, &place, next.as_ref(), manner)?,
        };
        self.branched = matches!(stepped, Stepped::Counted(_))
            && next.is_some_and(|next| next.flow_control() == FlowControl::ConditionalBranch);
        if let Stepped::Exited(counts, exit) = &mut stepped {
            // What goes between a device and memory is done again once the device has answered; everything else is over.
            let with_memory = matches!(exit, Exit::MmioRead { .. } | Exit::MmioWrite { .. })
                || next.is_some_and(|next| next.is_string_instruction());
            self.counts_later = with_memory;
            self.show(guest, &place, *exit)?;
            *counts += u64::from(!with_memory);
        }
        self.settle(guest)?;
        Ok(stepped)
    }

    /// After an exit was answered: completes its instruction, or one iteration of it, unless it exits again. Returns what is to be counted.
    pub fn complete(&mut self, guest: &mut Guest) -> Result<u64, EngineError> {
        guest.complete()?;
        if guest.within_instruction() {
            return Ok(0);
        }
        if let Some(shortened) = self.shortened.take() {
            let Shortened {
                repetition,
                instruction,
                rest,
            } = shortened;
            let mut regs = guest.vcpu.regs()?;
            let left = repetition.count(&regs);
            repetition.resume(&mut regs, &instruction, left + rest);
            guest.vcpu.set_regs(&regs)?;
        }
        self.settle(guest)?;
        Ok(std::mem::take(&mut self.counts_later).into())
    }

    /// Delivers an interrupt: the guest stands at the handler's first instruction then, and nothing was counted.
    pub fn interrupt(&mut self, guest: &mut Guest, vector: u8) -> Result<(), EngineError> {
        guest.vcpu.interrupt(vector)?;
        deliver(guest, vector)?;
        self.settle(guest)
    }

    /// The registers that are seen until the exits of one instruction are all answered: as if it had not begun.
    fn show(&self, guest: &mut Guest, before: &Place, exit: Exit) -> Result<(), EngineError> {
        let mut regs = before.regs;
        if let (Exit::MmioRead { .. }, Some(shortened)) = (exit, &self.shortened) {
            // The iterations before it are over.
            regs = guest.vcpu.regs()?;
            let left = shortened.repetition.count(&regs);
            shortened.repetition.set(&mut regs, left + shortened.rest);
            regs.rflags &= !RFLAGS_RF;
        }
        guest.shown = Some(regs);
        Ok(())
    }

    /// Looks whether interrupts are accepted.
    fn settle(&mut self, guest: &mut Guest) -> Result<(), EngineError> {
        let enabled = guest.vcpu.regs()?.rflags & RFLAGS_IF != 0;
        self.accepts_interrupts = enabled && guest.vcpu.ready_for_interrupt();
        Ok(())
    }

    /// Steps over iterations of a repeated instruction, at least one of which is to come.
    fn repeated(
        &mut self,
        guest: &mut Guest,
        place: &Place,
        next: Instruction,
        repetition: Repetition,
        most: u64,
    ) -> Result<Stepped, EngineError> {
        let all = repetition.count(&place.regs);
        let wanted = if repetition.ports {
            1
        } else {
            all.min(most).min(MOST_ITERATIONS)
        };
        let rest = all - wanted;
        let mut regs = place.regs;
        repetition.set(&mut regs, wanted);
        if rest > 0 {
            guest.vcpu.set_regs(&regs)?;
        }
        let place = Place { regs, ..*place };
        let stop = run(guest, &place, Some(&next), true, None)?;
        let mut regs = guest.vcpu.regs()?;
        let left = repetition.count(&regs);
        match stop {
            Stop::Exit(exit) => {
                // An iteration that stores is over, but for the answer. One that loads is completed with it, and must be the last for now.
                let is_over = matches!(exit, Exit::MmioWrite { .. } | Exit::PortWrite { .. });
                let aside = if is_over { 0 } else { left - 1 };
                if aside > 0 {
                    repetition.set(&mut regs, left - aside);
                    guest.vcpu.set_regs(&regs)?;
                }
                self.shortened = Some(Shortened {
                    repetition,
                    instruction: next,
                    rest: rest + aside,
                });
                Ok(Stepped::Exited(wanted - left - u64::from(is_over), exit))
            }
            Stop::Here(now) => {
                let in_handler = now.regs.rip != next.ip() && now.regs.rip != next.next_ip();
                if in_handler {
                    repetition.set(&mut regs, left + rest);
                } else {
                    repetition.resume(&mut regs, &next, left + rest);
                }
                guest.vcpu.set_regs(&regs)?;
                Ok(Stepped::Counted(wanted - left + u64::from(in_handler)))
            }
        }
    }
}

impl Repetition {
    /// After an iteration, with so many to go: the guest stands before the instruction again, or behind it.
    fn resume(&self, regs: &mut kvm_regs, instruction: &Instruction, rest: u64) {
        let over = rest == 0 || self.ended(regs);
        self.set(regs, rest);
        regs.rip = if over {
            instruction.next_ip()
        } else {
            instruction.ip()
        };
        regs.rflags &= !RFLAGS_RF;
    }
}

fn place(guest: &Guest) -> Result<Place, EngineError> {
    Ok(Place {
        regs: guest.vcpu.regs()?,
        sregs: guest.vcpu.sregs()?,
    })
}

/// An instruction that needs little help.
fn single(
    guest: &mut Guest,
    place: &Place,
    next: Option<&Instruction>,
    manner: Manner,
) -> Result<Stepped, EngineError> {
    if manner == Manner::PopFlags {
        transfer::refuse_trap_flag(guest, place, place.regs.rsp)?;
    }
    let now = match run(guest, place, next, manner != Manner::Halt, None)? {
        Stop::Exit(exit) => return Ok(Stepped::Exited(0, exit)),
        Stop::Here(now) => now,
    };
    if manner == Manner::PopFlags {
        guest.vcpu.step_is_lost();
    }
    if manner == Manner::PushFlags {
        transfer::put_pushed_flags_right(guest, place, &now);
    }
    if now.regs.rflags & RFLAGS_RF != 0 {
        // Every instruction clears it but those that return from a handler (SDM 3B 18.3.1.1).
        let regs = kvm_regs {
            rflags: now.regs.rflags & !RFLAGS_RF,
            ..now.regs
        };
        guest.vcpu.set_regs(&regs)?;
    }
    Ok(Stepped::Counted(1))
}

/// Delivers what is pending in KVM, and runs no instruction.
pub fn deliver(guest: &mut Guest, vector: u8) -> Result<(), EngineError> {
    use instruction::vector::{DOUBLE_FAULT, PAGE_FAULT, PROTECTION};
    let place = place(guest)?;
    let handlers = handlers(
        guest,
        &place,
        [vector, PAGE_FAULT, PROTECTION, DOUBLE_FAULT],
    );
    if handlers[0].is_none() {
        return Err(EngineError::Unexpected(format!(
            "vector {vector:#x} has no handler that could be stopped at"
        )));
    }
    guest.vcpu.set_debugging(Debugging {
        step: false,
        breakpoints: handlers,
    })?;
    loop {
        match guest.enter()? {
            // Whoever kicked is heard afterwards.
            RawExit::Interrupted => guest.vcpu.forget_kick(),
            RawExit::Debug { .. } => {
                guest.hidden_exception = None;
                return Ok(());
            }
            other => {
                return Err(EngineError::Unexpected(format!(
                    "{other:?} while vector {vector:#x} was delivered"
                )));
            }
        }
    }
}

/// Where the handlers of these exceptions begin, as linear addresses.
fn handlers(
    guest: &Guest,
    place: &Place,
    vectors: [u8; BREAKPOINTS],
) -> [Option<u64>; BREAKPOINTS] {
    vectors.map(|vector| paging::handler(&guest.memory, &place.sregs, vector))
}

/// Runs the guest to the end of one instruction: by a step, or to the breakpoint `target`.
fn run(
    guest: &mut Guest,
    place: &Place,
    next: Option<&Instruction>,
    step: bool,
    target: Option<u64>,
) -> Result<Stop, EngineError> {
    let in_pvm_user_mode = guest.pvm.is_some() && place.level() == 3;
    if step && in_pvm_user_mode {
        match user::step(guest, place, next)? {
            UserStep::Raises => {}
            UserStep::Done => {
                let now = self::place(guest)?;
                check(place, next, &now, &[None; BREAKPOINTS])?;
                return Ok(Stop::Here(now));
            }
            UserStep::Exits(raw) => {
                if let Some(exit) = guest.interpret(raw)? {
                    return Ok(Stop::Exit(exit));
                }
            }
        }
    }
    let vectors = instruction::exceptions(place, next);
    let mut breakpoints = handlers(guest, place, vectors);
    if target.is_some() {
        breakpoints[BREAKPOINTS - 1] = target;
    }
    let here = place.linear(place.regs.rip);
    let debugging = Debugging {
        // What was tried there raises an exception.
        step: step && !in_pvm_user_mode,
        // One where the guest stands would stop it at once.
        breakpoints: breakpoints.map(|address| address.filter(|address| *address != here)),
    };
    loop {
        guest.vcpu.set_debugging(debugging)?;
        let now = match guest.enter()? {
            RawExit::Debug { .. } | RawExit::InterruptWindow => self::place(guest)?,
            RawExit::EmulationFailure { bytes, length } => {
                let bytes = &bytes[..usize::from(length)];
                if let Completed::Raises(vector) = guest.emulation_failure(bytes)? {
                    deliver(guest, vector)?;
                    return Ok(Stop::Here(self::place(guest)?));
                }
                self::place(guest)?
            }
            raw => match guest.interpret(raw)? {
                Some(exit) => return Ok(Stop::Exit(exit)),
                None => continue,
            },
        };
        check(place, next, &now, &breakpoints)?;
        if debugging.step
            && let Some(index) = stopped_at(&breakpoints, &now)
        {
            transfer::take_trap_flag_out_of_frame(guest, &now, vectors[index]);
        }
        return Ok(Stop::Here(now));
    }
}

fn stopped_at(breakpoints: &[Option<u64>; BREAKPOINTS], now: &Place) -> Option<usize> {
    let here = Some(now.linear(now.regs.rip));
    breakpoints.iter().position(|address| *address == here)
}

/// Whether the guest is where the instruction can have gone.
fn check(
    before: &Place,
    next: Option<&Instruction>,
    now: &Place,
    breakpoints: &[Option<u64>; BREAKPOINTS],
) -> Result<(), EngineError> {
    let rip = now.regs.rip;
    let expected = match next {
        None => Some([before.regs.rip; 2]),
        Some(next) => instruction::successors(next),
    };
    let stopped = stopped_at(breakpoints, now).is_some();
    match expected {
        Some(expected) if !stopped && !expected.contains(&rip) && rip != before.regs.rip => {
            Err(EngineError::Unexpected(format!(
                "a single step from {:#x} ({}) to {rip:#x}",
                before.regs.rip,
                next.map_or_else(|| "unmapped".to_owned(), ToString::to_string),
            )))
        }
        _ => Ok(()),
    }
}
