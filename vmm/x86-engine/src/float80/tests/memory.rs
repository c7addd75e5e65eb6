//! The operations with a memory operand: loads, stores, and arithmetic on singles and doubles.

use super::operands::{Generator, cases};
use super::oracle::{C1, CODES, Instruction, Observed, UNTOUCHED, instruction};
use crate::float80::*;

const CASES: u32 = 100_000;

/// Runs many cases; `check` says what was expected where something else was observed.
fn compare_all(
    name: &str,
    seed: u64,
    instruction: Instruction,
    memory: impl Fn(&mut Generator) -> [u8; 16],
    check: impl Fn(&Case) -> Result<(), String>,
) {
    let mut bytes = Generator::new(!seed);
    for (a, b, control) in cases(&mut Generator::new(seed), CASES) {
        let memory = memory(&mut bytes);
        let observed = instruction(a, b, control, memory);
        let environment = Environment::from_control_word(control);
        let case = Case {
            a,
            memory,
            environment,
            observed,
        };
        if let Err(expected) = check(&case) {
            panic!("{name}: expected {expected} at control {control:#x}: {case:x?}");
        }
    }
}

#[derive(Debug)]
struct Case {
    a: Float80,
    memory: [u8; 16],
    environment: Environment,
    observed: Observed,
}

impl Case {
    fn single(&self) -> u32 {
        u32::from_le_bytes(*self.memory.first_chunk().expect("16 bytes"))
    }

    fn double(&self) -> u64 {
        u64::from_le_bytes(*self.memory.first_chunk().expect("16 bytes"))
    }

    /// The outcome of a store of these bytes: memory, stack depth, exceptions and C1.
    fn stored<const N: usize>(&self, outcome: Outcome<[u8; N]>) -> Result<(), String> {
        let mut memory = [UNTOUCHED; 16];
        let depth = if outcome.value.is_some() { 1 } else { 2 };
        let rounded_up = self.observed.codes(C1) != 0;
        if let Some(bytes) = outcome.value {
            memory[..N].copy_from_slice(&bytes);
        }
        let agrees = self.observed.memory == memory
            && self.observed.depth() == depth
            && self.observed.exceptions() == outcome.exceptions
            && rounded_up == outcome.rounded_up;
        agrees.then_some(()).ok_or_else(|| format!("{outcome:x?}"))
    }

    /// The outcome of a load, which pushes.
    fn loaded(&self, outcome: Outcome) -> Result<(), String> {
        let (top, depth) = match outcome.value {
            Some(value) => (value, 3),
            None => (self.a, 2),
        };
        let agrees = self.observed.stack[0] == top
            && self.observed.depth() == depth
            && self.observed.codes(C1) == 0
            && self.observed.exceptions() == outcome.exceptions;
        agrees.then_some(()).ok_or_else(|| format!("{outcome:x?}"))
    }

    /// The outcome of an operation with a memory operand.
    fn replaced(&self, outcome: Outcome) -> Result<(), String> {
        let agrees = self.observed.stack[0] == outcome.value.unwrap_or(self.a)
            && self.observed.exceptions() == outcome.exceptions
            && (self.observed.codes(C1) != 0) == outcome.rounded_up;
        agrees.then_some(()).ok_or_else(|| format!("{outcome:x?}"))
    }
}

fn untouched(_: &mut Generator) -> [u8; 16] {
    [UNTOUCHED; 16]
}

fn with_bytes(bytes: &[u8]) -> [u8; 16] {
    let mut memory = [UNTOUCHED; 16];
    memory[..bytes.len()].copy_from_slice(bytes);
    memory
}

/// A single with its corners.
fn single(generator: &mut Generator) -> [u8; 16] {
    let exponent = [0, 0, 1, 0xFF, 0xFE, generator.below(256)][generator.below(6) as usize];
    let fraction = (generator.mantissa() >> generator.below(2)) >> 40 & 0x7F_FFFF;
    let bits = generator.below(2) << 31 | exponent << 23 | fraction;
    with_bytes(&(bits as u32).to_le_bytes())
}

