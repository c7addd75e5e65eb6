//! Floating-point control: sticky flags over several instructions, exceptions that are not masked.

use iced_x86::code_asm::{CodeAssembler, ptr, registers::*};

use super::{
    corpus::{encodings, memory_bytes},
    faults::Bench,
    native::{Random, differs_by_design, operand_address, state_of},
};
use crate::{
    Cpu, Goal, Ram, State,
    cpu::CR4_OSXMMEXCPT,
    exception::Exception,
    native_host::{BASE, DATA, DATA_BYTES, Native},
};

const INVALID: u32 = 1 << 0;
const DIVIDE_BY_ZERO: u32 = 1 << 2;
const OVERFLOW: u32 = 1 << 3;
const UNDERFLOW: u32 = 1 << 4;
const PRECISION: u32 = 1 << 5;
const FLAGS: u32 = 0x3F;
const MASKS: u32 = FLAGS << 7;

const ONE: u128 = 0x3FF0_0000_0000_0000;
const THREE: u128 = 0x4008_0000_0000_0000;
const LARGEST: u128 = 0x7FEF_FFFF_FFFF_FFFF;
const SMALLEST_NORMAL: u128 = 0x0010_0000_0000_0000;
const HALF: u128 = 0x3FE0_0000_0000_0000;

fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).expect("64 bits are possible");
    write(&mut assembler).expect("valid operands");
    assembler.assemble(BASE).expect("valid code")
}

/// Runs `count` instructions with XMM0 to XMM2 holding 1, 3 and 0.
fn run(count: u64, code: &[u8]) -> (Cpu, State) {
    let mut cpu = Cpu::new(Ram::owned(DATA + DATA_BYTES as u64));
    let mut state = state_of(&Random(1).registers());
    state.xmm[..3].copy_from_slice(&[ONE, THREE, 0]);
    state.mxcsr = 0x1F80;
    cpu.ram_mut().write(BASE, code);
    cpu.restore(&state).expect("a state of this version");
    cpu.run(Goal::Instructions(count));
    let after = cpu.save();
    (cpu, after)
}

#[test]
fn flags_of_many_instructions_add_up_wherever_they_are_looked_at() {
    let code = assemble(|a| {
        a.divsd(xmm0, xmm1)?;
        a.stmxcsr(ptr(DATA))?;
        a.divsd(xmm0, xmm2)?;
        a.fxsave(ptr(DATA + 0x100))?;
        a.sqrtsd(xmm3, xmm0)?;
        a.xorpd(xmm4, xmm4)?;
        a.divsd(xmm4, xmm4)?;
        a.stmxcsr(ptr(DATA + 4))
    });
    let (cpu, after) = run(8, &code);
    let read = |address| cpu.ram().load::<u32>(address);
    assert_eq!(read(DATA), 0x1F80 | PRECISION);
    assert_eq!(read(DATA + 0x100 + 24), 0x1F80 | PRECISION | DIVIDE_BY_ZERO);
    let all = 0x1F80 | PRECISION | DIVIDE_BY_ZERO | INVALID;
    assert_eq!(read(DATA + 4), all);
    assert_eq!(after.mxcsr, all);
}

#[test]
fn flags_can_be_cleared_between_instructions() {
    let code = assemble(|a| {
        a.stmxcsr(ptr(DATA))?;
        a.divsd(xmm0, xmm1)?;
        a.ldmxcsr(ptr(DATA))?;
        a.stmxcsr(ptr(DATA + 4))?;
        a.addsd(xmm1, xmm1)
    });
    let (cpu, after) = run(5, &code);
    assert_eq!(cpu.ram().load::<u32>(DATA + 4), 0x1F80);
    assert_eq!(after.mxcsr, 0x1F80);
}

#[test]
fn the_hosts_own_flags_are_not_the_guests() {
    // Inexact, in this thread, between two runs.
    let third = std::hint::black_box(1.0_f64) / std::hint::black_box(3.0);
    let code = assemble(|a| {
        a.addsd(xmm1, xmm1)?;
        a.addsd(xmm1, xmm1)
    });
    let (mut cpu, state) = run(1, &code);
    assert_eq!(state.mxcsr, 0x1F80);
    let ninth = third / std::hint::black_box(3.0);
    cpu.run(Goal::Instructions(2));
    assert_eq!(cpu.save().mxcsr, 0x1F80, "{ninth}");
}

/// Executes `code` on XMM0 and XMM1 with only the exceptions of `unmasked` not masked.
fn trap(code: &[u8], operands: [u128; 2], unmasked: u32) -> (Option<Exception>, State, State) {
    let mut state = state_of(&Random(1).registers());
    state.xmm[..2].copy_from_slice(&operands);
    state.mxcsr = MASKS & !(unmasked << 7);
    let (exception, after) = Bench::new().execute(&state, code);
    (exception, state, after)
}

