//! Loads, stores, exchanges and constants.

use iced_x86::Code;

use crate::{
    cpu::{Core, Step},
    decode::op::{Handler, Op},
    float80::{self, Constant, Environment, Float80, Outcome},
    memory::{Access, ram::Plain},
};

use super::{
    other,
    stack::{C1, Effect},
};

/// In the order of their opcodes, D9 E8 to D9 EE.
const CONSTANTS: [Constant; 7] = [
    Constant::One,
    Constant::Log2Of10,
    Constant::Log2OfE,
    Constant::Pi,
    Constant::Log10Of2,
    Constant::LnOf2,
    Constant::Zero,
];

pub(super) fn select(code: Code, op: &mut Op) -> Option<Handler> {
    if let Some(handler) = select_store(code) {
        return Some(handler);
    }
    if let Some(constant) = constant_number(code) {
        op.immediate = constant;
        return Some(load_constant);
    }
    if let Some(condition) = condition(code) {
        op.immediate = condition;
        return Some(conditional_move);
    }
    Some(match code {
        Code::Fld_sti => load_register,
        Code::Fld_m32fp => |core, op| load(core, op, float80::from_f32),
        Code::Fld_m64fp => |core, op| load(core, op, float80::from_f64),
        Code::Fld_m80fp => |core, op| load_exact(core, op, Float80::from_bytes),
        Code::Fild_m16int => |core, op| load_exact(core, op, |value: u16| integer(value as i16)),
        Code::Fild_m32int => |core, op| load_exact(core, op, |value: u32| integer(value as i32)),
        Code::Fild_m64int => |core, op| load_exact(core, op, |value: u64| integer(value as i64)),
        Code::Fbld_m80bcd => |core, op| load_exact(core, op, float80::from_decimal),
        Code::Fxch_st0_sti | Code::Fxch_st0_sti_DDC8 | Code::Fxch_st0_sti_DFC8 => exchange,
        _ => return None,
    })
}

fn select_store(code: Code) -> Option<Handler> {
    Some(match code {
        Code::Fst_sti => store_register,
        Code::Fstp_sti | Code::Fstp_sti_DFD0 | Code::Fstp_sti_DFD8 => store_register_and_pop,
        Code::Fstpnce_sti => store_register_unchecked_and_pop,
        Code::Fst_m32fp => |core, op| store::<0, _>(core, op, float80::to_f32),
        Code::Fst_m64fp => |core, op| store::<0, _>(core, op, float80::to_f64),
        Code::Fstp_m32fp => |core, op| store::<1, _>(core, op, float80::to_f32),
        Code::Fstp_m64fp => |core, op| store::<1, _>(core, op, float80::to_f64),
        Code::Fstp_m80fp => store_extended_and_pop,
        Code::Fist_m16int => |core, op| store::<0, _>(core, op, to_u16),
        Code::Fist_m32int => |core, op| store::<0, _>(core, op, to_u32),
        Code::Fistp_m16int => |core, op| store::<1, _>(core, op, to_u16),
        Code::Fistp_m32int => |core, op| store::<1, _>(core, op, to_u32),
        Code::Fistp_m64int => |core, op| store::<1, _>(core, op, to_u64),
        Code::Fisttp_m16int => |core, op| store::<1, _>(core, op, |a, e| to_u16(a, e.truncating())),
        Code::Fisttp_m32int => |core, op| store::<1, _>(core, op, |a, e| to_u32(a, e.truncating())),
        Code::Fisttp_m64int => |core, op| store::<1, _>(core, op, |a, e| to_u64(a, e.truncating())),
        Code::Fbstp_m80bcd => |core, op| store::<1, _>(core, op, float80::to_decimal),
        _ => return None,
    })
}

/// Which of [`CONSTANTS`] an instruction loads.
fn constant_number(code: Code) -> Option<u64> {
    Some(match code {
        Code::Fld1 => 0,
        Code::Fldl2t => 1,
        Code::Fldl2e => 2,
        Code::Fldpi => 3,
        Code::Fldlg2 => 4,
        Code::Fldln2 => 5,
        Code::Fldz => 6,
        _ => return None,
    })
}

/// The condition of FCMOVcc, as in CMOVcc's opcode.
fn condition(code: Code) -> Option<u64> {
    Some(match code {
        Code::Fcmovb_st0_sti => 0x2,
        Code::Fcmovnb_st0_sti => 0x3,
        Code::Fcmove_st0_sti => 0x4,
        Code::Fcmovne_st0_sti => 0x5,
        Code::Fcmovbe_st0_sti => 0x6,
        Code::Fcmovnbe_st0_sti => 0x7,
        Code::Fcmovu_st0_sti => 0xA,
        Code::Fcmovnu_st0_sti => 0xB,
        _ => return None,
    })
}

fn integer(value: impl Into<i64>) -> Float80 {
    float80::from_i64(value.into())
}

fn to_u16(a: Float80, environment: Environment) -> Outcome<u16> {
    float80::to_i16(a, environment).map(|value| value as u16)
}

fn to_u32(a: Float80, environment: Environment) -> Outcome<u32> {
    float80::to_i32(a, environment).map(|value| value as u32)
}

fn to_u64(a: Float80, environment: Environment) -> Outcome<u64> {
    float80::to_i64(a, environment).map(|value| value as u64)
}

