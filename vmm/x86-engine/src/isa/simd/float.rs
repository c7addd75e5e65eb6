//! Floating-point arithmetic on XMM registers.

use iced_x86::{Instruction, Mnemonic};

use super::{
    mxcsr::{Arithmetic, arithmetic, begin, compute},
    unmasked::{self, HORIZONTAL_DOUBLES, HORIZONTAL_SINGLES},
    vector::{Aligned, Low32, Low64, Second, Source, Vector},
};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
};

/// The handler of an instruction `destination = f(destination, source)`.
fn float<A, S: Source>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = Vector, Output = Vector>,
{
    if core.mxcsr.in_host()
        && let Some(source) = S::read_quickly(core, op)
    {
        let result = A::native(core.vector(op.r1), source);
        core.set_vector(op.r1, result);
        return Ok(());
    }
    float_slowly::<A, S>(core, op)
}

#[cold]
#[inline(never)]
fn float_slowly<A, S: Source>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = Vector, Output = Vector>,
{
    let native = begin(core)?;
    let source = S::read(core, op)?;
    unmasked::check_op(core, op, core.vector(op.r1), source)?;
    let result = compute::<A>(core, native, core.vector(op.r1), source)?;
    core.set_vector(op.r1, result);
    Ok(())
}

/// Makes an [`Arithmetic`] of every mnemonic, and the table of them. The memory operand's width goes before them.
macro_rules! float_instructions {
    ($($source:ident: $($name:ident)*;)*) => {
        $($(
            arithmetic! {
                $name(left: Vector, right: Vector) -> Vector {
                    let mut result = left.0;
                    asm [concat!(stringify!($name), " {0}, {1}")]
                        (inout(xmm_reg) result, in(xmm_reg) right.0,)
                    Vector(result)
                }
            }
        )*)*

        fn table(mnemonic: Mnemonic, memory: bool) -> Option<Handler> {
            Some(match (mnemonic, memory) {
                $($(
                    (Mnemonic::$name, false) => float::<$name, Second>,
                    (Mnemonic::$name, true) => float::<$name, $source>,
                )*)*
                _ => return None,
            })
        }
    };
}

float_instructions! {
    Aligned:
        Addps Subps Mulps Divps Sqrtps Minps Maxps
        Addpd Subpd Mulpd Divpd Sqrtpd Minpd Maxpd
        Addsubps Addsubpd Haddps Haddpd Hsubps Hsubpd
        Cvtdq2ps Cvtps2dq Cvttps2dq Cvtpd2dq Cvttpd2dq Cvtpd2ps;
    Low64: Addsd Subsd Mulsd Divsd Sqrtsd Minsd Maxsd Cvtsd2ss Cvtps2pd Cvtdq2pd;
    Low32: Addss Subss Mulss Divss Sqrtss Minss Maxss Cvtss2sd;
}

/// Makes an [`Arithmetic`] of every mnemonic, for every immediate.
macro_rules! float_instructions_with_immediate {
    ($($name:ident)*) => {$(
        arithmetic! {
            $name<I>(left: Vector, right: Vector) -> Vector {
                let mut result = left.0;
                asm [concat!(stringify!($name), " {0}, {1}, {2}")]
                    (inout(xmm_reg) result, in(xmm_reg) right.0, const I,)
                Vector(result)
            }
        }
    )*};
}

float_instructions_with_immediate! { Cmpps Cmppd Cmpss Cmpsd Roundps Roundpd Roundss Roundsd }

/// The handler of one of them, for the immediates that are listed.
macro_rules! by_immediate {
    ($name:ident, $source:ident, $number:expr, $memory:expr; $($listed:literal)*) => {
        match ($number, $memory) {
            $(
                ($listed, false) => float::<$name<$listed>, Second>,
                ($listed, true) => float::<$name<$listed>, $source>,
            )*
            _ => return None,
        }
    };
}