#[test]
fn exceptions_that_are_not_masked_leave_the_destination_alone() {
    type Two = fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>;
    let multiply: Two = |a| a.mulsd(xmm0, xmm1);
    let divide: Two = |a| a.divsd(xmm0, xmm1);
    let add: Two = |a| a.addsd(xmm0, xmm1);
    let root: Two = |a| a.sqrtsd(xmm0, xmm1);
    let minus = |value: u128| value | 1 << 63;
    for (write, operands, unmasked, raised) in [
        (divide, [ONE, 0], DIVIDE_BY_ZERO, DIVIDE_BY_ZERO),
        (divide, [ONE, THREE], PRECISION, PRECISION),
        (root, [ONE, minus(ONE)], INVALID, INVALID),
        // An overflow that needs no rounding but for the exponent, and one that does.
        (add, [LARGEST, LARGEST], OVERFLOW, OVERFLOW),
        (multiply, [LARGEST, THREE], OVERFLOW, OVERFLOW | PRECISION),
        // A tiny result that is exact.
        (multiply, [SMALLEST_NORMAL, HALF], UNDERFLOW, UNDERFLOW),
        // Exact, if exponents had no bounds; as a denormal, it is not.
        (
            multiply,
            [SMALLEST_NORMAL, SMALLEST_NORMAL],
            UNDERFLOW,
            UNDERFLOW,
        ),
        (
            divide,
            [SMALLEST_NORMAL, THREE],
            UNDERFLOW,
            UNDERFLOW | PRECISION,
        ),
    ] {
        let code = assemble(write);
        let (exception, before, after) = trap(&code, operands, unmasked);
        assert_eq!(
            exception,
            Some(Exception::SIMD_FLOATING_POINT),
            "{code:02x?}"
        );
        assert_eq!(
            after.mxcsr,
            before.mxcsr | raised,
            "{code:02x?} {operands:x?}"
        );
        assert_eq!(after.xmm, before.xmm);
    }
}

#[test]
fn without_osxmmexcpt_the_exception_is_invalid_opcode() {
    let code = assemble(|a| a.divsd(xmm0, xmm1));
    let mut state = state_of(&Random(1).registers());
    state.cr4 &= !CR4_OSXMMEXCPT;
    state.xmm[..2].copy_from_slice(&[ONE, 0]);
    state.mxcsr = 0;
    let (exception, after) = Bench::new().execute(&state, &code);
    assert_eq!(exception, Some(Exception::INVALID_OPCODE));
    assert_eq!(after.mxcsr, DIVIDE_BY_ZERO);
}

/// Random masks: the flags known before computing are the host's, and the instruction traps if and only if it has to. (Underflow stays masked here.)
#[test]
fn random_exceptions_trap_exactly_if_they_are_not_masked() {
    let mut native = Native::new();
    let mut bench = Bench::new();
    let mut random = Random(0x7A9);
    let mut traps = 0;
    for (code, opcodes) in encodings() {
        if differs_by_design(code) {
            continue;
        }
        for opcode in opcodes {
            for _ in 0..40 {
                let Some((bytes, instruction)) = random.instruction(&opcode, code) else {
                    continue;
                };
                if memory_bytes(&instruction).is_some() {
                    continue;
                }
                let mut registers = random.registers();
                registers.general[7] = operand_address(&mut random, &instruction);
                let masks = (random.next() as u32 & MASKS) | UNDERFLOW << 7;
                let control = registers.mxcsr() & !(FLAGS | MASKS);
                registers.set_mxcsr(control | masks);
                let before = state_of(&registers);
                registers.set_mxcsr(control | MASKS);
                native.execute(&bytes, &mut registers);
                let raised = registers.mxcsr() & FLAGS;
                let must_trap = raised & !(masks >> 7) != 0;
                let (exception, after) = bench.execute(&before, &bytes);
                let vector = exception.map(|exception| exception.vector);
                assert_eq!(vector, must_trap.then_some(19), "{instruction} {before:x?}");
                if must_trap {
                    traps += 1;
                    assert_eq!(after.xmm, before.xmm, "{instruction}");
                    assert_eq!(after.general, before.general, "{instruction}");
                    assert_eq!(after.rflags, before.rflags, "{instruction}");
                } else {
                    assert_eq!(after.xmm, state_of(&registers).xmm, "{instruction}");
                    assert_eq!(after.mxcsr & FLAGS, raised, "{instruction}");
                }
            }
        }
    }
    assert!(traps > 500, "only {traps} traps");
}
