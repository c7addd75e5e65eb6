//! Shifts and rotates by one operand (SDM 2B, RCL and 2B, SAL).
//!
//! A count is cut to 5 bits, or 6 for 64-bit operands. If nothing is left, no flag changes. What the manual leaves undefined is as AMD's Zen has it: AF is
//! set by shifts, and OF compares the same two bits after any count as after a count of one.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{
    by_width,
    dispatch::{is_register, with_operand},
    width,
};
use crate::{
    cpu::{Core, Register, Step},
    decode::op::{Handler, Op, Selected},
    flags::Flags,
    isa::operand::{R1, Target, Width},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let run = match instruction.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => of_kind::<Shl>(instruction, op),
        Mnemonic::Shr => of_kind::<Shr>(instruction, op),
        Mnemonic::Sar => of_kind::<Sar>(instruction, op),
        Mnemonic::Rol => of_kind::<Rol>(instruction, op),
        Mnemonic::Ror => of_kind::<Ror>(instruction, op),
        Mnemonic::Rcl => of_kind::<Rcl>(instruction, op),
        Mnemonic::Rcr => of_kind::<Rcr>(instruction, op),
        _ => return None,
    };
    Selected::anywhere(run)
}

fn of_kind<S: Shift>(instruction: &Instruction, op: &mut Op) -> Handler {
    let bytes = width(instruction, 0);
    if is_register(instruction, 1) {
        return by_width!(bytes, T => with_operand!(instruction, 0, R1, D => shift::<S, T, D, InCl>));
    }
    debug_assert!(matches!(instruction.op_kind(1), OpKind::Immediate8));
    op.immediate &= if bytes == 8 { 63 } else { 31 };
    if op.immediate == 0 {
        by_width!(bytes, T => with_operand!(instruction, 0, R1, D => unshifted::<T, D>))
    } else {
        by_width!(bytes, T => with_operand!(instruction, 0, R1, D => shift::<S, T, D, Constant>))
    }
}

/// Where a count is.
trait Count {
    /// Whether it can be zero.
    const CAN_BE_ZERO: bool;
    /// The count, cut.
    fn count<T: Width>(core: &Core, op: &Op) -> u32;
}

/// In the immediate operand, cut when it was decoded, and not zero.
struct Constant;
/// In CL.
struct InCl;

impl Count for Constant {
    const CAN_BE_ZERO: bool = false;

    #[inline(always)]
    fn count<T: Width>(_core: &Core, op: &Op) -> u32 {
        op.immediate as u32
    }
}

impl Count for InCl {
    const CAN_BE_ZERO: bool = true;

    #[inline(always)]
    fn count<T: Width>(core: &Core, _op: &Op) -> u32 {
        core.general[Register::Rcx as usize] as u32 & if T::BITS == 64 { 63 } else { 31 }
    }
}

/// What a shift gives.
struct Shifted<T> {
    result: T,
    carry: bool,
    overflow: bool,
}

/// A kind of shift.
trait Shift {
    /// Shifts by 1 to 63 (31 for narrower operands).
    fn shift<T: Width>(value: T, count: u32, carry: bool) -> Shifted<T>;

    /// Sets the flags.
    #[inline(always)]
    fn set_flags<T: Width>(flags: &mut Flags, shifted: &Shifted<T>) {
        flags.after(shifted.result, shifted.carry, shifted.overflow, true);
    }
}

struct Shl;
struct Shr;
struct Sar;
struct Rol;
struct Ror;
struct Rcl;
struct Rcr;

/// The bit below the sign bit.
#[inline(always)]
fn second<T: Width>(value: T) -> bool {
    value.zero_extend() >> (T::BITS - 2) & 1 != 0
}

impl Shift for Shl {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, _carry: bool) -> Shifted<T> {
        let value = value.zero_extend();
        // Left shifts of narrower operands by up to 31 fit in 64 bits.
        let carry = if T::BITS == 64 {
            value >> (64 - count)
        } else {
            value << count >> T::BITS
        } & 1
            != 0;
        let result = T::truncate(value << count);
        Shifted {
            result,
            carry,
            overflow: result.sign() ^ carry,
        }
    }
}

