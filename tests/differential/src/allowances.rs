//! What the two processors may differ in, and no difference of the software CPU's: the doings of this or that host.
//!
//! Each allowance is as narrow as it can be told. Whole instructions that are not compared are in [`crate::exclusions`].

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};

use crate::{
    case::{Case, Outcome, RSP},
    exclusions::APPROXIMATE,
    layout::{FS_BASE, GS_BASE},
};

const INVALID_OPCODE: u8 = 6;
const STACK_FAULT: u8 = 12;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const ALIGNMENT_CHECK: u8 = 17;
/// Bytes of the x87's numbers: operands from here on are made of several accesses. Sixteen are one.
const LONG: u64 = 10;

/// The error code, without what `kvm-pvm` shows of its own page tables in the upper half of the address space.
pub(crate) fn error_code(outcome: &Outcome) -> u64 {
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

/// Whether the outcome is the doing of `kvm-pvm`, and the rest is not compared. After a #GP or #SS it tries to emulate the instruction.
pub(crate) fn emulated(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    let Some(instruction) = instruction_at(case, actual.rip) else {
        return false;
    };
    let operands = operands(&instruction, &actual.general);
    !operands.is_empty()
        && (renamed_fault(case, &instruction, &operands, expected, actual)
            || wrong_emulation(case, &instruction, &operands, expected, actual)
            || other_operand_first(&operands, expected, actual)
            || end_seen_late(&instruction, &operands, expected, actual)
            || upper_half(&operands, expected, actual))
}

/// It made another exception of a #GP or #SS: #UD, where it has no such instruction; #SS for #GP or the other way round, where a segment prefix
/// that 64-bit mode ignores (SDM 1 3.3.7.1) confuses it. Everything else must be the same.
fn renamed_fault(
    case: &Case,
    instruction: &Instruction,
    operands: &[Operand],
    expected: &Outcome,
    actual: &Outcome,
) -> bool {
    // And for CMPXCHG16B, alignment may come before the end's address or after it.
    let confused = || {
        is_protection_fault(expected)
            && (has_ignored_prefix(case) || instruction.mnemonic() == Mnemonic::Cmpxchg16b)
    };
    if !is_protection_fault(actual) || expected.vector != INVALID_OPCODE && !confused() {
        return false;
    }
    // Reserved bits of MXCSR are #GP as well.
    let loads_control = matches!(
        instruction.mnemonic(),
        Mnemonic::Ldmxcsr | Mnemonic::Fxrstor | Mnemonic::Fxrstor64
    );
    let faults = |operand: &Operand| operand.is_misaligned() || !operand.is_canonical();
    let renamed = Outcome {
        vector: actual.vector,
        ..expected.clone()
    };
    (loads_control || operands.iter().any(faults)) && renamed == *actual
}

/// It emulated the instruction where it should have raised #GP or #SS: FXSAVE's and FXRSTOR's alignment and reserved bits of MXCSR; operands that
/// only begin at a canonical address, or one of two that is none, where it finds a page fault; MMX's moves, by which the host's registers are MMX's afterwards.
fn wrong_emulation(
    case: &Case,
    instruction: &Instruction,
    operands: &[Operand],
    expected: &Outcome,
    actual: &Outcome,
) -> bool {
    if !is_protection_fault(actual) {
        return false;
    }
    let multimedia = (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_mm()
    });
    let out_of_range = operands.iter().any(|operand| !operand.is_canonical());
    match instruction.mnemonic() {
        _ if multimedia && out_of_range => true,
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => true,
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => out_of_range || operands[0].is_misaligned(),
        _ => {
            let same_place = (expected.vector, expected.rip) == (PAGE_FAULT, actual.rip);
            let place = |operand: &Operand| operand.first == expected.fault_address;
            let found = out_of_range && operands.iter().any(place);
            same_place && (found || has_ignored_prefix(case))
        }
    }
}

/// Both operands of CMPS fault, in different ways: the processor's choice which is read first.
fn other_operand_first(operands: &[Operand], expected: &Outcome, actual: &Outcome) -> bool {
    let faults = |outcome: &Outcome| is_protection_fault(outcome) || outcome.vector == PAGE_FAULT;
    operands.len() == 2
        && expected.rip == actual.rip
        && expected.general == actual.general
        && faults(expected)
        && faults(actual)
        && operands.iter().any(|operand| !operand.is_canonical())
}

/// An operand of the x87's state that is not aligned and whose end only is not canonical: which of the two is noticed is the processor's choice.
fn end_seen_late(
    instruction: &Instruction,
    operands: &[Operand],
    expected: &Outcome,
    actual: &Outcome,
) -> bool {
    let long = is_long(instruction);
    let reaches_out = |operand: &Operand| canonical(operand.first) && !canonical(operand.last);
    long && operands.iter().any(reaches_out)
        && expected.rip == actual.rip
        && expected.vector == ALIGNMENT_CHECK
        && is_protection_fault(actual)
}

/// The upper half of the address space is its own, and faults there are other ones.
fn upper_half(operands: &[Operand], expected: &Outcome, actual: &Outcome) -> bool {
    const UPPER_HALF: u64 = 0xFFFF_8000_0000_0000;
    let is_fault = |outcome: &Outcome| {
        matches!(
            outcome.vector,
            INVALID_OPCODE | STACK_FAULT | GENERAL_PROTECTION | PAGE_FAULT | ALIGNMENT_CHECK
        )
    };
    is_fault(expected)
        && is_fault(actual)
        && expected.rip == actual.rip
        && expected.general == actual.general
        && operands.iter().any(|operand| operand.last >= UPPER_HALF)
}

