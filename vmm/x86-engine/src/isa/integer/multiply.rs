//! MUL, IMUL, DIV, IDIV (SDM 2A and 2B).
//!
//! What the manual leaves undefined is as AMD's Zen has it: a product leaves SF, ZF, AF and PF alone; a quotient leaves CF and OF alone, sets AF and
//! clears SF, ZF and PF.

use iced_x86::{Instruction, Mnemonic};

use super::{
    by_width,
    dispatch::{with_operand, with_wide_width},
    width,
};
use crate::{
    cpu::{Core, Halt, Register, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
    isa::operand::{Immediate, R1, R2, Source, Target, Width},
};

/// Finds the handler.
pub(crate) fn select(instruction: &Instruction) -> Option<Selected> {
    let bytes = width(instruction, 0);
    let run: Handler = match (instruction.mnemonic(), instruction.op_count()) {
        (Mnemonic::Mul, _) => {
            by_width!(bytes, T => with_operand!(instruction, 0, R1, S => multiply::<T, S, Unsigned>))
        }
        (Mnemonic::Imul, 1) => {
            by_width!(bytes, T => with_operand!(instruction, 0, R1, S => multiply::<T, S, Signed>))
        }
        (Mnemonic::Imul, 2) => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => product::<T, R1, S>))
        }
        (Mnemonic::Imul, _) => {
            with_wide_width!(bytes, T => with_operand!(instruction, 1, R2, S => product::<T, S, Immediate>))
        }
        (Mnemonic::Div, _) => {
            by_width!(bytes, T => with_operand!(instruction, 0, R1, S => divide::<T, S, Unsigned>))
        }
        (Mnemonic::Idiv, _) => {
            by_width!(bytes, T => with_operand!(instruction, 0, R1, S => divide::<T, S, Signed>))
        }
        _ => return None,
    };
    Selected::anywhere(run)
}

/// Arithmetic without or with signs.
trait Arithmetic {
    /// The product, of twice the width, and whether its upper half says nothing that the lower one does not.
    fn product<T: Width>(a: T, b: T) -> (u128, bool);
    /// Quotient and remainder of `dividend`, which has twice `T`'s width, if the quotient fits.
    fn quotient<T: Width>(dividend: u128, divisor: T) -> Option<(u64, u64)>;
}

struct Unsigned;
struct Signed;

impl Arithmetic for Unsigned {
    #[inline(always)]
    fn product<T: Width>(a: T, b: T) -> (u128, bool) {
        let product = u128::from(a.zero_extend()) * u128::from(b.zero_extend());
        (product, product >> T::BITS == 0)
    }

    #[inline(always)]
    fn quotient<T: Width>(dividend: u128, divisor: T) -> Option<(u64, u64)> {
        let divisor = divisor.zero_extend();
        // The upper half of the dividend decides whether the quotient fits; that covers a divisor of zero.
        if (dividend >> T::BITS) as u64 >= divisor {
            return None;
        }
        if let Ok(short) = u64::try_from(dividend) {
            return Some((short / divisor, short % divisor));
        }
        let divisor = u128::from(divisor);
        Some(((dividend / divisor) as u64, (dividend % divisor) as u64))
    }
}

impl Arithmetic for Signed {
    #[inline(always)]
    fn product<T: Width>(a: T, b: T) -> (u128, bool) {
        let product = i128::from(a.sign_extend() as i64) * i128::from(b.sign_extend() as i64);
        let low = i128::from(T::truncate(product as u64).sign_extend() as i64);
        (product as u128, product == low)
    }

    #[inline(always)]
    fn quotient<T: Width>(dividend: u128, divisor: T) -> Option<(u64, u64)> {
        let unused = 128 - 2 * T::BITS;
        let dividend = (dividend << unused) as i128 >> unused;
        let divisor = divisor.sign_extend() as i64;
        if let Ok(short) = i64::try_from(dividend) {
            let quotient = short.checked_div(divisor)?;
            let fits = T::truncate(quotient as u64).sign_extend() == quotient as u64;
            return fits.then_some((quotient as u64, short.wrapping_rem(divisor) as u64));
        }
        let divisor = i128::from(divisor);
        let quotient = dividend.checked_div(divisor)?;
        let fits = i128::from(T::truncate(quotient as u64).sign_extend() as i64) == quotient;
        fits.then_some((quotient as u64, dividend.wrapping_rem(divisor) as u64))
    }
}

/// The register, or registers, of twice the width that RDX:RAX, EDX:EAX, DX:AX or AX are.
#[inline(always)]
fn put_double<T: Width>(core: &mut Core, low: T, high: T) {
    if T::BITS == 8 {
        let both = high.zero_extend() << 8 | low.zero_extend();
        core.put(Register::Rax, both as u16);
    } else {
        core.put(Register::Rax, low);
        core.put(Register::Rdx, high);
    }
}

#[inline(always)]
fn get_double<T: Width>(core: &Core) -> u128 {
    if T::BITS == 8 {
        u128::from(core.get::<u16>(Register::Rax))
    } else {
        let low: T = core.get(Register::Rax);
        let high: T = core.get(Register::Rdx);
        u128::from(high.zero_extend()) << T::BITS | u128::from(low.zero_extend())
    }
}

fn multiply<T: Width, S: Source<T>, A: Arithmetic>(core: &mut Core, op: &Op) -> Step {
    let factor = S::read(core, op)?;
    let (product, short) = A::product::<T>(core.get(Register::Rax), factor);
    put_double(
        core,
        T::truncate(product as u64),
        T::truncate((product >> T::BITS) as u64),
    );
    core.flags.set_carry_overflow(!short, !short);
    Ok(())
}

/// IMUL with two or three operands; the first is always a register.
fn product<T: Width, A: Source<T>, B: Source<T>>(core: &mut Core, op: &Op) -> Step {
    let (a, b) = (A::read(core, op)?, B::read(core, op)?);
    let (result, short) = short_product(a, b);
    R1::write(core, op, result)?;
    core.flags.set_carry_overflow(!short, !short);
    Ok(())
}

/// A signed product of the operands' own width, and whether it is all of it.
#[inline(always)]
fn short_product<T: Width>(a: T, b: T) -> (T, bool) {
    let (a, b) = (a.sign_extend() as i64, b.sign_extend() as i64);
    let (product, overflow) = a.overflowing_mul(b);
    let result = T::truncate(product as u64);
    let fits = !overflow && result.sign_extend() == product as u64;
    (result, fits)
}

fn divide<T: Width, S: Source<T>, A: Arithmetic>(core: &mut Core, op: &Op) -> Step {
    let divisor = S::read(core, op)?;
    let Some((quotient, remainder)) = A::quotient(get_double::<T>(core), divisor) else {
        return Err(divide_error(core));
    };
    put_double(core, T::truncate(quotient), T::truncate(remainder));
    // A result of 1 has none of SF, ZF and PF.
    let (carry, overflow) = (core.flags.carry(), core.flags.overflow());
    core.flags.after(1_u8, carry, overflow, true);
    Ok(())
}

#[cold]
fn divide_error(core: &mut Core) -> Halt {
    core.raise(Exception::DIVIDE)
}
