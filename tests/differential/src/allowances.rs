//! What the two processors may differ in, and no difference of the software CPU's: the doings of this or that host.
//!
//! Each allowance is as narrow as it can be told. Whole instructions that are not compared are in [`crate::exclusions`].

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::{
    case::{Case, Outcome},
    exclusions::APPROXIMATE,
    layout::{FS_BASE, GS_BASE},
};

/// The error code, without what `kvm-pvm` shows of its own page tables in the upper half of the address space.
pub(crate) fn error_code(outcome: &Outcome) -> u64 {
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
pub(crate) fn approximate(case: &Case) -> bool {
    let decoder = Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE);
    decoder
        .into_iter()
        .any(|instruction| APPROXIMATE.contains(&instruction.mnemonic()))
}

/// Whether two double-extended numbers are one unit in the last place apart.
pub(crate) fn neighbours(one: &[u8; 10], other: &[u8; 10]) -> bool {
    let magnitude = |register: &[u8; 10]| {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(register);
        let bits = u128::from_le_bytes(bytes);
        // Without the integer bit, so that the largest mantissa is followed by the next exponent.
        ((bits >> 64) << 63) | (bits & (u128::MAX >> 65))
    };
    magnitude(one).abs_diff(magnitude(other)) <= 1
}

/// Whether the two differ only in that `kvm-pvm` made another exception of a #GP or #SS. It tries to emulate instructions whose operand is not
/// canonical or not aligned (or whose MXCSR has reserved bits): #UD, where it has no such instruction; #SS for #GP or the other way round,
/// where a segment prefix that 64-bit mode ignores (SDM 1 3.3.7.1) confuses it.
pub(crate) fn emulated_protection_fault(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    const INVALID_OPCODE: u8 = 6;
    const STACK_FAULT: u8 = 12;
    const GENERAL_PROTECTION: u8 = 13;
    const ALIGNMENT: u64 = 16;
    const PREFIXES: [u8; 4] = [0x26, 0x2E, 0x36, 0x3E];
    let protects = |outcome: &Outcome| matches!(outcome.vector, STACK_FAULT | GENERAL_PROTECTION);
    let confused = || protects(expected) && case.code.iter().any(|byte| PREFIXES.contains(byte));
    if !protects(actual) || expected.vector != INVALID_OPCODE && !confused() {
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

/// Whether the software CPU raised #GP (or #SS) where `kvm-pvm`, which emulates the instruction then, gets it wrong: FXSAVE's and FXRSTOR's
/// alignment and reserved bits of MXCSR, and operands that only begin at a canonical address.
pub(crate) fn emulated_wrongly(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    const STACK_FAULT: u8 = 12;
    const GENERAL_PROTECTION: u8 = 13;
    const PAGE_FAULT: u8 = 14;
    if !matches!(actual.vector, STACK_FAULT | GENERAL_PROTECTION) {
        return false;
    }
    let Some(instruction) = instruction_at(case, actual.rip) else {
        return false;
    };
    let Some(address) = effective_address(&instruction, &actual.general) else {
        return false;
    };
    let last = (instruction.memory_size().size().max(1) - 1) as u64;
    let crosses = !canonical(address.wrapping_add(last));
    let multimedia = (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_mm()
    });
    match instruction.mnemonic() {
        // The emulator has MMX's moves, and the host's registers are MMX's once it used them.
        _ if multimedia && (crosses || !canonical(address)) => true,
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => true,
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => {
            !address.is_multiple_of(16) || !canonical(address) || crosses
        }
        _ => {
            let fault = (expected.vector, expected.rip, expected.fault_address);
            crosses && fault == (PAGE_FAULT, actual.rip, address)
        }
    }
}

/// Whether both faulted on the same operand of more than 16 bytes: which of its bytes CR2 names, and so which page the error code is about, is the
/// processor's choice (AMD's probe the last byte first).
pub(crate) fn same_long_operand(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
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

/// Where the case stores the addresses and the opcode of the last x87 instruction: processors differ in when they note them.
pub(crate) fn last_instruction_addresses(case: &Case, outcome: &Outcome) -> Vec<u64> {
    Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE)
        .into_iter()
        .flat_map(|instruction| stored_last_instruction(instruction, outcome))
        .collect()
}

fn stored_last_instruction(last: Instruction, outcome: &Outcome) -> Vec<u64> {
    let fields = match last.mnemonic() {
        // And which bits of MXCSR exist: AMD has one more.
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => [6..24, 28..32],
        Mnemonic::Fnstenv | Mnemonic::Fnsave => match last.memory_size() {
            MemorySize::FpuEnv14 | MemorySize::FpuState94 => [6..14, 0..0],
            _ => [12..28, 0..0],
        },
        _ => return Vec::new(),
    };
    let Some(address) = effective_address(&last, &outcome.general) else {
        return Vec::new();
    };
    let offsets = fields.into_iter().flatten();
    offsets.map(|offset| address.wrapping_add(offset)).collect()
}

/// The linear address of an instruction's memory operand.
fn effective_address(instruction: &Instruction, general: &[u64; 16]) -> Option<u64> {
    let operand = (0..instruction.op_count()).find(|index| {
        matches!(
            instruction.op_kind(*index),
            OpKind::Memory | OpKind::MemorySegRDI | OpKind::MemorySegEDI
        )
    })?;
    instruction.virtual_address(operand, 0, |register, _, _| {
        Some(match register {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
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