/// Whether there is a segment prefix that 64-bit mode ignores, but the emulator may take for the one that counts.
fn has_ignored_prefix(case: &Case) -> bool {
    const PREFIXES: [u8; 4] = [0x26, 0x2E, 0x36, 0x3E];
    case.code.iter().any(|byte| PREFIXES.contains(byte))
}

fn is_protection_fault(outcome: &Outcome) -> bool {
    matches!(outcome.vector, STACK_FAULT | GENERAL_PROTECTION)
}

/// The case's instruction at `rip`.
fn instruction_at(case: &Case, rip: u64) -> Option<Instruction> {
    let offset = usize::try_from(rip.checked_sub(case.code_at)?).ok()?;
    let code = case.code.get(offset..)?;
    let instruction = Decoder::with_ip(64, code, rip, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether both faulted on the same operand of the x87's state, on operands of CMPS or MOVS, or on IRETQ's frame: which of its bytes CR2 names, and so which page the error code is about, is the
/// processor's choice (AMD's probe the last byte first).
pub(crate) fn same_long_operand(case: &Case, expected: &Outcome, actual: &Outcome) -> bool {
    if expected.rip != actual.rip {
        return false;
    }
    instruction_at(case, expected.rip).is_some_and(|instruction| {
        let mut operands = operands(&instruction, &expected.general);
        if instruction.mnemonic() == Mnemonic::Iretq {
            let first = expected.general[RSP];
            let last = first.wrapping_add(39);
            operands.push(Operand { first, last });
        }
        let within = |outcome: &Outcome, operand: &Operand| {
            let offset = outcome.fault_address.wrapping_sub(operand.first);
            let bytes = operand.last.wrapping_sub(operand.first);
            // With 32-bit addresses, an operand goes on at 0.
            offset <= bytes || offset & 0xFFFF_FFFF <= bytes && operand.first >> 32 == 0
        };
        let within_any =
            |outcome: &Outcome| operands.iter().any(|operand| within(outcome, operand));
        // Of CMPS's two operands, too, either may be read first.
        let has_choice = is_long(&instruction)
            || operands.len() == 2
            || instruction.mnemonic() == Mnemonic::Iretq;
        has_choice && within_any(expected) && within_any(actual)
    })
}

fn is_long(instruction: &Instruction) -> bool {
    let bytes = instruction.memory_size().size() as u64;
    bytes >= LONG && bytes != 16
}

/// The first and the last byte of an operand in memory.
#[derive(Clone, Copy, Debug)]
struct Operand {
    first: u64,
    last: u64,
}

impl Operand {
    fn is_canonical(&self) -> bool {
        canonical(self.first) && canonical(self.last)
    }

    fn is_misaligned(&self) -> bool {
        !self.first.is_multiple_of(16)
    }
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
    let operands = operands(&last, &outcome.general);
    let offsets = fields.into_iter().flatten();
    offsets
        .flat_map(|offset| {
            operands
                .iter()
                .map(move |operand| operand.first.wrapping_add(offset))
        })
        .collect()
}

/// An instruction's operands in memory, those of string instructions included.
fn operands(instruction: &Instruction, general: &[u64; 16]) -> Vec<Operand> {
    let bytes = instruction.memory_size().size().max(1) as u64;
    let value = |register: Register, _: usize, _: usize| {
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
    };
    (0..instruction.op_count())
        .filter(|operand| {
            matches!(
                instruction.op_kind(*operand),
                OpKind::Memory
                    | OpKind::MemorySegRSI
                    | OpKind::MemorySegESI
                    | OpKind::MemoryESRDI
                    | OpKind::MemoryESEDI
                    | OpKind::MemorySegRDI
                    | OpKind::MemorySegEDI
            )
        })
        .filter_map(|operand| instruction.virtual_address(operand, 0, value))
        .map(|first| first.wrapping_add(bit_offset(instruction, general)))
        .map(|first| Operand {
            first,
            last: first.wrapping_add(bytes - 1),
        })
        .collect()
}

/// How far from its operand BT and its kind access memory: their second operand counts bits from there.
fn bit_offset(instruction: &Instruction, general: &[u64; 16]) -> u64 {
    let counts = matches!(
        instruction.mnemonic(),
        Mnemonic::Bt | Mnemonic::Btc | Mnemonic::Btr | Mnemonic::Bts
    );
    if !counts || instruction.op1_kind() != OpKind::Register {
        return 0;
    }
    let value = general[instruction.op1_register().full_register().number()];
    let bytes = instruction.memory_size().size() as i64;
    let signed = match bytes {
        2 => i64::from(value as i16),
        4 => i64::from(value as i32),
        _ => value as i64,
    };
    (signed.div_euclid(bytes * 8) * bytes) as u64
}

/// RFLAGS as pushed; `kvm-pvm` loses NT whenever the host is interrupted.
pub(crate) fn rflags(expected: &Outcome, actual: &Outcome) -> u64 {
    const NT: u64 = 1 << 14;
    expected.rflags | actual.rflags & NT
}