/// A double with its corners.
fn double(generator: &mut Generator) -> [u8; 16] {
    let exponent = [0, 0, 1, 0x7FF, 0x7FE, generator.below(2048)][generator.below(6) as usize];
    let fraction = generator.mantissa() >> generator.below(2) >> 11 & 0xF_FFFF_FFFF_FFFF;
    let bits = generator.below(2) << 63 | exponent << 52 | fraction;
    with_bytes(&bits.to_le_bytes())
}

#[test]
fn loads() {
    compare_all(
        "fld m32",
        1,
        instruction!("fld dword ptr [rdi]"),
        single,
        |case| case.loaded(from_f32(case.single(), case.environment)),
    );
    compare_all(
        "fld m64",
        2,
        instruction!("fld qword ptr [rdi]"),
        double,
        |case| case.loaded(from_f64(case.double(), case.environment)),
    );
    let integer = |generator: &mut Generator| {
        with_bytes(&(generator.next() as i64 >> generator.below(64)).to_le_bytes())
    };
    compare_all(
        "fild m64",
        3,
        instruction!("fild qword ptr [rdi]"),
        integer,
        |case| case.loaded(Outcome::exact(from_i64(case.double() as i64))),
    );
}

#[test]
fn floating_point_stores() {
    compare_all(
        "fstp m32",
        4,
        instruction!("fstp dword ptr [rdi]"),
        untouched,
        |case| case.stored(to_f32(case.a, case.environment).map(u32::to_le_bytes)),
    );
    compare_all(
        "fstp m64",
        5,
        instruction!("fstp qword ptr [rdi]"),
        untouched,
        |case| case.stored(to_f64(case.a, case.environment).map(u64::to_le_bytes)),
    );
}

/// The limits of the single and double ranges, which unrelated operands rarely meet.
#[test]
fn floating_point_stores_at_the_limits() {
    at_the_limits(
        17,
        instruction!("fstp dword ptr [rdi]"),
        [127, -160],
        |case| case.stored(to_f32(case.a, case.environment).map(u32::to_le_bytes)),
    );
    at_the_limits(
        18,
        instruction!("fstp qword ptr [rdi]"),
        [1023, -1085],
        |case| case.stored(to_f64(case.a, case.environment).map(u64::to_le_bytes)),
    );
}

/// Stores numbers whose power of two is within 40 of one of `powers`.
fn at_the_limits(
    seed: u64,
    instruction: Instruction,
    powers: [i32; 2],
    check: impl Fn(&Case) -> Result<(), String>,
) {
    let mut generator = Generator::new(seed);
    for _ in 0..CASES {
        let power = powers[generator.below(2) as usize];
        let a = generator.near(Float80::new((0x3FFF + power) as u16, 0), 40);
        let (control, memory) = (generator.any_control(), [UNTOUCHED; 16]);
        let observed = instruction(a, a, control, memory);
        let environment = Environment::from_control_word(control);
        let case = Case {
            a,
            memory,
            environment,
            observed,
        };
        if let Err(expected) = check(&case) {
            panic!("expected {expected} at control {control:#x}: {case:x?}");
        }
    }
}

#[test]
fn integer_stores() {
    compare_all(
        "fistp m16",
        7,
        instruction!("fistp word ptr [rdi]"),
        untouched,
        |case| case.stored(to_i16(case.a, case.environment).map(i16::to_le_bytes)),
    );
    compare_all(
        "fistp m32",
        8,
        instruction!("fistp dword ptr [rdi]"),
        untouched,
        |case| case.stored(to_i32(case.a, case.environment).map(i32::to_le_bytes)),
    );
    compare_all(
        "fistp m64",
        9,
        instruction!("fistp qword ptr [rdi]"),
        untouched,
        |case| case.stored(to_i64(case.a, case.environment).map(i64::to_le_bytes)),
    );
    compare_all(
        "fisttp m32",
        10,
        instruction!("fisttp dword ptr [rdi]"),
        untouched,
        |case| {
            let outcome = to_i32(case.a, case.environment.truncating());
            case.stored(outcome.map(i32::to_le_bytes))
        },
    );
}

