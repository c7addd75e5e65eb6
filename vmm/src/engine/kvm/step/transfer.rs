//! System calls, returns from handlers, and the trap flag.
//!
//! In: the guest before such an instruction. Out: the guest after it.

use iced_x86::Instruction;
use vm_memory::{Bytes, GuestAddress};

use super::{
    Guest, Place, RFLAGS_IF, RFLAGS_RF, RFLAGS_TF, Stepped, Stop,
    instruction::{Manner, Return},
    run, single,
};
use crate::engine::{
    EngineError,
    kvm::{paging, pvm::flat_segment},
};

const MSR_STAR: u32 = 0xC000_0081;
const MSR_LSTAR: u32 = 0xC000_0082;
const MSR_FMASK: u32 = 0xC000_0084;

const RFLAGS_IOPL: u64 = 3 << 12;

/// SYSCALL from 64-bit code (SDM 2B, SYSCALL).
pub fn system_call(
    guest: &Guest,
    place: Place,
    next: &Instruction,
) -> Result<Stepped, EngineError> {
    let [star, lstar, fmask] = guest.vcpu.msrs([MSR_STAR, MSR_LSTAR, MSR_FMASK])?;
    let Place {
        mut regs,
        mut sregs,
    } = place;
    regs.rcx = next.next_ip();
    regs.r11 = regs.rflags & !RFLAGS_RF;
    regs.rip = lstar;
    regs.rflags = regs.r11 & !fmask | 2;
    let selector = (star >> 32) as u16 & 0xFFFC;
    sregs.cs = flat_segment(selector, true, 0);
    sregs.ss = flat_segment(selector + 8, false, 0);
    guest.vcpu.set_sregs(&sregs)?;
    guest.vcpu.set_regs(&regs)?;
    Ok(Stepped::Counted(1))
}

/// IRET and SYSRET: to a breakpoint where they go to, or, as user mode has no breakpoints on kvm-pvm, to where interrupts are accepted.
pub fn go_back(
    guest: &mut Guest,
    place: &Place,
    next: &Instruction,
    way: Return,
) -> Result<Stepped, EngineError> {
    let (target, flags) = match way {
        Return::SystemCall { wide } => {
            let mask = if wide { u64::MAX } else { u32::MAX.into() };
            (Some(place.regs.rcx & mask), Some(Flags::InR11))
        }
        Return::Interrupt { bytes } => {
            let word = |index| stack_word(guest, place, place.regs.rsp, index, bytes);
            (
                word(0).map(|(_, rip)| rip),
                word(2).map(|(address, _)| Flags::At(address)),
            )
        }
    };
    let Some(flags) = flags else {
        // The return faults.
        return single(guest, place, Some(next), Manner::Plain);
    };
    let asked = flags.get(guest)?;
    if asked & RFLAGS_TF != 0 {
        return Err(traces_itself(place));
    }
    // With RF set, a processor would pass the breakpoint.
    flags.set(guest, asked & !RFLAGS_RF | RFLAGS_IF)?;
    guest.vcpu.request_interrupt_window(true);
    let stop = run(guest, place, Some(next), false, target);
    guest.vcpu.request_interrupt_window(false);
    flags.set(guest, asked)?;
    let now = match stop? {
        Stop::Exit(exit) => return Ok(Stepped::Exited(0, exit)),
        Stop::Here(now) => now,
    };
    if Some(now.regs.rip) == target {
        let mut kept = RFLAGS_IF;
        if let Flags::At(_) = flags {
            kept |= RFLAGS_RF;
        }
        let mut regs = guest.vcpu.regs()?;
        regs.rflags = regs.rflags & !kept | asked & kept;
        guest.vcpu.set_regs(&regs)?;
    }
    Ok(Stepped::Counted(1))
}

/// Where the flags are that a return loads.
#[derive(Clone, Copy, Debug)]
enum Flags {
    /// SYSRET's.
    InR11,
    /// IRET's: a guest-physical address.
    At(u64),
}

impl Flags {
    fn get(self, guest: &Guest) -> Result<u64, EngineError> {
        Ok(match self {
            Self::InR11 => guest.vcpu.regs()?.r11,
            Self::At(address) => guest
                .memory
                .read_obj::<u32>(GuestAddress(address))
                .expect("its address was found by reading it")
                .into(),
        })
    }

    fn set(self, guest: &Guest, flags: u64) -> Result<(), EngineError> {
        match self {
            Self::InR11 => {
                let mut regs = guest.vcpu.regs()?;
                regs.r11 = flags;
                guest.vcpu.set_regs(&regs)
            }
            Self::At(address) => {
                guest
                    .memory
                    .write_obj(flags as u32, GuestAddress(address))
                    .expect("what can be read can be written");
                Ok(())
            }
        }
    }
}

/// A word on the stack: its guest-physical address, and its value.
fn stack_word(guest: &Guest, place: &Place, rsp: u64, index: u64, bytes: u8) -> Option<(u64, u64)> {
    let linear = place.linear(rsp).wrapping_add(index * u64::from(bytes));
    let address = paging::physical(&guest.memory, &place.sregs, linear)?;
    let mut word = [0; 8];
    guest
        .memory
        .read_slice(&mut word[..usize::from(bytes)], GuestAddress(address))
        .ok()?;
    Some((address, u64::from_le_bytes(word)))
}

fn traces_itself(place: &Place) -> EngineError {
    EngineError::Unexpected(format!(
        "the guest sets its trap flag at {:#x}: a guest that steps through itself cannot be stepped through",
        place.regs.rip
    ))
}

/// Before POPF.
pub fn refuse_trap_flag(guest: &Guest, place: &Place, rsp: u64) -> Result<(), EngineError> {
    match stack_word(guest, place, rsp, 0, 2) {
        Some((_, flags)) if flags & RFLAGS_TF != 0 => Err(traces_itself(place)),
        _ => Ok(()),
    }
}

/// After PUSHF: in what it pushed are the trap flag of whoever steps and, from user mode on kvm-pvm, the host's IF and IOPL.
pub fn put_pushed_flags_right(guest: &Guest, before: &Place, now: &Place) {
    let own = before.regs.rflags & (RFLAGS_IF | RFLAGS_IOPL);
    change_flags(guest, now, 0, |flags| {
        flags & !(RFLAGS_TF | RFLAGS_IF | RFLAGS_IOPL) | own
    });
}

/// At the first instruction of the handler of `vector`: RIP and CS lie below the flags, and below them an error code (SDM 3A 6.14.2).
pub fn take_trap_flag_out_of_frame(guest: &Guest, now: &Place, vector: u8) {
    let error_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
    let offset = 16 + if error_code { 8 } else { 0 };
    change_flags(guest, now, offset, |flags| flags & !RFLAGS_TF);
}

/// Changes the low half of the flags that lie so many bytes above the top of the stack.
fn change_flags(guest: &Guest, now: &Place, offset: u64, change: impl FnOnce(u64) -> u64) {
    let Some((address, flags)) = stack_word(guest, now, now.regs.rsp.wrapping_add(offset), 0, 2)
    else {
        return;
    };
    let changed = change(flags);
    if changed != flags {
        guest
            .memory
            .write_obj(changed as u16, GuestAddress(address))
            .expect("what can be read can be written");
    }
}
