//! Floating point to and from general and MMX registers, and comparisons that set flags.

use iced_x86::Code;

use super::{
    mxcsr::{Arithmetic, arithmetic, begin, compute},
    vector::{Aligned, Low32, Low64, Second, Source, Vector},
};
use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
    isa::operand::{self, Memory, R2, Width},
};

/// From a general register or memory.
macro_rules! from_integer {
    ($($name:ident $template:literal)*) => {$(
        arithmetic! {
            $name(left: Vector, right: u64) -> Vector {
                let mut result = left.0;
                asm [$template] (inout(xmm_reg) result, in(reg) right,)
                Vector(result)
            }
        }
    )*};
}

from_integer! {
    Cvtsi2ss32 "cvtsi2ss {0}, {1:e}"
    Cvtsi2ss64 "cvtsi2ss {0}, {1:r}"
    Cvtsi2sd32 "cvtsi2sd {0}, {1:e}"
    Cvtsi2sd64 "cvtsi2sd {0}, {1:r}"
}

/// CVTSI2SS, CVTSI2SD.
fn from_integer<A, T: Width, S: operand::Source<T>>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = u64, Output = Vector>,
{
    let native = begin(core)?;
    let source = S::read(core, op)?.zero_extend();
    let result = compute::<A>(core, native, core.vector(op.r1), source)?;
    core.set_vector(op.r1, result);
    Ok(())
}

/// To a general register.
macro_rules! to_integer {
    ($($name:ident $template:literal)*) => {$(
        arithmetic! {
            $name(_left: (), right: Vector) -> u64 {
                let result: u64;
                asm [$template] (out(reg) result, in(xmm_reg) right.0,)
                result
            }
        }
    )*};
}

to_integer! {
    Cvtss2si32 "cvtss2si {0:e}, {1}"
    Cvtss2si64 "cvtss2si {0:r}, {1}"
    Cvtsd2si32 "cvtsd2si {0:e}, {1}"
    Cvtsd2si64 "cvtsd2si {0:r}, {1}"
    Cvttss2si32 "cvttss2si {0:e}, {1}"
    Cvttss2si64 "cvttss2si {0:r}, {1}"
    Cvttsd2si32 "cvttsd2si {0:e}, {1}"
    Cvttsd2si64 "cvttsd2si {0:r}, {1}"
}

/// CVTSS2SI, CVTTSS2SI, CVTSD2SI, CVTTSD2SI.
fn to_integer<A, S: Source>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = (), Right = Vector, Output = u64>,
{
    let native = begin(core)?;
    let source = S::read(core, op)?;
    let result = compute::<A>(core, native, (), source)?;
    core.put(op.r1, result);
    Ok(())
}

/// The low byte of RFLAGS after a comparison; it clears OF, too.
macro_rules! comparison {
    ($($name:ident)*) => {$(
        arithmetic! {
            $name(left: Vector, right: Vector) -> u64 {
                let result: u64;
                asm [concat!(stringify!($name), " {0}, {1}"), "lahf", "movzx eax, ah"]
                    (in(xmm_reg) left.0, in(xmm_reg) right.0, out("rax") result,)
                result
            }
        }
    )*};
}

comparison! { Comiss Comisd Ucomiss Ucomisd }

/// COMISS, COMISD, UCOMISS, UCOMISD.
fn comparison<A, S: Source>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = Vector, Output = u64>,
{
    let native = begin(core)?;
    let source = S::read(core, op)?;
    let flags = compute::<A>(core, native, core.vector(op.r1), source)?;
    core.flags.set_arithmetic(flags);
    Ok(())
}

/// To an MMX register, by way of the host's MM0.
macro_rules! to_mmx {
    ($($name:ident)*) => {$(
        arithmetic! {
            $name(_left: (), right: Vector) -> u64 {
                let result: u64;
                asm [concat!(stringify!($name), " mm0, {1}"), "movq {0}, mm0", "emms"]
                    (out(reg) result, in(xmm_reg) right.0, out("mm0") _,)
                result
            }
        }
    )*};
}

to_mmx! { Cvtps2pi Cvttps2pi Cvtpd2pi Cvttpd2pi }

/// CVTPS2PI, CVTTPS2PI, CVTPD2PI, CVTTPD2PI.
fn to_mmx<A, S: Source>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = (), Right = Vector, Output = u64>,
{
    let native = begin(core)?;
    core.require_no_x87_exception()?;
    let source = S::read(core, op)?;
    // Before a floating-point exception: so AMD's processors do it.
    core.enter_mmx();
    let result = compute::<A>(core, native, (), source)?;
    core.set_mm(op.r1, result);
    Ok(())
}

/// From an MMX register, by way of the host's MM0.
macro_rules! from_mmx {
    ($($name:ident)*) => {$(
        arithmetic! {
            $name(left: Vector, right: u64) -> Vector {
                let mut result = left.0;
                asm ["movq mm0, {1}", concat!(stringify!($name), " {0}, mm0"), "emms"]
                    (inout(xmm_reg) result, in(reg) right, out("mm0") _,)
                Vector(result)
            }
        }
    )*};
}

from_mmx! { Cvtpi2ps Cvtpi2pd }

/// CVTPI2PS, CVTPI2PD.
fn from_mmx<A>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = u64, Output = Vector>,
{
    let native = begin(core)?;
    core.require_no_x87_exception()?;
    core.enter_mmx();
    let result = compute::<A>(core, native, core.vector(op.r1), core.mm(op.r2))?;
    core.set_vector(op.r1, result);
    Ok(())
}