#[test]
fn decimals() {
    compare_all(
        "fbstp",
        11,
        instruction!("fbstp tbyte ptr [rdi]"),
        untouched,
        |case| case.stored(to_decimal(case.a, case.environment)),
    );
    let digits = |generator: &mut Generator| {
        let mut bytes = [0; 10];
        bytes.fill_with(|| (generator.below(10) << 4 | generator.below(10)) as u8);
        bytes[generator.below(10) as usize..].fill(0);
        bytes[9] = generator.next() as u8;
        with_bytes(&bytes)
    };
    compare_all(
        "fbld",
        12,
        instruction!("fbld tbyte ptr [rdi]"),
        digits,
        |case| {
            let bytes = *case.memory.first_chunk().expect("16 bytes");
            case.loaded(Outcome::exact(from_decimal(bytes)))
        },
    );
    let halves = |generator: &mut Generator| {
        let mut bytes = [0; 10];
        bytes.fill_with(|| generator.next() as u8);
        with_bytes(&bytes)
    };
    compare_all(
        "fbld of no digits",
        13,
        instruction!("fbld tbyte ptr [rdi]"),
        halves,
        |case| {
            let bytes = *case.memory.first_chunk().expect("16 bytes");
            case.loaded(Outcome::exact(from_decimal(bytes)))
        },
    );
}

#[test]
fn arithmetic_with_memory() {
    type Operation = fn(Float80, Float80, Environment) -> Outcome;
    let operations: [(&str, Instruction, Operation); 4] = [
        ("fadd m32", instruction!("fadd dword ptr [rdi]"), add),
        ("fmul m32", instruction!("fmul dword ptr [rdi]"), multiply),
        ("fdiv m32", instruction!("fdiv dword ptr [rdi]"), divide),
        (
            "fdivr m32",
            instruction!("fdivr dword ptr [rdi]"),
            |a, b, environment| divide(b, a, environment),
        ),
    ];
    for (name, instruction, operation) in operations {
        compare_all(name, 14, instruction, single, |case| {
            let operand = widen_f32(case.single());
            let outcome = operation(case.a, operand.number, case.environment);
            case.replaced(match operand.denormal {
                true => outcome.after_denormal(case.environment),
                false => outcome,
            })
        });
    }
    compare_all(
        "fsub m64",
        15,
        instruction!("fsub qword ptr [rdi]"),
        double,
        |case| {
            let operand = widen_f64(case.double());
            let outcome = subtract(case.a, operand.number, case.environment);
            case.replaced(match operand.denormal {
                true => outcome.after_denormal(case.environment),
                false => outcome,
            })
        },
    );
}

#[test]
fn comparison_with_memory() {
    compare_all(
        "fcomp m32",
        16,
        instruction!("fcomp dword ptr [rdi]"),
        single,
        |case| {
            let operand = widen_f32(case.single());
            let mut expected =
                compare(case.a, operand.number, QuietNans::Invalid, case.environment);
            if operand.denormal {
                expected = expected.after_denormal(case.environment);
            }
            let agrees = case.observed.codes(CODES) == expected.relation.condition_codes()
                && case.observed.exceptions() == expected.exceptions
                && case.observed.depth() == 1 + u16::from(expected.stopped);
            agrees.then_some(()).ok_or_else(|| format!("{expected:x?}"))
        },
    );
}

#[test]
fn constants_in_every_rounding() {
    let constants: [(Instruction, Constant); 7] = [
        (instruction!("fld1"), Constant::One),
        (instruction!("fldl2t"), Constant::Log2Of10),
        (instruction!("fldl2e"), Constant::Log2OfE),
        (instruction!("fldpi"), Constant::Pi),
        (instruction!("fldlg2"), Constant::Log10Of2),
        (instruction!("fldln2"), Constant::LnOf2),
        (instruction!("fldz"), Constant::Zero),
    ];
    for (instruction, name) in constants {
        for control in (0..0x1000u16).step_by(0x100).map(|fields| fields | 0x7F) {
            let observed = instruction(Float80::ONE, Float80::ONE, control, [0; 16]);
            let rounding = Environment::from_control_word(control).rounding;
            assert_eq!(
                observed.stack[0],
                constant(name, rounding),
                "{name:?} at {control:#x}"
            );
            assert_eq!(
                observed.exceptions(),
                Exceptions::NONE,
                "{name:?} at {control:#x}"
            );
        }
    }
}
