//! What two outcomes differ in.

use crate::{
    allowances::{
        approximate, emulated, error_code, last_instruction_addresses, neighbours, rflags,
        same_long_operand,
    },
    case::{Case, Outcome},
    layout::{DATA, DATA_BYTES},
};

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A register, or an address in memory.
    pub what: String,
    /// What the real processor has.
    pub expected: String,
    /// What the software CPU has.
    pub actual: String,
}

/// Names of the general registers in the hardware's order.
pub const GENERAL_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// C1 of the x87 status word: the direction of rounding.
const C1: u16 = 1 << 9;

/// Everything in which `actual` differs from `expected`, apart from what [`crate::allowances`] and [`crate::exclusions`] name.
#[must_use]
pub fn differences(case: &Case, expected: &Outcome, actual: &Outcome) -> Vec<Difference> {
    let mut found = Vec::new();
    if emulated(case, expected, actual) {
        return found;
    }
    let mut number = |what: &str, expected: u64, actual: u64| {
        if expected != actual {
            found.push(Difference {
                what: what.to_owned(),
                expected: format!("{expected:#x}"),
                actual: format!("{actual:#x}"),
            });
        }
    };
    number(
        "vector",
        u64::from(expected.vector),
        u64::from(actual.vector),
    );
    if !same_long_operand(case, expected, actual) {
        number("error_code", error_code(expected), actual.error_code);
        number("cr2", expected.fault_address, actual.fault_address);
    }
    number("rip", expected.rip, actual.rip);
    number("cs", expected.cs, actual.cs);
    number("ss", expected.ss, actual.ss);
    number("rflags", rflags(expected, actual), actual.rflags);
    for (index, name) in GENERAL_NAMES.iter().enumerate() {
        number(name, expected.general[index], actual.general[index]);
    }
    let (a, b) = (&expected.float, &actual.float);
    number("mxcsr", u64::from(a.mxcsr), u64::from(b.mxcsr));
    number("x87_control", u64::from(a.control), u64::from(b.control));
    let approximate = approximate(case);
    let status_mask = if approximate { !C1 } else { !0 };
    number(
        "x87_status",
        u64::from(a.status & status_mask),
        u64::from(b.status & status_mask),
    );
    number("x87_in_use", u64::from(a.in_use), u64::from(b.in_use));
    for (index, (x, y)) in a.xmm.iter().zip(&b.xmm).enumerate() {
        if x != y {
            found.push(Difference {
                what: format!("xmm{index}"),
                expected: format!("{x:#034x}"),
                actual: format!("{y:#034x}"),
            });
        }
    }
    for (index, (x, y)) in a.st.iter().zip(&b.st).enumerate() {
        if x != y && !(approximate && neighbours(x, y)) {
            found.push(Difference {
                what: format!("st{index}"),
                expected: extended(x),
                actual: extended(y),
            });
        }
    }
    if expected.memory != actual.memory {
        memory(case, expected, actual, &mut found);
    }
    found
}

/// Sign and exponent, then the mantissa.
pub(crate) fn extended(register: &[u8; 10]) -> String {
    let (mantissa, rest) = register.split_at(8);
    format!(
        "{:04x}:{:016x}",
        u16::from_le_bytes([rest[0], rest[1]]),
        u64::from_le_bytes(mantissa.try_into().expect("eight bytes"))
    )
}

fn memory(case: &Case, expected: &Outcome, actual: &Outcome, found: &mut Vec<Difference>) {
    let ignored = last_instruction_addresses(case, expected);
    let differs = |at: usize| {
        expected.memory[at] != actual.memory[at] && !ignored.contains(&(DATA + at as u64))
    };
    let mut at = 0;
    while at < DATA_BYTES as usize {
        if !differs(at) {
            at += 1;
            continue;
        }
        let from = at & !15;
        let row = |outcome: &Outcome| {
            outcome.memory[from..from + 16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        found.push(Difference {
            what: format!("memory {:#x}", DATA + from as u64),
            expected: row(expected),
            actual: row(actual),
        });
        at = from + 16;
    }
}
