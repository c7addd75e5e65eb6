//! String instructions: MOVS, STOS, LODS, CMPS, SCAS, and their repetition (SDM 1, 7.3.9, and 2B, REP).
//!
//! An iteration of a repeated one is a unit of the clock of its own. So a repeated instruction stands alone in its block, does as many iterations as
//! [`Core::budget`] allows, and keeps RSI, RDI and RCX so that it can go on from there after a stop, a fault or an exit:
//!
//! ```text
//!  RCX = 0? ─ yes ─► done                        ┌─ fault or exit: the iterations so far count, this one does not
//!     └─ no ─► budget used up? ─ no ─► element ──┼─ comparison ends it: done
//!                   │ yes               or run   └─ block ended (self-modified code, page table, watchpoint): go on later
//!                   ▼
//!              Halt::Repeat
//! ```
//!
//! A run ([`run`]) is many elements at once; nobody can tell it from single ones.

mod element;
mod run;
#[cfg(test)]
mod tests;

use iced_x86::{Code, Instruction};

use super::{by_width, dispatch::with_address_width};
use crate::{
    cpu::{Core, Halt, Register, Step},
    decode::op::{Handler, Op, Selected},
    isa::operand::Width,
};
use element::{Compare, Element, Load, Move, Scan, Store};

/// REPE: repeated while ZF is this.
const WHILE_EQUAL: u8 = 1;
/// REPNE.
const WHILE_NOT_EQUAL: u8 = 0;
/// Repeated whatever ZF says.
const ALWAYS: u8 = 2;

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction, op: &Op) -> Option<Selected> {
    let bytes = match instruction.code() {
        Code::Movsb_m8_m8
        | Code::Stosb_m8_AL
        | Code::Lodsb_AL_m8
        | Code::Cmpsb_m8_m8
        | Code::Scasb_AL_m8 => 1,
        Code::Movsw_m16_m16
        | Code::Stosw_m16_AX
        | Code::Lodsw_AX_m16
        | Code::Cmpsw_m16_m16
        | Code::Scasw_AX_m16 => 2,
        Code::Movsd_m32_m32
        | Code::Stosd_m32_EAX
        | Code::Lodsd_EAX_m32
        | Code::Cmpsd_m32_m32
        | Code::Scasd_EAX_m32 => 4,
        Code::Movsq_m64_m64
        | Code::Stosq_m64_RAX
        | Code::Lodsq_RAX_m64
        | Code::Cmpsq_m64_m64
        | Code::Scasq_RAX_m64 => 8,
        _ => return None,
    };
    match instruction.code() {
        Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 | Code::Movsq_m64_m64 => {
            moving::<Move>(instruction, op, bytes)
        }
        Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX | Code::Stosq_m64_RAX => {
            moving::<Store>(instruction, op, bytes)
        }
        Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 | Code::Lodsq_RAX_m64 => {
            moving::<Load>(instruction, op, bytes)
        }
        Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 | Code::Cmpsq_m64_m64 => {
            comparing::<Compare>(instruction, op, bytes)
        }
        _ => comparing::<Scan>(instruction, op, bytes),
    }
}

/// Both repeat prefixes repeat an instruction that does not compare.
fn moving<E: Element>(instruction: &Instruction, op: &Op, bytes: usize) -> Option<Selected> {
    if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        Selected::alone(repeated::<E, ALWAYS>(op, bytes))
    } else {
        Selected::anywhere(single::<E>(op, bytes))
    }
}

fn comparing<E: Element>(instruction: &Instruction, op: &Op, bytes: usize) -> Option<Selected> {
    if instruction.has_repne_prefix() {
        Selected::alone(repeated::<E, WHILE_NOT_EQUAL>(op, bytes))
    } else if instruction.has_rep_prefix() {
        Selected::alone(repeated::<E, WHILE_EQUAL>(op, bytes))
    } else {
        Selected::anywhere(single::<E>(op, bytes))
    }
}

fn single<E: Element>(op: &Op, bytes: usize) -> Handler {
    by_width!(bytes, T => with_address_width!(op.address_bits, A => E::element::<T, A>))
}

fn repeated<E: Element, const WHILE: u8>(op: &Op, bytes: usize) -> Handler {
    by_width!(bytes, T => with_address_width!(op.address_bits, A => repeat::<E, T, A, WHILE>))
}

fn repeat<E: Element, T: Width, A: Width, const WHILE: u8>(core: &mut Core, op: &Op) -> Step {
    let mut left = core.get::<A>(Register::Rcx).zero_extend();
    let mut done = 0;
    // Whether the last thing done was a single element: see `run`.
    let mut after_element = false;
    let result = loop {
        if left == 0 {
            break Ok(());
        }
        if done == core.budget {
            break Err(Halt::Repeat);
        }
        let mut step = 0;
        if after_element {
            step = E::run::<T, A, WHILE>(core, op, left.min(core.budget - done));
        }
        after_element = step == 0;
        if step == 0 {
            if let Err(halt) = E::element::<T, A>(core, op) {
                break Err(halt);
            }
            step = 1;
        }
        left -= step;
        done += step;
        core.put(Register::Rcx, A::truncate(left));
        if WHILE != ALWAYS && u8::from(core.flags.zero()) != WHILE {
            break Ok(());
        }
        if core.block_end == 0 && left != 0 {
            break Err(Halt::Repeat);
        }
    };
    core.iterations = done;
    result
}