impl Shift for Shr {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, _carry: bool) -> Shifted<T> {
        let wide = value.zero_extend();
        let result = T::truncate(wide >> count);
        Shifted {
            result,
            carry: wide >> (count - 1) & 1 != 0,
            overflow: second(result),
        }
    }
}

impl Shift for Sar {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, _carry: bool) -> Shifted<T> {
        let wide = value.sign_extend() as i64;
        Shifted {
            result: T::truncate((wide >> count) as u64),
            carry: wide >> (count - 1) & 1 != 0,
            overflow: false,
        }
    }
}

impl Shift for Rol {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, _carry: bool) -> Shifted<T> {
        let result = rotate_left(value, count % T::BITS);
        let carry = result.zero_extend() & 1 != 0;
        Shifted {
            result,
            carry,
            overflow: result.sign() ^ carry,
        }
    }

    #[inline(always)]
    fn set_flags<T: Width>(flags: &mut Flags, shifted: &Shifted<T>) {
        flags.set_carry_overflow(shifted.carry, shifted.overflow);
    }
}

impl Shift for Ror {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, _carry: bool) -> Shifted<T> {
        let result = rotate_left(value, (T::BITS - count % T::BITS) % T::BITS);
        Shifted {
            result,
            carry: result.sign(),
            overflow: result.sign() ^ second(result),
        }
    }

    #[inline(always)]
    fn set_flags<T: Width>(flags: &mut Flags, shifted: &Shifted<T>) {
        flags.set_carry_overflow(shifted.carry, shifted.overflow);
    }
}

impl Shift for Rcl {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, carry: bool) -> Shifted<T> {
        let (result, carry) = rotate_with_carry(value, count % (T::BITS + 1), carry);
        Shifted {
            result,
            carry,
            overflow: result.sign() ^ carry,
        }
    }

    #[inline(always)]
    fn set_flags<T: Width>(flags: &mut Flags, shifted: &Shifted<T>) {
        flags.set_carry_overflow(shifted.carry, shifted.overflow);
    }
}

impl Shift for Rcr {
    #[inline(always)]
    fn shift<T: Width>(value: T, count: u32, carry: bool) -> Shifted<T> {
        let bits = T::BITS + 1;
        let (result, carry) = rotate_with_carry(value, (bits - count % bits) % bits, carry);
        Shifted {
            result,
            carry,
            overflow: result.sign() ^ second(result),
        }
    }

    #[inline(always)]
    fn set_flags<T: Width>(flags: &mut Flags, shifted: &Shifted<T>) {
        flags.set_carry_overflow(shifted.carry, shifted.overflow);
    }
}

/// Rotates left by less than the width.
#[inline(always)]
fn rotate_left<T: Width>(value: T, count: u32) -> T {
    let wide = value.zero_extend();
    if T::BITS == 64 {
        T::truncate(wide.rotate_left(count))
    } else {
        T::truncate(wide << count | wide >> (T::BITS - count))
    }
}

/// Rotates CF and the operand below it left, by at most the width.
#[inline(always)]
fn rotate_with_carry<T: Width>(value: T, count: u32, carry: bool) -> (T, bool) {
    let bits = T::BITS + 1;
    let ring = u128::from(carry) << T::BITS | u128::from(value.zero_extend());
    let turned = ring << count | ring >> (bits - count);
    (T::truncate(turned as u64), turned >> T::BITS & 1 != 0)
}

fn shift<S: Shift, T: Width, D: Target<T>, C: Count>(core: &mut Core, op: &Op) -> Step {
    let count = C::count::<T>(core, op);
    let value = D::read_to_modify(core, op)?;
    if C::CAN_BE_ZERO && count == 0 {
        return D::write(core, op, value);
    }
    let shifted = S::shift(value, count, core.flags.carry());
    D::write(core, op, shifted.result)?;
    S::set_flags(&mut core.flags, &shifted);
    Ok(())
}

/// A count of zero: the operand is written all the same, which clears the upper half of a 64-bit register.
fn unshifted<T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    let value = D::read_to_modify(core, op)?;
    D::write(core, op, value)
}