fn load_register(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let x87 = &mut core.x87;
    match x87.operand(other(op)) {
        Some(value) => x87.write_pushing(Effect::exact(value)),
        None => {
            // Whether there is room does not matter then.
            let effect = x87.underflow(Float80::INDEFINITE);
            x87.report(&effect);
            if let Some(indefinite) = effect.value {
                x87.push(indefinite);
            }
        }
    }
    core.note_x87(op);
    Ok(())
}

fn load_constant(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let rounding = core.x87.environment().rounding;
    let value = float80::constant(CONSTANTS[op.immediate as usize], rounding);
    core.x87.write_pushing(Effect::exact(value));
    core.note_x87(op);
    Ok(())
}

/// FLD of a format that can raise exceptions.
fn load<T: Plain>(
    core: &mut Core,
    op: &Op,
    convert: impl FnOnce(T, Environment) -> Outcome,
) -> Step {
    core.begin_x87()?;
    let value = core.load(op)?;
    let outcome = convert(value, core.x87.environment());
    core.x87.write_pushing(outcome.into());
    core.note_x87_memory(op);
    Ok(())
}

/// FLD, FILD, FBLD of a format that fits in any case.
fn load_exact<T: Plain>(core: &mut Core, op: &Op, convert: impl FnOnce(T) -> Float80) -> Step {
    core.begin_x87()?;
    let value = core.load(op)?;
    core.x87.write_pushing(Effect::exact(convert(value)));
    core.note_x87_memory(op);
    Ok(())
}

/// FST, FIST, FBSTP. The indefinite of a format is what it makes of the indefinite register.
fn store<const POPS: usize, T: Plain>(
    core: &mut Core,
    op: &Op,
    convert: impl Fn(Float80, Environment) -> Outcome<T>,
) -> Step {
    core.begin_x87()?;
    let environment = core.x87.environment();
    let effect = match core.x87.operand(0) {
        Some(value) => convert(value, environment).into(),
        None => {
            let indefinite = convert(Float80::INDEFINITE, Environment::from_control_word(0x37F));
            let value = indefinite.value.expect("masked exceptions leave a value");
            core.x87.underflow(value)
        }
    };
    store_effect::<POPS, T>(core, op, &effect)
}

/// FSTP m80, which copies.
fn store_extended_and_pop(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let effect = match core.x87.operand(0) {
        Some(value) => Effect::exact(value),
        None => core.x87.underflow(Float80::INDEFINITE),
    };
    store_effect::<1, _>(core, op, &effect.map(Float80::to_bytes))
}

fn store_effect<const POPS: usize, T: Plain>(core: &mut Core, op: &Op, effect: &Effect<T>) -> Step {
    match effect.value {
        Some(value) => core.store(op, value)?,
        // The operand must be writable all the same.
        None => {
            core.area(op, T::BYTES, T::ALIGNMENT, 1, Access::Write)?;
        }
    }
    core.x87.report(effect);
    if effect.value.is_some() {
        (0..POPS).for_each(|_| core.x87.pop());
    }
    core.note_x87_memory(op);
    Ok(())
}

fn store_register(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    copy_to_register(core, op);
    core.note_x87(op);
    Ok(())
}

fn store_register_and_pop(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    if copy_to_register(core, op) {
        core.x87.pop();
    }
    core.note_x87(op);
    Ok(())
}

fn copy_to_register(core: &mut Core, op: &Op) -> bool {
    let x87 = &mut core.x87;
    let effect = match x87.operand(0) {
        Some(value) => Effect::exact(value),
        None => x87.underflow(Float80::INDEFINITE),
    };
    x87.write(other(op), &effect)
}

/// FSTPNCE, "no check for empty", which Intel does not document: an empty register is popped without being copied.
fn store_register_unchecked_and_pop(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let (x87, other) = (&mut core.x87, other(op));
    if let Some(value) = x87.operand(0) {
        x87.set_register(other, value);
    }
    x87.set_codes(C1, 0);
    x87.pop();
    core.note_x87(op);
    Ok(())
}

fn exchange(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let (x87, other) = (&mut core.x87, other(op));
    let (top, second) = (x87.operand(0), x87.operand(other));
    let pair = |a: Option<Float80>, b: Option<Float80>| {
        let filled = |value: Option<Float80>| value.unwrap_or(Float80::INDEFINITE);
        (filled(a), filled(b))
    };
    let effect = if top.is_some() && second.is_some() {
        Effect::exact(pair(top, second))
    } else {
        x87.underflow(pair(top, second))
    };
    x87.report(&effect);
    if let Some((top, second)) = effect.value {
        x87.set_register(other, top);
        x87.set_register(0, second);
    }
    core.note_x87(op);
    Ok(())
}

/// FCMOVcc. Both registers must be in use, whatever the condition; C1 changes with a stack fault only.
fn conditional_move(core: &mut Core, op: &Op) -> Step {
    core.begin_x87()?;
    let holds = core.flags.condition(op.immediate as u8);
    let x87 = &mut core.x87;
    match (x87.operand(0), x87.operand(other(op))) {
        (Some(_), Some(value)) if holds => x87.set_register(0, value),
        (Some(_), Some(_)) => {}
        _ => {
            let effect = x87.underflow(Float80::INDEFINITE);
            x87.write(0, &effect);
        }
    }
    core.note_x87(op);
    Ok(())
}
