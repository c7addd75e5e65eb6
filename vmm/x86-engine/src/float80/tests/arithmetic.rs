//! The operations from registers to registers.

use super::operands::Generator;
use super::oracle::{C1, CODES, Instruction, Observed, instruction};
use crate::float80::*;

type Operation = fn(Float80, Float80, Environment) -> Outcome;

/// What the operation must have left, from what the software computed.
struct Expected {
    stack: Vec<Float80>,
    exceptions: Exceptions,
    codes: u16,
}

/// Compares many executions; `model` makes the expectation, and `codes` are those compared.
fn compare_all(
    name: &str,
    seed: u64,
    cases: u32,
    instruction: Instruction,
    codes: u16,
    model: impl Fn(Float80, Float80, Environment) -> Expected,
) {
    let mut generator = Generator::new(seed);
    let mut differences = Vec::new();
    let mut count = 0;
    for case in 0..cases {
        let (a, b) = generator.pair();
        let control =
            if case % 2 == 0 { generator.masked_control() } else { generator.any_control() };
        let observed = instruction(a, b, control, [0; 16]);
        let expected = model(a, b, Environment::from_control_word(control));
        if !agrees(&observed, &expected, codes) {
            count += 1;
            if differences.len() < 12 {
                differences.push(format!(
                    "{name} {a:x?} {b:x?} control {control:#x}\n   hardware {:x?} {:x?} {:#x}\n   software {:x?} {:x?} {:#x}\n",
                    &observed.stack[..expected.stack.len()], observed.exceptions(), observed.codes(codes),
                    expected.stack, expected.exceptions, expected.codes & codes,
                ));
            }
        }
    }
    assert!(count == 0, "{count} of {cases} differ:\n{}", differences.concat());
}

fn agrees(observed: &Observed, expected: &Expected, codes: u16) -> bool {
    observed.stack[..expected.stack.len()] == expected.stack
        && observed.exceptions() == expected.exceptions
        && observed.codes(codes) == expected.codes & codes
}

fn one_result(a: Float80, outcome: Outcome) -> Expected {
    Expected {
        stack: vec![outcome.value.unwrap_or(a)],
        exceptions: outcome.exceptions,
        codes: if outcome.rounded_up { C1 } else { 0 },
    }
}

fn operation(name: &str, seed: u64, instruction: Instruction, operation: Operation) {
    compare_all(name, seed, 200_000, instruction, C1, |a, b, environment| {
        one_result(a, operation(a, b, environment))
    });
}

#[test]
fn sums() {
    operation("fadd", 1, instruction!("fadd st(0), st(1)"), add);
    operation("fsub", 2, instruction!("fsub st(0), st(1)"), subtract);
}

#[test]
fn products() {
    operation("fmul", 3, instruction!("fmul st(0), st(1)"), multiply);
}

#[test]
fn quotients() {
    operation("fdiv", 4, instruction!("fdiv st(0), st(1)"), divide);
}

#[test]
fn square_roots() {
    operation("fsqrt", 5, instruction!("fsqrt"), |a, _, environment| square_root(a, environment));
}

#[test]
fn integers() {
    operation("frndint", 6, instruction!("frndint"), |a, _, environment| {
        round_to_integer(a, environment)
    });
}

#[test]
fn scales() {
    operation("fscale", 7, instruction!("fscale"), scale);
}

#[test]
fn extracts() {
    compare_all("fxtract", 8, 200_000, instruction!("fxtract"), C1, |a, b, environment| {
        let outcome = extract(a, environment);
        let stack = match outcome.value {
            Some(parts) => vec![parts.significand, parts.exponent, b],
            None => vec![a, b],
        };
        Expected { stack, exceptions: outcome.exceptions, codes: 0 }
    });
}

#[test]
fn remainders() {
    let model = |function: fn(Float80, Float80, Environment) -> Remainder| {
        move |a, b, environment| {
            let remainder = function(a, b, environment);
            Expected {
                codes: remainder.condition_codes(),
                ..one_result(a, remainder.outcome)
            }
        }
    };
    compare_all("fprem", 9, 200_000, instruction!("fprem"), CODES, model(remainder_truncating));
    compare_all("fprem1", 10, 200_000, instruction!("fprem1"), CODES, model(remainder_nearest));
}

#[test]
fn comparisons() {
    let model = |quiet_nans| {
        move |a, b, environment| {
            let comparison = compare(a, b, quiet_nans, environment);
            Expected {
                stack: if comparison.stopped { vec![a, b] } else { vec![b] },
                exceptions: comparison.exceptions,
                codes: comparison.relation.condition_codes(),
            }
        }
    };
    compare_all("fcom", 11, 200_000, instruction!("fcomp st(1)"), CODES, model(QuietNans::Invalid));
    compare_all("fucom", 12, 200_000, instruction!("fucomp st(1)"), CODES, model(QuietNans::Quiet));
}

#[test]
fn classes() {
    compare_all("fxam", 13, 100_000, instruction!("fxam"), CODES, |a, b, _| Expected {
        stack: vec![a, b],
        exceptions: Exceptions::NONE,
        codes: a.class().condition_codes() | if a.is_negative() { C1 } else { 0 },
    });
}
