//! What two outcomes differ in.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::{
    case::{Case, Outcome},
    exclusions::APPROXIMATE,
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

/// Everything in which `actual` differs from `expected`, apart from what [`crate::exclusions`] lists.
#[must_use]
pub fn differences(case: &Case, expected: &Outcome, actual: &Outcome) -> Vec<Difference> {
    let mut found = Vec::new();
    if emulated_protection_fault(case, expected, actual)
        || emulated_unchecked(case, expected, actual)
    {
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
    number("rflags", expected.rflags, actual.rflags);
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

/// The error code, without what `kvm-pvm` shows of its own page tables in the upper half of the address space.
fn error_code(outcome: &Outcome) -> u64 {
    const PAGE_FAULT: u8 = 14;
    const UPPER_HALF: u64 = 1 << 63;
    const PRESENT_RESERVED: u64 = 0b1001;
    let host =
        outcome.error_code & PRESENT_RESERVED == PRESENT_RESERVED && outcome.vector == PAGE_FAULT;
    if host && outcome.fault_address & UPPER_HALF != 0 {
        outcome.error_code & !PRESENT_RESERVED
    } else {
        outcome.error_code
    }
}

/// Whether the case is one of [`APPROXIMATE`].
fn approximate(case: &Case) -> bool {
    let decoder = Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE);
    decoder
        .into_iter()
        .any(|instruction| APPROXIMATE.contains(&instruction.mnemonic()))
}

/// Whether two double-extended numbers are one unit in the last place apart.
fn neighbours(one: &[u8; 10], other: &[u8; 10]) -> bool {
    let magnitude = |register: &[u8; 10]| {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(register);
        let bits = u128::from_le_bytes(bytes);
        // Without the integer bit, so that the largest mantissa is followed by the next exponent.
        ((bits >> 64) << 63) | (bits & (u128::MAX >> 65))
    };
    magnitude(one).abs_diff(magnitude(other)) <= 1
}

/// Whether the two differ only in that `kvm-pvm` made #UD of a #GP (or #SS): it tries to emulate instructions whose operand is not canonical
/// or not aligned (or whose MXCSR has reserved bits), and has no SSE or x87.
fn emulated_protection_fault(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    const INVALID_OPCODE: u8 = 6;
    const STACK_FAULT: u8 = 12;
    const GENERAL_PROTECTION: u8 = 13;
    const ALIGNMENT: u64 = 16;
    if expected.vector != INVALID_OPCODE
        || !matches!(actual.vector, STACK_FAULT | GENERAL_PROTECTION)
    {
        return false;
    }
    let renamed = Outcome {
        vector: actual.vector,
        ..expected.clone()
    };
    let Some(instruction) = instruction_at(case, expected.rip) else {
        return false;
    };
    let last = (instruction.memory_size().size().max(1) - 1) as u64;
    let address = effective_address(&instruction, &expected.general);
    let loads_control = matches!(
        instruction.mnemonic(),
        Mnemonic::Ldmxcsr | Mnemonic::Fxrstor | Mnemonic::Fxrstor64
    );
    let faults = address.is_some_and(|address| {
        loads_control
            || !address.is_multiple_of(ALIGNMENT)
            || !canonical(address)
            || !canonical(address.wrapping_add(last))
    });
    faults && renamed == *actual
}

/// The case's instruction at `rip`.
fn instruction_at(case: &Case, rip: u64) -> Option<Instruction> {
    let offset = usize::try_from(rip.checked_sub(case.code_at)?).ok()?;
    let code = case.code.get(offset..)?;
    let instruction = Decoder::with_ip(64, code, rip, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether the software CPU refused the address of an operand where `kvm-pvm`, which emulates the instruction then, does not check it: FXSAVE's
/// and FXRSTOR's alignment, and operands that only begin at a canonical address.
fn emulated_unchecked(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    const STACK_FAULT: u8 = 12;
    const GENERAL_PROTECTION: u8 = 13;
    const PAGE_FAULT: u8 = 14;
    if !matches!(actual.vector, STACK_FAULT | GENERAL_PROTECTION) {
        return false;
    }
    instruction_at(case, actual.rip).is_some_and(|instruction| {
        let saves = matches!(
            instruction.mnemonic(),
            Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64
        );
        let last = (instruction.memory_size().size().max(1) - 1) as u64;
        effective_address(&instruction, &actual.general).is_some_and(|address| {
            let crosses = !canonical(address.wrapping_add(last));
            if saves {
                !address.is_multiple_of(16) || !canonical(address) || crosses
            } else {
                let fault = (expected.vector, expected.rip, expected.fault_address);
                crosses && fault == (PAGE_FAULT, actual.rip, address)
            }
        })
    })
}

/// Whether both faulted on the same operand of more than 16 bytes: which of its bytes CR2 names, and so which page the error code is about, is the
/// processor's choice (AMD's probe the last byte first).
fn same_long_operand(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    if expected.rip != actual.rip {
        return false;
    }
    instruction_at(case, expected.rip).is_some_and(|instruction| {
        let bytes = instruction.memory_size().size() as u64;
        let address = effective_address(&instruction, &expected.general);
        let within = |outcome: &Outcome| {
            address.is_some_and(|address| outcome.fault_address.wrapping_sub(address) < bytes)
        };
        bytes > 16 && within(expected) && within(actual)
    })
}

fn canonical(address: u64) -> bool {
    const UNUSED_BITS: u32 = 16;
    ((address << UNUSED_BITS) as i64 >> UNUSED_BITS) as u64 == address
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

/// Where the case stores the addresses and the opcode of the last x87 instruction: processors differ in when they note them.
fn last_instruction_addresses(case: &Case, outcome: &Outcome) -> Vec<u64> {
    Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE)
        .into_iter()
        .flat_map(|instruction| stored_last_instruction(instruction, outcome))
        .collect()
}

fn stored_last_instruction(last: Instruction, outcome: &Outcome) -> Vec<u64> {
    let fields: &[std::ops::Range<u64>] = match last.mnemonic() {
        // And which bits of MXCSR exist: AMD has one more.
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => &[6..24, 28..32],
        Mnemonic::Fnstenv | Mnemonic::Fnsave => match last.memory_size() {
            iced_x86::MemorySize::FpuEnv14 | iced_x86::MemorySize::FpuState94 => &[6..14],
            _ => &[12..28],
        },
        _ => return Vec::new(),
    };
    let Some(address) = effective_address(&last, &outcome.general) else {
        return Vec::new();
    };
    let offsets = fields.iter().cloned().flatten();
    offsets.map(|offset| address.wrapping_add(offset)).collect()
}

/// The linear address of an instruction's memory operand.
#[must_use]
pub fn effective_address(instruction: &Instruction, general: &[u64; 16]) -> Option<u64> {
    use iced_x86::{OpKind, Register};
    let operand = (0..instruction.op_count()).find(|index| {
        matches!(
            instruction.op_kind(*index),
            OpKind::Memory | OpKind::MemorySegRDI | OpKind::MemorySegEDI
        )
    })?;
    instruction.virtual_address(operand, 0, |register, _, _| {
        Some(match register {
            Register::FS => crate::layout::FS_BASE,
            Register::GS => crate::layout::GS_BASE,
            _ if register.is_segment_register() => 0,
            _ => {
                let value = general[register.full_register().number()];
                if register.is_gpr32() {
                    value & 0xFFFF_FFFF
                } else {
                    value
                }
            }
        })
    })
}
