//! NOP in all its forms, XLAT, BOUND (SDM 2A to 2C).

use iced_x86::{Instruction, Mnemonic};

use super::width;
use crate::{
    cpu::{Core, Halt, Register, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let run: Handler = match instruction.mnemonic() {
        // Hints, and encodings that were reserved for hints: without the feature behind them they do nothing and touch no memory.
        Mnemonic::Nop
        | Mnemonic::Reservednop
        | Mnemonic::Pause
        | Mnemonic::Endbr32
        | Mnemonic::Endbr64
        | Mnemonic::Rdsspd
        | Mnemonic::Rdsspq
        | Mnemonic::Cldemote
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetch
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetchwt1
        | Mnemonic::Prefetchit0
        | Mnemonic::Prefetchit1 => |_, _| Ok(()),
        Mnemonic::Xlatb => {
            // The decoder names AL as the index register; it is added in `translate`, as a byte.
            op.index = Register::Zero;
            translate
        }
        Mnemonic::Bound if width(instruction, 0) == 2 => bound_16,
        Mnemonic::Bound => bound_32,
        _ => return None,
    };
    Selected::anywhere(run)
}

/// XLAT: AL becomes the byte at index AL of the table at RBX.
fn translate(core: &mut Core, op: &Op) -> Step {
    let index: u8 = core.get(Register::Rax);
    let offset = core.offset(op).wrapping_add(u64::from(index)) & op.address_mask();
    let value: u8 = core.load_at(op.segment, offset)?;
    core.put(Register::Rax, value);
    Ok(())
}

fn bound_16(core: &mut Core, op: &Op) -> Step {
    let bounds: u32 = core.load(op)?;
    let index = core.get::<u16>(op.r1) as i16;
    check_bounds(core, index, bounds as i16, (bounds >> 16) as i16)
}

fn bound_32(core: &mut Core, op: &Op) -> Step {
    let bounds: u64 = core.load(op)?;
    let index = core.get::<u32>(op.r1) as i32;
    check_bounds(core, index, bounds as i32, (bounds >> 32) as i32)
}

fn check_bounds<T: PartialOrd + Copy>(core: &mut Core, index: T, lower: T, upper: T) -> Step {
    if index < lower || index > upper {
        return Err(out_of_bounds(core));
    }
    Ok(())
}

#[cold]
fn out_of_bounds(core: &mut Core) -> Halt {
    core.raise(Exception::BOUND)
}
