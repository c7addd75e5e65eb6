//! What raises exceptions, and what must not change then.

use super::operation;
use crate::{
    cpu::{CodeSize, Halt, Register},
    decode::op::Op,
    exception::Exception,
    state::State,
    test_support::{DATA, long_mode_cpu},
};

/// Executes an instruction with these RAX, RCX, RDX; gives the exception if it raised one, and checks that nothing changed then.
fn outcome(code: &[u8], narrow: bool, values: [u64; 3]) -> Option<Exception> {
    let mut cpu = long_mode_cpu(code);
    if narrow {
        cpu.restore(&State::default())
            .expect("this version's state");
        assert_eq!(cpu.core.code_size, CodeSize::Bits32);
    }
    let core = &mut cpu.core;
    core.general[..3].copy_from_slice(&values);
    core.general[Register::Rsi as usize] = DATA;
    let op = operation(core, code);
    match (op.run)(core, &op) {
        Ok(()) => None,
        Err(Halt::Exception) => {
            assert_eq!(core.general[..3], values);
            core.pending
        }
        other => panic!("{code:x?}: {other:?}"),
    }
}

#[test]
fn quotients_that_do_not_fit() {
    let fault = Some(Exception::DIVIDE);
    let wide = |code, values| outcome(code, false, values);
    let (div, idiv): (&[u8], &[u8]) = (&[0x48, 0xF7, 0xF1], &[0x48, 0xF7, 0xF9]);
    assert_eq!(wide(div, [1, 0, 0]), fault);
    assert_eq!(wide(idiv, [1, 0, 0]), fault);
    assert_eq!(wide(div, [0, 5, 5]), fault);
    assert_eq!(wide(div, [u64::MAX, 5, 4]), None);
    assert_eq!(wide(idiv, [1 << 63, u64::MAX, u64::MAX]), fault);
    assert_eq!(wide(idiv, [1 << 63, 1, u64::MAX]), None);
    assert_eq!(wide(idiv, [1 << 63, 1, 0]), fault);
    // The dividend with the least of all values.
    assert_eq!(wide(idiv, [0, u64::MAX, 1 << 63]), fault);
    let (div, idiv): (&[u8], &[u8]) = (&[0xF7, 0xF1], &[0xF7, 0xF9]);
    assert_eq!(wide(div, [0, 7, 7]), fault);
    assert_eq!(wide(div, [0, 7, 6]), None);
    assert_eq!(wide(idiv, [0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFF]), fault);
    assert_eq!(wide(idiv, [0, 0xFFFF_FFFF, 0x8000_0000]), fault);
    assert_eq!(wide(idiv, [0x7FFF_FFFF, 0xFFFF_FFFF, 0]), None);
    let (div, idiv): (&[u8], &[u8]) = (&[0xF6, 0xF1], &[0xF6, 0xF9]);
    assert_eq!(wide(div, [0x0700, 7, 0]), fault);
    assert_eq!(wide(div, [0x06FF, 7, 0]), None);
    assert_eq!(wide(idiv, [0x0080, 1, 0]), fault);
    assert_eq!(wide(idiv, [0xFF80, 1, 0]), None);
    assert_eq!(wide(idiv, [0xFF80, 0xFF, 0]), fault);
}

#[test]
fn every_quotient_of_bytes_fits_or_faults() {
    let mut cpu = long_mode_cpu(&[]);
    let core = &mut cpu.core;
    let (div, idiv) = (
        operation(core, &[0xF6, 0xF1]),
        operation(core, &[0xF6, 0xF9]),
    );
    for dividend in (0..=u16::MAX).step_by(3) {
        for divisor in 0..=u8::MAX {
            let mut run = |op: &Op| {
                core.put(Register::Rax, dividend);
                core.put(Register::Rcx, divisor);
                (op.run)(core, op).ok().map(|()| core.get(Register::Rax))
            };
            let wide = u16::from(divisor);
            let fits = divisor != 0 && dividend / wide < 256;
            let expected = fits.then(|| ((dividend % wide) << 8) | (dividend / wide));
            assert_eq!(run(&div), expected, "{dividend} / {divisor}");
            let (dividend, divisor) = (i32::from(dividend as i16), i32::from(divisor as i8));
            let expected = (divisor != 0 && i8::try_from(dividend / divisor).is_ok()).then(|| {
                u16::from_le_bytes([(dividend / divisor) as u8, (dividend % divisor) as u8])
            });
            assert_eq!(run(&idiv), expected, "{dividend} / {divisor}");
        }
    }
}

#[test]
fn a_base_of_zero_divides() {
    let narrow = |code| outcome(code, true, [0x1234, 0, 0]);
    assert_eq!(narrow(&[0xD4, 0]), Some(Exception::DIVIDE));
    assert_eq!(narrow(&[0xD4, 10]), None);
    assert_eq!(narrow(&[0xD5, 0]), None);
}

