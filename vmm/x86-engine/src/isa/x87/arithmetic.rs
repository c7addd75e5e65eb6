//! FADD, FSUB, FMUL, FDIV with all their operands.

use std::marker::PhantomData;

use iced_x86::Code;

use crate::{
    cpu::{Core, Halt, Step},
    decode::op::{Handler, Op},
    float80::{self, Environment, Float80, Outcome},
};

use super::{other, stack::Effect};

/// One of the basic operations.
trait Operation {
    /// The new value of `destination`.
    fn of(destination: Float80, source: Float80, environment: Environment) -> Outcome;
}

macro_rules! operations {
    ($($name:ident: |$a:ident, $b:ident, $environment:ident| $value:expr;)*) => {$(
        struct $name;

        impl Operation for $name {
            fn of($a: Float80, $b: Float80, $environment: Environment) -> Outcome {
                $value
            }
        }
    )*};
}

operations! {
    Add: |a, b, environment| float80::add(a, b, environment);
    Multiply: |a, b, environment| float80::multiply(a, b, environment);
    Subtract: |a, b, environment| float80::subtract(a, b, environment);
    SubtractReversed: |a, b, environment| float80::subtract(b, a, environment);
    Divide: |a, b, environment| float80::divide(a, b, environment);
    DivideReversed: |a, b, environment| float80::divide(b, a, environment);
}

/// An operand that is not ST(0).
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// Nothing if it is an empty register.
    pub(super) number: Option<Float80>,
    /// It was a denormal of a memory format.
    pub(super) denormal: bool,
}

impl Operand {
    fn exact(number: Float80) -> Self {
        Self {
            number: Some(number),
            denormal: false,
        }
    }
}

impl From<float80::Widened> for Operand {
    fn from(widened: float80::Widened) -> Self {
        Self {
            number: Some(widened.number),
            denormal: widened.denormal,
        }
    }
}

/// Where such an operand is.
pub(super) trait Source {
    /// It is in memory.
    const IN_MEMORY: bool;
    /// Reads it.
    fn read(core: &mut Core, op: &Op) -> Result<Operand, Halt>;
}

macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident $in_memory:literal |$core:ident, $op:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Source for $name {
            const IN_MEMORY: bool = $in_memory;

            fn read($core: &mut Core, $op: &Op) -> Result<Operand, Halt> {
                Ok($value)
            }
        }
    )*};
}

sources! {
    /// A single in memory.
    Single true |core, op| float80::widen_f32(core.load(op)?).into();
    /// A double in memory.
    Double true |core, op| float80::widen_f64(core.load(op)?).into();
    /// A 16-bit integer in memory.
    Word true |core, op| Operand::exact(float80::from_i64((core.load::<u16>(op)? as i16).into()));
    /// A 32-bit integer in memory.
    Doubleword true |core, op| Operand::exact(float80::from_i64((core.load::<u32>(op)? as i32).into()));
    /// ST(i).
    Other false |core, op| Operand { number: core.x87.operand(other(op)), denormal: false };
    /// ST(1), of the instructions that do not name it.
    Second false |core, _op| Operand { number: core.x87.operand(1), denormal: false };
    /// The constant 0 of FTST.
    Zero false |_core, _op| Operand::exact(Float80::ZERO);
}

/// The handlers of an operation.
struct Handlers<O>(PhantomData<O>);

impl<O: Operation> Handlers<O> {
    /// ST(0) = ST(0) op source.
    fn top<S: Source>(core: &mut Core, op: &Op) -> Step {
        core.begin_x87()?;
        let source = S::read(core, op)?;
        let x87 = &mut core.x87;
        let environment = x87.environment();
        let effect: Effect = match (x87.operand(0), source.number) {
            (Some(a), Some(b)) if source.denormal => {
                O::of(a, b, environment).after_denormal(environment).into()
            }
            (Some(a), Some(b)) => O::of(a, b, environment).into(),
            _ => x87.underflow(Float80::INDEFINITE),
        };
        x87.write(0, &effect);
        if S::IN_MEMORY {
            core.note_x87_memory(op);
        } else {
            core.note_x87(op);
        }
        Ok(())
    }

    /// ST(i) = ST(i) op ST(0).
    fn other(core: &mut Core, op: &Op) -> Step {
        core.begin_x87()?;
        Self::compute_other(core, op);
        core.note_x87(op);
        Ok(())
    }