/// CVTPI2PS, CVTPI2PD from memory: MMX registers are not touched, and the x87 stays as it is.
fn from_mmx_memory<A>(core: &mut Core, op: &Op) -> Step
where
    A: Arithmetic<Left = Vector, Right = u64, Output = Vector>,
{
    let native = begin(core)?;
    let source: u64 = core.load(op)?;
    let result = compute::<A>(core, native, core.vector(op.r1), source)?;
    core.set_vector(op.r1, result);
    Ok(())
}

/// Finds the handler of a conversion or comparison.
pub(super) fn find(code: Code, memory: bool) -> Option<Handler> {
    to_general(code, memory).or_else(|| {
        use Code::*;
        Some(match (code, memory) {
            (Cvtsi2ss_xmm_rm32, false) => from_integer::<Cvtsi2ss32, u32, R2>,
            (Cvtsi2ss_xmm_rm32, true) => from_integer::<Cvtsi2ss32, u32, Memory>,
            (Cvtsi2ss_xmm_rm64, false) => from_integer::<Cvtsi2ss64, u64, R2>,
            (Cvtsi2ss_xmm_rm64, true) => from_integer::<Cvtsi2ss64, u64, Memory>,
            (Cvtsi2sd_xmm_rm32, false) => from_integer::<Cvtsi2sd32, u32, R2>,
            (Cvtsi2sd_xmm_rm32, true) => from_integer::<Cvtsi2sd32, u32, Memory>,
            (Cvtsi2sd_xmm_rm64, false) => from_integer::<Cvtsi2sd64, u64, R2>,
            (Cvtsi2sd_xmm_rm64, true) => from_integer::<Cvtsi2sd64, u64, Memory>,
            (Comiss_xmm_xmmm32, false) => comparison::<Comiss, Second>,
            (Comiss_xmm_xmmm32, true) => comparison::<Comiss, Low32>,
            (Comisd_xmm_xmmm64, false) => comparison::<Comisd, Second>,
            (Comisd_xmm_xmmm64, true) => comparison::<Comisd, Low64>,
            (Ucomiss_xmm_xmmm32, false) => comparison::<Ucomiss, Second>,
            (Ucomiss_xmm_xmmm32, true) => comparison::<Ucomiss, Low32>,
            (Ucomisd_xmm_xmmm64, false) => comparison::<Ucomisd, Second>,
            (Ucomisd_xmm_xmmm64, true) => comparison::<Ucomisd, Low64>,
            (Cvtpi2ps_xmm_mmm64, false) => from_mmx::<Cvtpi2ps>,
            (Cvtpi2ps_xmm_mmm64, true) => from_mmx_memory::<Cvtpi2ps>,
            (Cvtpi2pd_xmm_mmm64, false) => from_mmx::<Cvtpi2pd>,
            (Cvtpi2pd_xmm_mmm64, true) => from_mmx_memory::<Cvtpi2pd>,
            (Cvtps2pi_mm_xmmm64, false) => to_mmx::<Cvtps2pi, Second>,
            (Cvtps2pi_mm_xmmm64, true) => to_mmx::<Cvtps2pi, Low64>,
            (Cvttps2pi_mm_xmmm64, false) => to_mmx::<Cvttps2pi, Second>,
            (Cvttps2pi_mm_xmmm64, true) => to_mmx::<Cvttps2pi, Low64>,
            (Cvtpd2pi_mm_xmmm128, false) => to_mmx::<Cvtpd2pi, Second>,
            (Cvtpd2pi_mm_xmmm128, true) => to_mmx::<Cvtpd2pi, Aligned>,
            (Cvttpd2pi_mm_xmmm128, false) => to_mmx::<Cvttpd2pi, Second>,
            (Cvttpd2pi_mm_xmmm128, true) => to_mmx::<Cvttpd2pi, Aligned>,
            _ => return None,
        })
    })
}

fn to_general(code: Code, memory: bool) -> Option<Handler> {
    use Code::*;
    Some(match (code, memory) {
        (Cvtss2si_r32_xmmm32, false) => to_integer::<Cvtss2si32, Second>,
        (Cvtss2si_r32_xmmm32, true) => to_integer::<Cvtss2si32, Low32>,
        (Cvtss2si_r64_xmmm32, false) => to_integer::<Cvtss2si64, Second>,
        (Cvtss2si_r64_xmmm32, true) => to_integer::<Cvtss2si64, Low32>,
        (Cvtsd2si_r32_xmmm64, false) => to_integer::<Cvtsd2si32, Second>,
        (Cvtsd2si_r32_xmmm64, true) => to_integer::<Cvtsd2si32, Low64>,
        (Cvtsd2si_r64_xmmm64, false) => to_integer::<Cvtsd2si64, Second>,
        (Cvtsd2si_r64_xmmm64, true) => to_integer::<Cvtsd2si64, Low64>,
        (Cvttss2si_r32_xmmm32, false) => to_integer::<Cvttss2si32, Second>,
        (Cvttss2si_r32_xmmm32, true) => to_integer::<Cvttss2si32, Low32>,
        (Cvttss2si_r64_xmmm32, false) => to_integer::<Cvttss2si64, Second>,
        (Cvttss2si_r64_xmmm32, true) => to_integer::<Cvttss2si64, Low32>,
        (Cvttsd2si_r32_xmmm64, false) => to_integer::<Cvttsd2si32, Second>,
        (Cvttsd2si_r32_xmmm64, true) => to_integer::<Cvttsd2si32, Low64>,
        (Cvttsd2si_r64_xmmm64, false) => to_integer::<Cvttsd2si64, Second>,
        (Cvttsd2si_r64_xmmm64, true) => to_integer::<Cvttsd2si64, Low64>,
        _ => return None,
    })
}