/// CMPxx: the immediate's low three bits choose the condition.
fn comparison(mnemonic: Mnemonic, immediate: u8, memory: bool) -> Option<Handler> {
    let condition = immediate & 7;
    macro_rules! conditions {
        ($name:ident, $source:ident) => {
            by_immediate!($name, $source, condition, memory; 0 1 2 3 4 5 6 7)
        };
    }
    Some(match mnemonic {
        Mnemonic::Cmpps => conditions!(Cmpps, Aligned),
        Mnemonic::Cmppd => conditions!(Cmppd, Aligned),
        Mnemonic::Cmpss => conditions!(Cmpss, Low32),
        Mnemonic::Cmpsd => conditions!(Cmpsd, Low64),
        _ => return None,
    })
}

/// ROUNDxx: the immediate's low four bits choose the rounding.
fn rounding(mnemonic: Mnemonic, immediate: u8, memory: bool) -> Option<Handler> {
    let mode = immediate & 15;
    macro_rules! modes {
        ($name:ident, $source:ident) => {
            by_immediate!($name, $source, mode, memory; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
        };
    }
    Some(match mnemonic {
        Mnemonic::Roundps => modes!(Roundps, Aligned),
        Mnemonic::Roundpd => modes!(Roundpd, Aligned),
        Mnemonic::Roundss => modes!(Roundss, Low32),
        Mnemonic::Roundsd => modes!(Roundsd, Low64),
        _ => return None,
    })
}

/// DPPS, DPPD: what the immediate's high half does not choose counts as zero, and so does the sum where the low half does not want it.
/// The order of the additions is the manual's (SDM 2A, DPPS); an unmasked exception ends the instruction at the step that raises it.
fn dot_product<S: Source, const LANES: usize>(core: &mut Core, op: &Op) -> Step {
    let native = begin(core)?;
    let source = S::read(core, op)?.bits();
    let factors = lanes::<LANES>(op.immediate >> 4);
    let left = Vector::new(core.xmm(op.r1) & factors);
    let right = Vector::new(source & factors);
    unmasked::check_op(core, op, left, right)?;
    let sum = if LANES == 4 {
        let products = compute::<Mulps>(core, native, left, right)?;
        unmasked::check(core, HORIZONTAL_SINGLES, products, products)?;
        let sums = compute::<Haddps>(core, native, products, products)?;
        unmasked::check(core, HORIZONTAL_SINGLES, sums, sums)?;
        compute::<Haddps>(core, native, sums, sums)?
    } else {
        let products = compute::<Mulpd>(core, native, left, right)?;
        unmasked::check(core, HORIZONTAL_DOUBLES, products, products)?;
        compute::<Haddpd>(core, native, products, products)?
    };
    core.set_xmm(op.r1, sum.bits() & lanes::<LANES>(op.immediate));
    Ok(())
}

/// Ones in the chosen lanes.
fn lanes<const LANES: usize>(chosen: u64) -> u128 {
    let width = 128 / LANES;
    let lane = u128::MAX >> (128 - width);
    (0..LANES)
        .filter(|index| chosen >> index & 1 != 0)
        .fold(0, |mask, index| mask | lane << (index * width))
}

/// Finds the handler of an arithmetic instruction.
pub(super) fn find(instruction: &Instruction, memory: bool) -> Option<Handler> {
    if !instruction.op0_register().is_xmm() || instruction.op1_register().is_mm() {
        return None;
    }
    let mnemonic = instruction.mnemonic();
    if instruction.op_count() == 3 {
        let immediate = instruction.immediate8();
        return dot_products(mnemonic, memory)
            .or_else(|| comparison(mnemonic, immediate, memory))
            .or_else(|| rounding(mnemonic, immediate, memory));
    }
    table(mnemonic, memory)
}

fn dot_products(mnemonic: Mnemonic, memory: bool) -> Option<Handler> {
    Some(match (mnemonic, memory) {
        (Mnemonic::Dpps, false) => dot_product::<Second, 4>,
        (Mnemonic::Dpps, true) => dot_product::<Aligned, 4>,
        (Mnemonic::Dppd, false) => dot_product::<Second, 2>,
        (Mnemonic::Dppd, true) => dot_product::<Aligned, 2>,
        _ => return None,
    })
}
