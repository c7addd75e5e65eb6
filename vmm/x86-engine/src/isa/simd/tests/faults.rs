//! When instructions of the family fault, and what they leave alone then.

use iced_x86::{Instruction, Mnemonic, OpKind, Register as Name};

use super::{
    corpus::{encodings, may_be_unaligned, memory_bytes},
    native::{RAM_BYTES, Random, operand_address, state_of},
};
use crate::{
    Cpu, Ram, State,
    cpu::{CR0_EM, CR0_TS, CR4_OSFXSR, CodeSize},
    decode::translate::{Decoded, decode},
    exception::Exception,
    native_host::{BASE, DATA},
};

const INVALID_OPCODE: u8 = 6;
const DEVICE_NOT_AVAILABLE: u8 = 7;
const GENERAL_PROTECTION: u8 = 13;
const X87_FLOATING_POINT: u8 = 16;
/// The x87 has an exception pending.
const ERROR_SUMMARY: u16 = 1 << 7;

/// A processor to execute single operations on.
pub(super) struct Bench {
    pub(super) cpu: Cpu,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            cpu: Cpu::new(Ram::owned(RAM_BYTES)),
        }
    }

    /// Executes one instruction from a state; its exception, and the state after it.
    pub(super) fn execute(&mut self, state: &State, code: &[u8]) -> (Option<Exception>, State) {
        let mut bytes = code.to_vec();
        bytes.resize(15, 0);
        let Decoded::Op(op, _) = decode(&bytes, BASE, 0, CodeSize::Bits64) else {
            panic!("15 bytes hold an instruction");
        };
        self.cpu.restore(state).expect("a state of this version");
        let core = &mut self.cpu.core;
        let failed = (op.run)(core, &op).is_err();
        core.mxcsr.collect();
        let exception = core.pending.take();
        assert_eq!(failed, exception.is_some(), "{code:02x?}");
        (exception, self.cpu.save())
    }
}

/// One instruction of every encoding, with a state for it. Memory operands are at `[RDI]`.
fn each(mut check: impl FnMut(&mut Bench, &Instruction, &[u8], State)) {
    let mut bench = Bench::new();
    let mut random = Random(0xFA17);
    for (code, opcodes) in encodings() {
        for opcode in opcodes {
            for _ in 0..8 {
                let (bytes, instruction) =
                    std::iter::repeat_with(|| random.instruction(&opcode, code))
                        .find_map(|found| found)
                        .expect("a form that can be tested");
                let mut registers = random.registers();
                registers.general[7] = operand_address(&mut random, &instruction);
                check(&mut bench, &instruction, &bytes, state_of(&registers));
            }
        }
    }
}

fn has_register(instruction: &Instruction, is: fn(Name) -> bool) -> bool {
    (0..instruction.op_count()).any(|index| {
        instruction.op_kind(index) == OpKind::Register && is(instruction.op_register(index))
    })
}

/// Conversions with memory do not show it by their operands.
fn uses_xmm(instruction: &Instruction) -> bool {
    has_register(instruction, Name::is_xmm)
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr
        )
        || format!("{:?}", instruction.mnemonic()).starts_with("Cvt")
}

fn uses_mmx(instruction: &Instruction) -> bool {
    has_register(instruction, Name::is_mm) || instruction.mnemonic() == Mnemonic::Emms
}

#[test]
fn instructions_need_what_the_control_registers_grant() {
    each(|bench, instruction, code, state| {
        let (xmm, mmx) = (uses_xmm(instruction), uses_mmx(instruction));
        let vector = |bench: &mut Bench, change: fn(&mut State)| {
            let mut changed = state.clone();
            change(&mut changed);
            if instruction.mnemonic() == Mnemonic::Ldmxcsr {
                bench.cpu.ram_mut().write(state.general[7], &[0; 4]);
            }
            let (exception, after) = bench.execute(&changed, code);
            if exception.is_some() {
                assert_eq!(after, changed, "{instruction} changed something");
            }
            exception.map(|exception| exception.vector)
        };
        let wanted = |needed: bool, vector: u8| needed.then_some(vector);
        assert_eq!(
            vector(bench, |state| state.cr0 |= CR0_EM | CR0_TS),
            wanted(xmm || mmx, INVALID_OPCODE),
            "{instruction} with CR0.EM"
        );
        assert_eq!(
            vector(bench, |state| state.cr0 |= CR0_TS),
            wanted(xmm || mmx, DEVICE_NOT_AVAILABLE),
            "{instruction} with CR0.TS"
        );
        assert_eq!(
            vector(bench, |state| state.cr4 &= !CR4_OSFXSR),
            wanted(xmm, INVALID_OPCODE),
            "{instruction} without CR4.OSFXSR"
        );
        assert_eq!(
            vector(bench, |state| state.x87.status |= ERROR_SUMMARY),
            wanted(mmx, X87_FLOATING_POINT),
            "{instruction} with an x87 exception pending"
        );
    });
}

#[test]
fn operands_of_16_bytes_must_be_aligned_unless_the_instruction_says_otherwise() {
    each(|bench, instruction, code, mut state| {
        if memory_bytes(instruction) != Some(16) {
            return;
        }
        state.general[7] = DATA + 8;
        let (exception, after) = bench.execute(&state, code);
        if may_be_unaligned(instruction.code()) {
            assert_eq!(exception, None, "{instruction}");
        } else {
            let vector = exception.map(|exception| exception.vector);
            assert_eq!(vector, Some(GENERAL_PROTECTION), "{instruction}");
            assert_eq!(after, state, "{instruction} changed something");
        }
    });
}

#[test]
fn operands_outside_of_the_address_space_change_nothing() {
    each(|bench, instruction, code, mut state| {
        if memory_bytes(instruction).is_none() {
            return;
        }
        state.general[7] = 1 << 60;
        let (exception, after) = bench.execute(&state, code);
        let vector = exception.map(|exception| exception.vector);
        assert_eq!(vector, Some(GENERAL_PROTECTION), "{instruction}");
        assert_eq!(after, state, "{instruction} changed something");
    });
}

#[test]
fn ldmxcsr_refuses_bits_that_do_not_exist() {
    let mut bench = Bench::new();
    let state = state_of(&Random(1).registers());
    // ldmxcsr [DATA]
    let mut code = [0x0F, 0xAE, 0x14, 0x25, 0, 0, 0, 0];
    code[4..].copy_from_slice(&(DATA as u32).to_le_bytes());
    for (value, vector) in [(0xFFFF_u32, None), (0x1_1F80, Some(GENERAL_PROTECTION))] {
        bench.cpu.ram_mut().write(DATA, &value.to_le_bytes());
        let (exception, after) = bench.execute(&state, &code);
        assert_eq!(exception.map(|exception| exception.vector), vector);
        let wanted = if vector.is_none() { value } else { state.mxcsr };
        assert_eq!(after.mxcsr, wanted);
    }
}
