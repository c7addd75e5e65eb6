//! Instructions on the system flags: CLI, STI, PUSHF, POPF, CLAC, STAC (SDM 1 3.4.3, SDM 2 for each).

use iced_x86::{Code, Instruction};

use crate::{
    cpu::{Core, Halt, Shadow, Step},
    decode::op::{Op, Selected},
    flags,
    isa::{
        integer::{pop, push},
        operand::Width,
    },
};

/// POPF of 32 or 64 bits: what CPL 0 may change. VIF and VIP become 0, RF too, and VM stays.
const LOADED: u64 = flags::ARITHMETIC
    | flags::TF
    | flags::DF
    | flags::NT
    | flags::AC
    | flags::ID
    | flags::IF
    | flags::IOPL;
/// PUSHF shows these as 0.
const NOT_PUSHED: u64 = flags::RF | flags::VM;

/// CPL is at most IOPL: the program may change IF and use every port.
pub(super) fn has_io_privilege(core: &Core) -> bool {
    u64::from(core.cpl) <= core.flags.system(flags::IOPL) >> 12
}

fn require_io_privilege(core: &mut Core) -> Step {
    if has_io_privilege(core) {
        Ok(())
    } else {
        Err(core.general_protection())
    }
}

fn cli(core: &mut Core, _op: &Op) -> Step {
    require_io_privilege(core)?;
    core.flags.set_system(flags::IF, false);
    Ok(())
}

/// Interrupts wait for one more instruction if they were off. Traps do not: a single step is taken at once, and ends the wait.
fn sti(core: &mut Core, _op: &Op) -> Step {
    require_io_privilege(core)?;
    if core.flags.system(flags::IF) == 0 {
        core.flags.set_system(flags::IF, true);
        core.shadow = Shadow::Interrupts;
    }
    Ok(())
}

fn pushf<T: Width>(core: &mut Core, _op: &Op) -> Step {
    push(core, T::truncate(core.flags.get() & !NOT_PUSHED))
}

fn popf<T: Width>(core: &mut Core, _op: &Op) -> Step {
    let value = pop::<T>(core)?.zero_extend();
    let mut loaded = LOADED;
    if core.cpl != 0 {
        loaded &= !flags::IOPL;
    }
    if !has_io_privilege(core) {
        loaded &= !flags::IF;
    }
    let mut cleared = flags::RF;
    if T::BITS == 16 {
        loaded &= 0xFFFF;
    } else {
        cleared |= flags::VIF_VIP;
    }
    let before = core.flags.get() & !cleared;
    core.flags.set(before & !loaded | value & loaded);
    core.select_bank();
    Ok(())
}

/// CLAC and STAC: with SMAP, supervisor accesses to user pages are forbidden or allowed. Decoded code does not depend on it.
fn set_alignment_check<const ON: bool>(core: &mut Core, _op: &Op) -> Result<(), Halt> {
    if core.cpl != 0 {
        return Err(core.invalid_opcode());
    }
    core.flags.set_system(flags::AC, ON);
    core.select_bank();
    Ok(())
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    match instruction.code() {
        Code::Cli => Selected::anywhere(cli),
        Code::Sti => Selected::last(sti),
        Code::Pushfw => Selected::anywhere(pushf::<u16>),
        Code::Pushfd => Selected::anywhere(pushf::<u32>),
        Code::Pushfq => Selected::anywhere(pushf::<u64>),
        Code::Popfw => Selected::last(popf::<u16>),
        Code::Popfd => Selected::last(popf::<u32>),
        Code::Popfq => Selected::last(popf::<u64>),
        Code::Clac => Selected::anywhere(set_alignment_check::<false>),
        Code::Stac => Selected::anywhere(set_alignment_check::<true>),
        _ => None,
    }
}

#[cfg(test)]
#[path = "flag_control_tests.rs"]
mod tests;
