//! Overflow and underflow that are not masked: whether the result is also inexact.
//!
//! Masked, an overflow or an underflow nearly always loses precision. Not masked, the result is rounded as if exponents had no bounds, and the precision
//! flag tells whether that lost anything (SDM 1 4.9.1.4 and 4.9.1.5). The host cannot be asked: it would take the exception. So
//! in this rare case the flags of every lane are determined singly, and the lane's precision flag from the odd parts of its operands.
//!
//! What always holds: an instruction that raises neither of the two, or has both masked, does not come here.

use iced_x86::Mnemonic;

use super::{
    float::{Addsd, Addss, Cvtsd2ss, Divsd, Divss, Mulsd, Mulss},
    mxcsr::{Arithmetic, OVERFLOW, PRECISION, UNDERFLOW, raised},
    vector::Vector,
};
use crate::{
    cpu::{Core, Step},
    decode::op::Op,
};

/// What a lane computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Multiply,
    Divide,
    /// From double to single; the first operand plays no part.
    Narrow,
}

/// Which operands a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The lowest of both.
    Scalar,
    /// The same of both.
    Packed,
    /// The same of both, those of even lanes with a minus.
    Alternating,
    /// Neighbours.
    Horizontal,
}

/// An instruction that can overflow or underflow.
#[derive(Clone, Copy, Debug)]
struct Shape {
    operation: Operation,
    layout: Layout,
    double: bool,
    /// The second operand has its sign changed.
    subtracts: bool,
}

/// The shapes, by [`number`] minus one.
const SHAPES: [(Mnemonic, Shape); 26] = {
    use Layout::{Alternating, Horizontal, Packed, Scalar};
    use Operation::{Add, Divide, Multiply, Narrow};
    [
        (Mnemonic::Addps, shape(Add, Packed, false, false)),
        (Mnemonic::Addpd, shape(Add, Packed, true, false)),
        (Mnemonic::Addss, shape(Add, Scalar, false, false)),
        (Mnemonic::Addsd, shape(Add, Scalar, true, false)),
        (Mnemonic::Subps, shape(Add, Packed, false, true)),
        (Mnemonic::Subpd, shape(Add, Packed, true, true)),
        (Mnemonic::Subss, shape(Add, Scalar, false, true)),
        (Mnemonic::Subsd, shape(Add, Scalar, true, true)),
        (Mnemonic::Mulps, shape(Multiply, Packed, false, false)),
        (Mnemonic::Mulpd, shape(Multiply, Packed, true, false)),
        (Mnemonic::Mulss, shape(Multiply, Scalar, false, false)),
        (Mnemonic::Mulsd, shape(Multiply, Scalar, true, false)),
        (Mnemonic::Divps, shape(Divide, Packed, false, false)),
        (Mnemonic::Divpd, shape(Divide, Packed, true, false)),
        (Mnemonic::Divss, shape(Divide, Scalar, false, false)),
        (Mnemonic::Divsd, shape(Divide, Scalar, true, false)),
        (Mnemonic::Haddps, shape(Add, Horizontal, false, false)),
        (Mnemonic::Haddpd, shape(Add, Horizontal, true, false)),
        (Mnemonic::Hsubps, shape(Add, Horizontal, false, true)),
        (Mnemonic::Hsubpd, shape(Add, Horizontal, true, true)),
        (Mnemonic::Addsubps, shape(Add, Alternating, false, false)),
        (Mnemonic::Addsubpd, shape(Add, Alternating, true, false)),
        (Mnemonic::Cvtsd2ss, shape(Narrow, Scalar, true, false)),
        (Mnemonic::Cvtpd2ps, shape(Narrow, Packed, true, false)),
        // Of these, the first step; the additions that follow have the shape of HADDPS and HADDPD.
        (Mnemonic::Dpps, shape(Multiply, Packed, false, false)),
        (Mnemonic::Dppd, shape(Multiply, Packed, true, false)),
    ]
};

/// The shape of the additions in DPPS.
pub(super) const HORIZONTAL_SINGLES: u16 = 17;
/// The shape of the addition in DPPD.
pub(super) const HORIZONTAL_DOUBLES: u16 = 18;

const fn shape(operation: Operation, layout: Layout, double: bool, subtracts: bool) -> Shape {
    Shape {
        operation,
        layout,
        double,
        subtracts,
    }
}

/// The number by which [`check`] knows an instruction; 0 if it can neither overflow nor underflow.
pub(super) fn number(mnemonic: Mnemonic) -> u16 {
    SHAPES
        .iter()
        .position(|(name, _)| *name == mnemonic)
        .map_or(0, |index| index as u16 + 1)
}

/// Raises #XM, with exact flags, if the instruction is one that can overflow or underflow, and does, unmasked.
pub(super) fn check(core: &mut Core, number: u16, left: Vector, right: Vector) -> Step {
    let unmasked = core.mxcsr.unmasked();
    if unmasked & (OVERFLOW | UNDERFLOW) == 0 || number == 0 {
        return Ok(());
    }
    let shape = SHAPES[usize::from(number) - 1].1;
    let control = core.mxcsr.get();
    let flags = lanes(shape, left.bits(), right.bits())
        .map(|(a, b)| lane_flags(shape, a, b, control))
        .fold(0, |all, flags| all | flags);
    if flags & unmasked & (OVERFLOW | UNDERFLOW) == 0 {
        return Ok(());
    }
    super::mxcsr::raise(core, flags, unmasked)
}

