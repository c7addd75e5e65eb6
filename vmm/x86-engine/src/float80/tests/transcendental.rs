//! The transcendental functions: special cases and exceptions as the processor has them, and
//! results within one unit of its last place.

use super::operands::Generator;
use super::oracle::{C1, CODES, Instruction, Observed, instruction};
use crate::float80::*;

const C2: u16 = 1 << 10;

/// The registers, exceptions and C2 expected.
struct Expected {
    stack: Vec<Float80>,
    exceptions: Exceptions,
    out_of_range: bool,
}

/// How far apart two results are, in units of the last place; nothing if they are no neighbours.
fn distance(a: Float80, b: Float80) -> Option<u64> {
    if a == b {
        return Some(0);
    }
    if a.class().is_nan() || b.class().is_nan() || a.is_negative() != b.is_negative() {
        return None;
    }
    let order = |number: Float80| {
        let exponent = u128::from(number.sign_exponent & 0x7FFF);
        // Without the integer bit the encodings are in order, as are those of an IEEE format.
        exponent << 63 | u128::from(number.mantissa & !(1 << 63))
    };
    u64::try_from(order(a).abs_diff(order(b))).ok()
}

fn compare_all(
    name: &str,
    seed: u64,
    instruction: Instruction,
    operands: impl Fn(&mut Generator) -> (Float80, Float80),
    model: impl Fn(Float80, Float80, Environment) -> Expected,
) {
    const CASES: u32 = 50_000;
    let mut generator = Generator::new(seed);
    let (mut differences, mut count, mut off) = (Vec::new(), 0, [0, 0]);
    for case in 0..CASES {
        let (a, b) = operands(&mut generator);
        let control =
            if case % 2 == 0 { generator.masked_control() } else { generator.any_control() };
        let observed = instruction(a, b, control, [0; 16]);
        let expected = model(a, b, Environment::from_control_word(control));
        let worst = expected.stack.iter().zip(observed.stack).try_fold(0, |worst, (a, b)| {
            distance(*a, b).map(|units| units.max(worst))
        });
        let near = worst.is_some_and(|units| units <= 1);
        if let Some(d) = worst { if d < 2 { off[d as usize] += 1; } }
        let agrees = near
            && observed.exceptions() == expected.exceptions
            && (observed.codes(C2) != 0) == expected.out_of_range;
        if !agrees {
            count += 1;
            if differences.len() < 8 {
                differences.push(format!(
                    "{name} {:x}:{:x} {:x}:{:x} control {control:#x}\n   hardware {:x?} {:x?} {:#x}\n   software {:x?} {:x?}\n",
                    a.sign_exponent, a.mantissa, b.sign_exponent, b.mantissa,
                    &observed.stack[..expected.stack.len()], observed.exceptions(), observed.codes(CODES),
                    expected.stack, expected.exceptions,
                ));
            }
        }
    }
    println!("{name}: {off:?} of {CASES}");
    assert!(count == 0, "{count} of {CASES} differ:\n{}", differences.concat());
}

fn binary(operation: fn(Float80, Float80, Environment) -> Outcome) -> impl Fn(Float80, Float80, Environment) -> Expected {
    move |a, b, environment| {
        let outcome = operation(a, b, environment);
        let stack = match outcome.value {
            Some(value) => vec![value],
            None => vec![a, b],
        };
        Expected { stack, exceptions: outcome.exceptions, out_of_range: false }
    }
}

fn unary(operation: fn(Float80, Environment) -> Option<Outcome>) -> impl Fn(Float80, Float80, Environment) -> Expected {
    move |a, b, environment| {
        let Some(outcome) = operation(a, environment) else {
            return Expected { stack: vec![a, b], exceptions: Exceptions::NONE, out_of_range: true };
        };
        let stack = vec![outcome.value.unwrap_or(a), b];
        Expected { stack, exceptions: outcome.exceptions, out_of_range: false }
    }
}

#[test]
fn sines() {
    compare_all("fsin", 1, instruction!("fsin"), Generator::pair, unary(sine));
}
#[test]
fn cosines() {
    compare_all("fcos", 2, instruction!("fcos"), Generator::pair, unary(cosine));
}
#[test]
fn tangents() {
    compare_all("fptan", 3, instruction!("fptan"), Generator::pair, |a, b, environment| {
        let mut expected = unary(tangent)(a, b, environment);
        if !expected.out_of_range && tangent(a, environment).unwrap().value.is_some() {
            let value = expected.stack[0];
            expected.stack = vec![if value.class().is_nan() { value } else { Float80::ONE }, value, b];
        }
        expected
    });
}
#[test]
fn sines_and_cosines() {
    compare_all("fsincos", 4, instruction!("fsincos"), Generator::pair, |a, b, environment| {
        match sine_and_cosine(a, environment) {
            None => Expected { stack: vec![a, b], exceptions: Exceptions::NONE, out_of_range: true },
            Some(outcome) => Expected { stack: match outcome.value { None => vec![a, b], Some(v) => vec![v.cosine, v.sine, b] }, exceptions: outcome.exceptions, out_of_range: false }
        }
    });
}
#[test]
fn exponentials() {
    compare_all("f2xm1", 5, instruction!("f2xm1"), Generator::pair, unary(|a, e| Some(two_to_the_x_minus_one(a, e))));
}
#[test]
fn logarithms() {
    compare_all("fyl2x", 6, instruction!("fyl2x"), Generator::pair, binary(y_times_logarithm_of_x));
}
#[test]
fn logarithms_of_sums() {
    compare_all("fyl2xp1", 7, instruction!("fyl2xp1"), Generator::pair, binary(y_times_logarithm_of_x_plus_one));
}
#[test]
fn arctangents() {
    compare_all("fpatan", 8, instruction!("fpatan"), Generator::pair, binary(arctangent));
}