#[test]
fn bounds_are_signed_and_inclusive() {
    let check = |code: &[u8], bounds: &[u8], index: u64| {
        let mut cpu = long_mode_cpu(&[]);
        cpu.restore(&State::default())
            .expect("this version's state");
        cpu.ram_mut().write(DATA, bounds);
        let core = &mut cpu.core;
        core.general[0] = index;
        core.general[Register::Rsi as usize] = DATA;
        let op = operation(core, code);
        (op.run)(core, &op).map_err(|_| core.pending)
    };
    let outside = Err(Some(Exception::BOUND));
    // bound eax, [esi]: -2 to 3.
    let (code, bounds): (&[u8], &[u8]) = (&[0x62, 0x06], &[0xFE, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0]);
    for (index, expected) in [
        (-3, outside),
        (-2, Ok(())),
        (0, Ok(())),
        (3, Ok(())),
        (4, outside),
    ] {
        assert_eq!(check(code, bounds, u64::from(index as u32)), expected);
    }
    // bound ax, [esi]: the upper half of EAX does not count.
    let (code, bounds): (&[u8], &[u8]) = (&[0x66, 0x62, 0x06], &[0xFE, 0xFF, 3, 0]);
    assert_eq!(check(code, bounds, 0x7FFF_0003), Ok(()));
    assert_eq!(check(code, bounds, 0x0001_8000), outside);
}

#[test]
fn sixteen_bytes_must_be_aligned() {
    let check = |address: u64| {
        let mut cpu = long_mode_cpu(&[]);
        let core = &mut cpu.core;
        core.general[Register::Rsi as usize] = address;
        let op = operation(core, &[0x48, 0x0F, 0xC7, 0x0E]);
        (op.run)(core, &op).map_err(|_| core.pending)
    };
    assert_eq!(check(DATA + 16), Ok(()));
    for offset in 1..16 {
        let fault = Exception::general_protection(0);
        assert_eq!(check(DATA + offset), Err(Some(fault)));
    }
}

#[test]
fn what_is_not_there_is_undefined() {
    let undefined: &[&[u8]] = &[
        // LOCK where it is not allowed: SHL, BT, a register, CMPXCHG to a register, MOVS.
        &[0xF0, 0xD1, 0x26],
        &[0xF0, 0x0F, 0xA3, 0x16],
        &[0xF0, 0x0F, 0xAB, 0xD0],
        &[0xF0, 0x0F, 0xB1, 0xD1],
        &[0xF0, 0xA4],
        // MOVBE, which is not announced; DAA, AAM, BOUND and SALC in 64-bit mode.
        &[0x0F, 0x38, 0xF0, 0x06],
        &[0x27],
        &[0xD4, 10],
        &[0xD6],
    ];
    for code in undefined {
        let fault = Some(Exception::INVALID_OPCODE);
        assert_eq!(outcome(code, false, [0; 3]), fault, "{code:x?}");
    }
    let defined: &[&[u8]] = &[
        // LOCK where it is: BTS, XADD, CMPXCHG, CMPXCHG8B, XCHG.
        &[0xF0, 0x0F, 0xAB, 0x16],
        &[0xF0, 0x0F, 0xC1, 0x16],
        &[0xF0, 0x0F, 0xB1, 0x16],
        &[0xF0, 0x0F, 0xC7, 0x0E],
        &[0xF0, 0x87, 0x16],
    ];
    for code in defined {
        assert_eq!(outcome(code, false, [0; 3]), None, "{code:x?}");
    }
    // TZCNT and LZCNT are not announced: BSF and BSR.
    let mut cpu = long_mode_cpu(&[]);
    let core = &mut cpu.core;
    for (code, expected) in [([0xF3, 0x0F, 0xBC, 0xC1], 4), ([0xF3, 0x0F, 0xBD, 0xC1], 7)] {
        core.general[1] = 0x90;
        let op = operation(core, &code);
        assert_eq!((op.run)(core, &op), Ok(()));
        assert_eq!(core.general[0], expected);
    }
}

#[test]
fn a_store_that_cannot_be_made_changes_nothing_else() {
    // At 1 GB nothing is mapped: for each of these, registers and flags stay.
    let codes: &[&[u8]] = &[
        &[0xD1, 0x26],             // shl dword [rsi], 1
        &[0x0F, 0xA5, 0x0E],       // shld [rsi], ecx, cl
        &[0x0F, 0xAB, 0x16],       // bts [rsi], edx
        &[0x87, 0x16],             // xchg [rsi], edx
        &[0x0F, 0xC1, 0x16],       // xadd [rsi], edx
        &[0x0F, 0xB1, 0x16],       // cmpxchg [rsi], edx
        &[0x0F, 0xC7, 0x0E],       // cmpxchg8b [rsi]
        &[0x48, 0x0F, 0xC7, 0x0E], // cmpxchg16b [rsi]
        &[0x0F, 0x94, 0x06],       // sete [rsi]
        &[0x0F, 0x45, 0x06],       // cmovne eax, [rsi], with ZF: read all the same
        &[0xF6, 0x36],             // div byte [rsi]
        &[0x0F, 0xBC, 0x06],       // bsf eax, [rsi]
        &[0xA5],                   // movsd
        &[0xA7],                   // cmpsd
        &[0xAD],                   // lodsd
    ];
    for code in codes {
        let mut cpu = long_mode_cpu(&[]);
        let core = &mut cpu.core;
        core.general[..3].copy_from_slice(&[5, 6, 7]);
        core.general[Register::Rsi as usize] = 1 << 30;
        core.general[Register::Rdi as usize] = DATA;
        core.flags.set(0x8D7);
        let before = core.general;
        let op = operation(core, code);
        assert_eq!((op.run)(core, &op), Err(Halt::Exception), "{code:x?}");
        assert_eq!(core.general[..16], before[..16], "{code:x?}");
        assert_eq!(core.flags.get(), 0x8D7, "{code:x?}");
        let vector = core.pending.map(|exception| exception.vector);
        assert_eq!(vector, Some(14), "{code:x?}");
    }
}
