//! The operations from registers to registers.

use super::operands::{Generator, cases};
use super::oracle::{C1, CODES, Instruction, Observed, instruction};
use crate::float80::*;

type Operation = fn(Float80, Float80, Environment) -> Outcome;

const CASES: u32 = 200_000;

/// What the operation must have left, from what the software computed.
#[derive(Debug)]
struct Expected {
    stack: Vec<Float80>,
    exceptions: Exceptions,
    codes: u16,
}

/// Compares many executions; `model` makes the expectation, and `codes` are those compared.
fn compare_all(
    name: &str,
    seed: u64,
    instruction: Instruction,
    codes: u16,
    model: impl Fn(Float80, Float80, Environment) -> Expected,
) {
    for (a, b, control) in cases(&mut Generator::new(seed), CASES) {
        let observed = instruction(a, b, control, [0; 16]);
        let expected = model(a, b, Environment::from_control_word(control));
        assert!(
            agrees(&observed, &expected, codes),
            "{name} of {a:x?} {b:x?} under {control:#x}\n{observed:x?}\nexpected {expected:x?}",
        );
    }
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
    compare_all(name, seed, instruction, C1, |a, b, environment| {
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
    operation("fsqrt", 5, instruction!("fsqrt"), |a, _, environment| {
        square_root(a, environment)
    });
}

#[test]
fn integers() {
    operation(
        "frndint",
        6,
        instruction!("frndint"),
        |a, _, environment| round_to_integer(a, environment),
    );
}

#[test]
fn scales() {
    operation("fscale", 7, instruction!("fscale"), scale);
}

#[test]
fn extracts() {
    compare_all(
        "fxtract",
        8,
        instruction!("fxtract"),
        C1,
        |a, b, environment| {
            let outcome = extract(a, environment);
            let stack = match outcome.value {
                Some(parts) => vec![parts.significand, parts.exponent, b],
                None => vec![a, b],
            };
            Expected {
                stack,
                exceptions: outcome.exceptions,
                codes: 0,
            }
        },
    );
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
    compare_all(
        "fprem",
        9,
        instruction!("fprem"),
        CODES,
        model(remainder_truncating),
    );
    compare_all(
        "fprem1",
        10,
        instruction!("fprem1"),
        CODES,
        model(remainder_nearest),
    );
}

#[test]
fn comparisons() {
    let model = |quiet_nans| {
        move |a, b, environment| {
            let comparison = compare(a, b, quiet_nans, environment);
            Expected {
                stack: if comparison.stopped {
                    vec![a, b]
                } else {
                    vec![b]
                },
                exceptions: comparison.exceptions,
                codes: comparison.relation.condition_codes(),
            }
        }
    };
    compare_all(
        "fcom",
        11,
        instruction!("fcomp st(1)"),
        CODES,
        model(QuietNans::Invalid),
    );
    compare_all(
        "fucom",
        12,
        instruction!("fucomp st(1)"),
        CODES,
        model(QuietNans::Quiet),
    );
}

#[test]
fn classes() {
    compare_all("fxam", 13, instruction!("fxam"), CODES, |a, b, _| {
        Expected {
            stack: vec![a, b],
            exceptions: Exceptions::NONE,
            codes: a.class().condition_codes() | if a.is_negative() { C1 } else { 0 },
        }
    });
}