/// [`check`] for the instruction that `select` numbered.
#[inline(always)]
pub(super) fn check_op(core: &mut Core, op: &Op, left: Vector, right: Vector) -> Step {
    check(core, op.extra, left, right)
}

/// The operands of every lane.
fn lanes(shape: Shape, left: u128, right: u128) -> impl Iterator<Item = (u64, u64)> {
    let (bits, count) = if shape.double { (64, 2) } else { (32, 4) };
    let lane =
        move |value: u128, index: usize| (value >> (index * bits)) as u64 & u64::MAX >> (64 - bits);
    let sign = 1_u64 << (bits - 1);
    let count = if shape.layout == Layout::Scalar {
        1
    } else {
        count
    };
    (0..count).map(move |index| {
        let (a, b) = match shape.layout {
            Layout::Horizontal => {
                let from = if index < count / 2 { left } else { right };
                let first = index * 2 % count;
                (lane(from, first), lane(from, first + 1))
            }
            _ => (lane(left, index), lane(right, index)),
        };
        let negated = shape.subtracts || (shape.layout == Layout::Alternating && index % 2 == 0);
        // A NaN may change its sign: that makes no difference to flags.
        (a, if negated { b ^ sign } else { b })
    })
}

/// The flags of one lane.
fn lane_flags(shape: Shape, a: u64, b: u64, control: u32) -> u32 {
    let flags = match (shape.operation, shape.double) {
        (Operation::Add, false) => scalar::<Addss>(a, b, control),
        (Operation::Add, true) => scalar::<Addsd>(a, b, control),
        (Operation::Multiply, false) => scalar::<Mulss>(a, b, control),
        (Operation::Multiply, true) => scalar::<Mulsd>(a, b, control),
        (Operation::Divide, false) => scalar::<Divss>(a, b, control),
        (Operation::Divide, true) => scalar::<Divsd>(a, b, control),
        (Operation::Narrow, _) => scalar::<Cvtsd2ss>(a, b, control),
    };
    let unmasked = super::mxcsr::unmasked(control);
    if flags & unmasked & (OVERFLOW | UNDERFLOW) == 0 {
        return flags;
    }
    let inexact = !is_exact(shape, a, b);
    flags & !PRECISION | if inexact { PRECISION } else { 0 }
}

fn scalar<A>(a: u64, b: u64, control: u32) -> u32
where
    A: Arithmetic<Left = Vector, Right = Vector, Output = Vector>,
{
    raised::<A>(control, Vector::halves(0, a), Vector::halves(0, b)).1
}

/// A finite number that is not zero: odd mantissa, and exponent of its lowest bit.
fn odd_part(value: u64, double: bool) -> (u64, i32) {
    let fraction_bits = if double { 52 } else { 23 };
    let exponent_mask = if double { 0x7FF } else { 0xFF };
    let fraction = value & ((1 << fraction_bits) - 1);
    let exponent = (value >> fraction_bits & exponent_mask) as i32;
    let (mantissa, exponent) = if exponent == 0 {
        (fraction, 1)
    } else {
        (fraction | 1 << fraction_bits, exponent)
    };
    let zeros = mantissa.trailing_zeros().min(63);
    (mantissa >> zeros, exponent + zeros as i32)
}

/// Whether the result, with an exponent without bounds, needs no rounding. The operands are finite and not zero: others do not overflow
/// or underflow.
fn is_exact(shape: Shape, a: u64, b: u64) -> bool {
    let precision = if shape.double && shape.operation != Operation::Narrow {
        53
    } else {
        24
    };
    let fits = |mantissa: u128| {
        let odd = mantissa >> mantissa.trailing_zeros().min(127);
        128 - odd.leading_zeros() <= precision
    };
    let sign = 1_u64 << if shape.double { 63 } else { 31 };
    if shape.operation == Operation::Add && (a ^ b) & sign != 0 {
        // The difference of two numbers that underflows is exact, and none overflows.
        return true;
    }
    let ((a, a_exponent), (b, b_exponent)) = (odd_part(a, shape.double), odd_part(b, shape.double));
    match shape.operation {
        Operation::Narrow => fits(u128::from(b)),
        Operation::Multiply => fits(u128::from(a) * u128::from(b)),
        Operation::Divide => b != 0 && a.is_multiple_of(b) && fits(u128::from(a / b)),
        Operation::Add => {
            let (high, low) = if a_exponent > b_exponent {
                (a, b)
            } else {
                (b, a)
            };
            let apart = a_exponent.abs_diff(b_exponent);
            apart < 64 && fits((u128::from(high) << apart) + u128::from(low))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_additions_of_dot_products_have_the_horizontal_shapes() {
        assert_eq!(HORIZONTAL_SINGLES, number(Mnemonic::Haddps));
        assert_eq!(HORIZONTAL_DOUBLES, number(Mnemonic::Haddpd));
        assert_eq!(number(Mnemonic::Sqrtpd), 0);
    }
}