    /// The same, then a pop.
    fn other_and_pop(core: &mut Core, op: &Op) -> Step {
        core.begin_x87()?;
        if Self::compute_other(core, op) {
            core.x87.pop();
        }
        core.note_x87(op);
        Ok(())
    }

    fn compute_other(core: &mut Core, op: &Op) -> bool {
        let x87 = &mut core.x87;
        let effect: Effect = match (x87.operand(other(op)), x87.operand(0)) {
            (Some(a), Some(b)) => O::of(a, b, x87.environment()).into(),
            _ => x87.underflow(Float80::INDEFINITE),
        };
        x87.write(other(op), &effect)
    }
}

pub(super) fn select(code: Code) -> Option<Handler> {
    select_registers(code).or_else(|| select_memory(code))
}

fn select_registers(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fadd_st0_sti => Handlers::<Add>::top::<Other>,
        Code::Fmul_st0_sti => Handlers::<Multiply>::top::<Other>,
        Code::Fsub_st0_sti => Handlers::<Subtract>::top::<Other>,
        Code::Fsubr_st0_sti => Handlers::<SubtractReversed>::top::<Other>,
        Code::Fdiv_st0_sti => Handlers::<Divide>::top::<Other>,
        Code::Fdivr_st0_sti => Handlers::<DivideReversed>::top::<Other>,
        Code::Fadd_sti_st0 => Handlers::<Add>::other,
        Code::Fmul_sti_st0 => Handlers::<Multiply>::other,
        Code::Fsub_sti_st0 => Handlers::<Subtract>::other,
        Code::Fsubr_sti_st0 => Handlers::<SubtractReversed>::other,
        Code::Fdiv_sti_st0 => Handlers::<Divide>::other,
        Code::Fdivr_sti_st0 => Handlers::<DivideReversed>::other,
        Code::Faddp_sti_st0 => Handlers::<Add>::other_and_pop,
        Code::Fmulp_sti_st0 => Handlers::<Multiply>::other_and_pop,
        Code::Fsubp_sti_st0 => Handlers::<Subtract>::other_and_pop,
        Code::Fsubrp_sti_st0 => Handlers::<SubtractReversed>::other_and_pop,
        Code::Fdivp_sti_st0 => Handlers::<Divide>::other_and_pop,
        Code::Fdivrp_sti_st0 => Handlers::<DivideReversed>::other_and_pop,
        _ => return None,
    })
}

fn select_memory(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fadd_m32fp => Handlers::<Add>::top::<Single>,
        Code::Fmul_m32fp => Handlers::<Multiply>::top::<Single>,
        Code::Fsub_m32fp => Handlers::<Subtract>::top::<Single>,
        Code::Fsubr_m32fp => Handlers::<SubtractReversed>::top::<Single>,
        Code::Fdiv_m32fp => Handlers::<Divide>::top::<Single>,
        Code::Fdivr_m32fp => Handlers::<DivideReversed>::top::<Single>,
        Code::Fadd_m64fp => Handlers::<Add>::top::<Double>,
        Code::Fmul_m64fp => Handlers::<Multiply>::top::<Double>,
        Code::Fsub_m64fp => Handlers::<Subtract>::top::<Double>,
        Code::Fsubr_m64fp => Handlers::<SubtractReversed>::top::<Double>,
        Code::Fdiv_m64fp => Handlers::<Divide>::top::<Double>,
        Code::Fdivr_m64fp => Handlers::<DivideReversed>::top::<Double>,
        Code::Fiadd_m16int => Handlers::<Add>::top::<Word>,
        Code::Fimul_m16int => Handlers::<Multiply>::top::<Word>,
        Code::Fisub_m16int => Handlers::<Subtract>::top::<Word>,
        Code::Fisubr_m16int => Handlers::<SubtractReversed>::top::<Word>,
        Code::Fidiv_m16int => Handlers::<Divide>::top::<Word>,
        Code::Fidivr_m16int => Handlers::<DivideReversed>::top::<Word>,
        Code::Fiadd_m32int => Handlers::<Add>::top::<Doubleword>,
        Code::Fimul_m32int => Handlers::<Multiply>::top::<Doubleword>,
        Code::Fisub_m32int => Handlers::<Subtract>::top::<Doubleword>,
        Code::Fisubr_m32int => Handlers::<SubtractReversed>::top::<Doubleword>,
        Code::Fidiv_m32int => Handlers::<Divide>::top::<Doubleword>,
        Code::Fidivr_m32int => Handlers::<DivideReversed>::top::<Doubleword>,
        _ => return None,
    })
}
