//! The instructions whose operands are ST(0) and ST(1) alone: signs, roots, remainders, transcendental functions.

use iced_x86::Code;

use crate::{
    cpu::{Core, Step, X87},
    decode::op::{Handler, Op},
    float80::{self, Environment, Extracted, Float80, Outcome, Remainder, SineAndCosine, Tangent},
};

use super::stack::{C1, C2, CODES, Effect};

/// FXAM's answer for an empty register: C3 and C0.
const EMPTY: u16 = 1 << 14 | 1 << 8;

pub(super) fn select(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fchs => |core, op| in_place(core, op, |a, _| Effect::exact(a.negated())),
        Code::Fabs => |core, op| in_place(core, op, |a, _| Effect::exact(a.absolute())),
        Code::Fsqrt => |core, op| in_place(core, op, |a, e| float80::square_root(a, e).into()),
        Code::Frndint => {
            |core, op| in_place(core, op, |a, e| float80::round_to_integer(a, e).into())
        }
        Code::F2xm1 => |core, op| {
            in_place(core, op, |a, e| {
                float80::two_to_the_x_minus_one(a, e).into()
            })
        },
        Code::Fscale => |core, op| binary(core, op, float80::scale),
        Code::Fpatan => |core, op| binary_and_pop(core, op, float80::arctangent),
        Code::Fyl2x => |core, op| binary_and_pop(core, op, float80::y_times_logarithm_of_x),
        Code::Fyl2xp1 => {
            |core, op| binary_and_pop(core, op, float80::y_times_logarithm_of_x_plus_one)
        }
        Code::Fsin => |core, op| angle(core, op, float80::sine),
        Code::Fcos => |core, op| angle(core, op, float80::cosine),
        Code::Fptan => |core, op| angle_pushing(core, op, tangent_and_one),
        Code::Fsincos => |core, op| angle_pushing(core, op, sine_and_cosine),
        Code::Fxtract => extract,
        Code::Fprem => |core, op| remainder(core, op, float80::remainder_truncating),
        Code::Fprem1 => |core, op| remainder(core, op, float80::remainder_nearest),
        Code::Fxam => examine,
        _ => return None,
    })
}

/// ST(0) = f(ST(0)).
fn in_place(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Environment) -> Effect,
) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    let effect = match x87.operand(0) {
        Some(a) => compute(a, x87.environment()),
        None => x87.underflow(Float80::INDEFINITE),
    };
    x87.write(0, &effect);
    core.note_x87(op);
    Ok(())
}

fn effect_of_two(
    x87: &X87,
    compute: impl FnOnce(Float80, Float80, Environment) -> Outcome,
) -> Effect {
    match (x87.operand(0), x87.operand(1)) {
        (Some(a), Some(b)) => compute(a, b, x87.environment()).into(),
        _ => x87.underflow(Float80::INDEFINITE),
    }
}

/// ST(0) = f(ST(0), ST(1)).
fn binary(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Float80, Environment) -> Outcome,
) -> Step {
    core.begin_x87()?;
    let effect = effect_of_two(&core.x87, compute);
    core.x87.write(0, &effect);
    core.note_x87(op);
    Ok(())
}

/// ST(1) = f(ST(0), ST(1)), then a pop.
fn binary_and_pop(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Float80, Environment) -> Outcome,
) -> Step {
    core.begin_x87()?;
    let effect = effect_of_two(&core.x87, compute);
    if core.x87.write(1, &effect) {
        core.x87.pop();
    }
    core.note_x87(op);
    Ok(())
}

/// FSIN, FCOS: C2 says that the operand is out of range, and stays.
fn angle(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Environment) -> Option<Outcome>,
) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    let computed = match x87.operand(0) {
        Some(a) => compute(a, x87.environment()).map(Effect::from),
        None => Some(x87.underflow(Float80::INDEFINITE)),
    };
    match computed {
        Some(effect) => {
            x87.set_codes(C2, 0);
            x87.write(0, &effect);
        }
        None => x87.set_codes(C2 | C1, C2),
    }
    core.note_x87(op);
    Ok(())
}

/// What replaces ST(0), and what is pushed then.
type Pair = (Float80, Float80);

fn tangent_and_one(a: Float80, environment: Environment) -> Option<Outcome<Pair>> {
    let outcome = float80::tangent(a, environment)?;
    Some(outcome.map(|Tangent { tangent, pushed }| (tangent, pushed)))
}

fn sine_and_cosine(a: Float80, environment: Environment) -> Option<Outcome<Pair>> {
    let outcome = float80::sine_and_cosine(a, environment)?;
    Some(outcome.map(|SineAndCosine { sine, cosine }| (sine, cosine)))
}

fn exponent_and_significand(a: Float80, environment: Environment) -> Outcome<Pair> {
    let outcome = float80::extract(a, environment);
    outcome.map(
        |Extracted {
             exponent,
             significand,
         }| (exponent, significand),
    )
}

/// FPTAN, FSINCOS.
fn angle_pushing(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Environment) -> Option<Outcome<Pair>>,
) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    match effect_of_pair(x87, compute) {
        Some(effect) => {
            x87.set_codes(C2, 0);
            write_pair(x87, effect);
        }
        None => x87.set_codes(C2 | C1, C2),
    }
    core.note_x87(op);
    Ok(())
}

fn extract(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    if let Some(effect) = effect_of_pair(x87, |a, e| Some(exponent_and_significand(a, e))) {
        write_pair(x87, effect);
    }
    core.note_x87(op);
    Ok(())
}

fn effect_of_pair(
    x87: &X87,
    compute: impl FnOnce(Float80, Environment) -> Option<Outcome<Pair>>,
) -> Option<Effect<Pair>> {
    const INDEFINITES: Pair = (Float80::INDEFINITE, Float80::INDEFINITE);
    match x87.operand(0) {
        None => Some(x87.underflow(INDEFINITES)),
        Some(_) if x87.is_in_use(7) => Some(x87.overflow(INDEFINITES)),
        Some(a) => compute(a, x87.environment()).map(Effect::from),
    }
}

fn write_pair(x87: &mut X87, effect: Effect<Pair>) {
    x87.report(&effect);
    if let Some((replacing, pushed)) = effect.value {
        x87.set_register(0, replacing);
        x87.push(pushed);
    }
}

/// FPREM, FPREM1: the low bits of the quotient go to the condition codes.
fn remainder(
    core: &mut Core,
    op: &Op,
    compute: impl FnOnce(Float80, Float80, Environment) -> Remainder,
) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    match (x87.operand(0), x87.operand(1)) {
        (Some(a), Some(b)) => {
            let remainder = compute(a, b, x87.environment());
            let has_quotient = has_quotient(&remainder);
            x87.write(0, &remainder.outcome.into());
            let written = if has_quotient { CODES } else { C1 | C2 };
            x87.set_codes(written, remainder.condition_codes());
        }
        _ => {
            let effect = x87.underflow(Float80::INDEFINITE);
            x87.set_codes(C2, 0);
            x87.write(0, &effect);
        }
    }
    core.note_x87(op);
    Ok(())
}

/// Without one, C0 and C3 stay as they are.
fn has_quotient(remainder: &Remainder) -> bool {
    remainder
        .outcome
        .value
        .is_some_and(|value| !value.class().is_nan())
}

/// FXAM: class and sign, of an empty register too.
fn examine(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    let register = x87.register(0);
    let class = if x87.is_in_use(0) {
        register.class().condition_codes()
    } else {
        EMPTY
    };
    let sign = if register.is_negative() { C1 } else { 0 };
    x87.set_codes(CODES, class | sign);
    core.note_x87(op);
    Ok(())
}
