//! What 64-bit mode does not have.

use super::{is_amd, operation};
use crate::{
    cpu::{Core, Register},
    decode::op::Op,
    flags::{AF, ARITHMETIC, CF, DF, IF, OF, PF, SF, ZF},
    isa::integer::test_native::{Native, Registers},
    memory::ram::Ram,
    run::Cpu,
};

const DAA: &[u8] = &[0x27];
const DAS: &[u8] = &[0x2F];
const AAA: &[u8] = &[0x37];
const AAS: &[u8] = &[0x3F];
const SALC: &[u8] = &[0xD6];

/// AX and the arithmetic flags after a 32-bit instruction.
fn execute(core: &mut Core, op: &Op, ax: u16, flags: u64) -> (u16, u64) {
    core.put(Register::Rax, ax);
    core.flags.set(flags);
    assert_eq!((op.run)(core, op), Ok(()));
    (core.get(Register::Rax), core.flags.arithmetic())
}

#[test]
fn decimal_arithmetic_is_the_real_processors() {
    // Hosts without 32-bit programs have the samples below.
    if !Native::has_32_bit_code() {
        return;
    }
    let undefined = |code: &[u8]| match code[0] {
        _ if is_amd() => 0,
        0x27 | 0x2F => OF,
        0x37 | 0x3F => OF | SF | ZF | PF,
        _ => OF | AF | CF,
    };
    let mut cpu = Cpu::new(Ram::owned(4096));
    let core = &mut cpu.core;
    let mut native = Native::new();
    for code in [
        DAA,
        DAS,
        AAA,
        AAS,
        &[0xD4, 10],
        &[0xD4, 16],
        &[0xD4, 255],
        &[0xD5, 10],
        &[0xD5, 77],
        &[0xD5, 0],
        SALC,
    ] {
        native.assemble_32(code);
        let op = operation(core, code);
        for ax in (0..=u16::MAX).step_by(37) {
            for flags in [0, CF, AF, CF | AF, ARITHMETIC] {
                let mut real = Registers {
                    flags: flags | 2,
                    ..Registers::default()
                };
                real.general[0] = u64::from(ax);
                native.execute(&mut real);
                let defined = !undefined(code) & ARITHMETIC;
                let (soft_ax, soft_flags) = execute(core, &op, ax, flags);
                assert_eq!(
                    (soft_ax, soft_flags & defined),
                    (real.general[0] as u16, real.flags & defined),
                    "{code:x?} with {ax:#x} and {flags:#x}"
                );
            }
        }
    }
}

/// Measured on an AMD EPYC of the Zen 4 generation.
#[test]
fn decimal_arithmetic_of_samples() {
    let samples: &[(&[u8], u16, u64, u16, u64)] = &[
        (DAA, 0x009A, 0, 0x0000, ZF | AF | PF | CF),
        (DAA, 0x007F, ARITHMETIC, 0x00E5, OF | SF | AF | CF),
        (DAA, 0x00F9, 0, 0x0059, PF | CF),
        (DAS, 0x0005, ARITHMETIC, 0x009F, SF | AF | PF | CF),
        (DAS, 0x009A, 0, 0x0034, OF | AF | CF),
        (AAA, 0x00FA, 0, 0x0200, AF | PF | CF),
        (AAA, 0x0080, 0, 0x0000, 0),
        (AAA, 0x0015, ARITHMETIC, 0x010B, AF | PF | CF),
        (&[0xD4, 10], 0x00FF, ARITHMETIC, 0x1905, PF),
        (&[0xD5, 10], 0xFFFF, 0, 0x00F5, SF | AF | PF | CF),
        (&[0xD5, 77], 0x0102, 0, 0x004F, 0),
        (SALC, 0x1234, CF, 0x12FF, CF),
        (SALC, 0x1234, 0, 0x1200, 0),
    ];
    let mut cpu = Cpu::new(Ram::owned(4096));
    let core = &mut cpu.core;
    for &(code, ax, flags, expected_ax, expected_flags) in samples {
        let op = operation(core, code);
        let outcome = execute(core, &op, ax, flags | DF | IF);
        let expected = (expected_ax, expected_flags);
        assert_eq!(outcome, expected, "{code:x?} with {ax:#x}");
        assert_eq!(core.flags.system(DF | IF), DF | IF);
    }
}
