//! The transcendental functions: special cases and exceptions as the processor has them, and
//! results within one unit of its last place.

use std::arch::x86_64::__cpuid;

use super::operands::{Generator, cases};
use super::oracle::{Instruction, Observed, instruction};
use crate::float80::*;

const C2: u16 = 1 << 10;

/// The registers, exceptions and C2 expected.
#[derive(Debug)]
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

/// Whether the manual defines the result: F2XM1 is for operands up to 1, FYL2XP1 for those between
/// √2/2 - 1 and √2 - 1, of which this takes the part up to 1/4.
fn is_defined(name: &str, x: Float80) -> bool {
    let limit = match name {
        "f2xm1" => 0x3FFF,
        "fyl2xp1" => 0x3FFD,
        _ => return true,
    };
    x.class() != Class::Normal || x.absolute().sign_exponent < limit
}

/// Where the manual leaves a result undefined, the software does as these processors do.
fn host_is_amd() -> bool {
    let leaf = __cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx]
        .map(u32::to_le_bytes)
        .concat()
        == b"AuthenticAMD"
}

/// Compares many executions, and how many have another last bit.
fn compare_all(
    name: &str,
    seed: u64,
    instruction: Instruction,
    model: impl Fn(Float80, Float80, Environment) -> Expected,
) {
    let (mut count, mut neighbours) = (0, 0);
    let amd = host_is_amd();
    for (a, b, control) in cases(&mut Generator::new(seed), 50_000) {
        if !amd && !is_defined(name, a) {
            continue;
        }
        let observed = instruction(a, b, control, [0; 16]);
        let expected = model(a, b, Environment::from_control_word(control));
        let agrees = worst_distance(&observed, &expected).is_some_and(|units| units <= 1)
            && observed.exceptions() == expected.exceptions
            && (observed.codes(C2) != 0) == expected.out_of_range;
        assert!(
            agrees,
            "{name} of {a:x?} {b:x?} under {control:#x}\n{observed:x?}\nexpected {expected:x?}",
        );
        count += 1;
        neighbours += u32::from(worst_distance(&observed, &expected) == Some(1));
    }
    // Both round nearly exact results, so that most are the same.
    assert!(
        neighbours * 5 < count,
        "{name}: {neighbours} of {count} results differ in the last bit"
    );
}

fn worst_distance(observed: &Observed, expected: &Expected) -> Option<u64> {
    let pairs = expected.stack.iter().zip(observed.stack);
    pairs
        .map(|(a, b)| distance(*a, b))
        .try_fold(0, |worst, units| Some(units?.max(worst)))
}

fn binary(
    operation: fn(Float80, Float80, Environment) -> Outcome,
) -> impl Fn(Float80, Float80, Environment) -> Expected {
    move |a, b, environment| {
        let outcome = operation(a, b, environment);
        let stack = match outcome.value {
            Some(value) => vec![value],
            None => vec![a, b],
        };
        Expected {
            stack,
            exceptions: outcome.exceptions,
            out_of_range: false,
        }
    }
}

fn unary(
    operation: fn(Float80, Environment) -> Option<Outcome>,
) -> impl Fn(Float80, Float80, Environment) -> Expected {
    move |a, b, environment| {
        let Some(outcome) = operation(a, environment) else {
            return Expected {
                stack: vec![a, b],
                exceptions: Exceptions::NONE,
                out_of_range: true,
            };
        };
        let stack = vec![outcome.value.unwrap_or(a), b];
        Expected {
            stack,
            exceptions: outcome.exceptions,
            out_of_range: false,
        }
    }
}

/// What an instruction with two results leaves, of which the first is pushed.
fn pushing<T>(
    a: Float80,
    b: Float80,
    outcome: Option<Outcome<T>>,
    results: impl FnOnce(T) -> [Float80; 2],
) -> Expected {
    let Some(outcome) = outcome else {
        return Expected {
            stack: vec![a, b],
            exceptions: Exceptions::NONE,
            out_of_range: true,
        };
    };
    let stack = match outcome.value.map(results) {
        Some([pushed, replaced]) => vec![pushed, replaced, b],
        None => vec![a, b],
    };
    Expected {
        stack,
        exceptions: outcome.exceptions,
        out_of_range: false,
    }
}

#[test]
fn sines() {
    compare_all("fsin", 1, instruction!("fsin"), unary(sine));
}
#[test]
fn cosines() {
    compare_all("fcos", 2, instruction!("fcos"), unary(cosine));
}
#[test]
fn tangents() {
    compare_all("fptan", 3, instruction!("fptan"), |a, b, environment| {
        pushing(a, b, tangent(a, environment), |value| {
            [value.pushed, value.tangent]
        })
    });
}

#[test]
fn sines_and_cosines() {
    compare_all(
        "fsincos",
        4,
        instruction!("fsincos"),
        |a, b, environment| {
            pushing(a, b, sine_and_cosine(a, environment), |value| {
                [value.cosine, value.sine]
            })
        },
    );
}

#[test]
fn exponentials() {
    compare_all(
        "f2xm1",
        5,
        instruction!("f2xm1"),
        unary(|a, e| Some(two_to_the_x_minus_one(a, e))),
    );
}
#[test]
fn logarithms() {
    compare_all(
        "fyl2x",
        6,
        instruction!("fyl2x"),
        binary(y_times_logarithm_of_x),
    );
}
#[test]
fn logarithms_of_sums() {
    compare_all(
        "fyl2xp1",
        7,
        instruction!("fyl2xp1"),
        binary(y_times_logarithm_of_x_plus_one),
    );
}
#[test]
fn arctangents() {
    compare_all("fpatan", 8, instruction!("fpatan"), binary(arctangent));
}
