//! Every instruction on random states, against the real processor.

use iced_x86::Code;

use super::{
    coverage::{encode, instructions},
    generator::Generator,
    twin::{AFTER, Situation, Software, on_hardware, wrapped},
};
use crate::float80::Float80;

/// Random states for each instruction.
const CASES: u64 = 2_000;
const C1: u16 = 1 << 9;
const EXCEPTION_SUMMARY: u16 = 1 << 7;

/// FXSAVE and its like need aligned operands; they have tests of their own.
fn saves_extended_state(code: Code) -> bool {
    matches!(
        code,
        Code::Fxsave_m512byte
            | Code::Fxsave64_m512byte
            | Code::Fxrstor_m512byte
            | Code::Fxrstor64_m512byte
            | Code::Xsave_mem
            | Code::Xsave64_mem
            | Code::Xrstor_mem
            | Code::Xrstor64_mem
    )
}

/// Instructions without an exact result: one unit of the last place is allowed, and C1 says something else then.
fn is_transcendental(code: Code) -> bool {
    matches!(
        code,
        Code::F2xm1
            | Code::Fyl2x
            | Code::Fyl2xp1
            | Code::Fpatan
            | Code::Fptan
            | Code::Fsin
            | Code::Fcos
            | Code::Fsincos
    )
}

/// Instructions that do not wait: an exception may be pending before them.
fn does_not_wait(code: Code) -> bool {
    matches!(
        code,
        Code::Fninit
            | Code::Fnclex
            | Code::Fnstcw_m2byte
            | Code::Fnstsw_m2byte
            | Code::Fnstsw_AX
            | Code::Fnstenv_m14byte
            | Code::Fnstenv_m28byte
            | Code::Fnsave_m94byte
            | Code::Fnsave_m108byte
            | Code::Fneni
            | Code::Fndisi
            | Code::Fnsetpm
    )
}

/// Clears what is not compared.
fn mask(code: Code, situation: &mut Situation) {
    let data = &mut situation.data;
    // MXCSR_MASK tells processors apart.
    data[AFTER + 28..AFTER + 32].fill(0);
    // FCS and FDS are always 0 here. The host's kernel loses the pointers at a task switch unless an exception is pending.
    let (pointers, pending) = match code {
        Code::Fnstenv_m14byte | Code::Fnsave_m94byte => (6..14, data[2] & 0x80 != 0),
        Code::Fnstenv_m28byte | Code::Fnsave_m108byte => (12..28, data[4] & 0x80 != 0),
        _ => return,
    };
    if pending {
        let selectors = if pointers.len() == 8 {
            [8, 12]
        } else {
            [16, 24]
        };
        selectors
            .into_iter()
            .for_each(|at| data[at..at + 2].fill(0));
    } else {
        data[pointers].fill(0);
    }
}

/// Makes the software's result the hardware's where they are one unit of the last place apart.
fn forgive_last_place(hardware: &Situation, software: &mut Situation) {
    for index in 0..8 {
        let at = AFTER + 32 + 16 * index;
        let of = |data: &[u8]| Float80::from_bytes(*data[at..].first_chunk().expect("inside"));
        let (a, b) = (of(&hardware.data), of(&software.data));
        if is_next_to(a, b) {
            software.data[at..at + 10].copy_from_slice(&a.to_bytes());
        }
    }
    let c1 = hardware.status() & C1;
    let status = software.status() & !C1 | c1;
    software.data[AFTER + 2..AFTER + 4].copy_from_slice(&status.to_le_bytes());
}

fn is_next_to(a: Float80, b: Float80) -> bool {
    if a.class().is_nan() || b.class().is_nan() || a.is_negative() != b.is_negative() {
        return false;
    }
    // Without the integer bit the encodings are in order.
    let order = |number: Float80| {
        u128::from(number.sign_exponent & 0x7FFF) << 63 | u128::from(number.mantissa & !(1 << 63))
    };
    order(a).abs_diff(order(b)) <= 1
}

fn describe(situation: &Situation) -> String {
    let image = situation.image();
    let registers: Vec<String> = (0..8)
        .map(|index| {
            let bytes = image[32 + 16 * index..].first_chunk().expect("inside");
            let number = Float80::from_bytes(*bytes);
            format!("{:x}:{:x}", number.sign_exponent, number.mantissa)
        })
        .collect();
    format!(
        "control {:x} status {:x} in use {:x} pointers {:x?} flags {:x} rax {:x}\n      {}\n      memory {:x?}",
        u16::from_le_bytes([image[0], image[1]]),
        situation.status(),
        image[4],
        &image[6..24],
        situation.registers.flags,
        situation.registers.rax,
        registers.join(" "),
        &situation.data[..32],
    )
}

/// Compares an instruction on random states; what differs, in words.
fn compare(code: Code, software: &mut Software) -> Vec<String> {
    let mut generator = Generator::new(code as u64);
    let mut differences = Vec::new();
    for case in 0..CASES {
        let image = generator.image(does_not_wait(code));
        let before = Situation::new(&mut generator, &image);
        let wrapped = wrapped(&encode(code, case as usize % 8));
        let mut expected = on_hardware(&wrapped, &before);
        let Ok(mut found) = software.run(&wrapped, &before, 3) else {
            differences.push(format!("{code:?} does not complete"));
            continue;
        };
        if is_transcendental(code) {
            forgive_last_place(&expected, &mut found);
        }
        mask(code, &mut expected);
        mask(code, &mut found);
        if found.data != expected.data || found.registers != expected.registers {
            let mut shown = before.clone();
            shown
                .data
                .copy_within(super::twin::BEFORE..super::twin::BEFORE + 512, AFTER);
            differences.push(format!(
                "{code:?} i = {}\n   before   {}\n   hardware {}\n   software {}",
                case % 8,
                describe(&shown),
                describe(&expected),
                describe(&found)
            ));
        }
    }
    differences
}

#[test]
fn every_instruction_leaves_what_the_processor_leaves() {
    let mut software = Software::new();
    let mut report = Vec::new();
    for code in instructions().filter(|code| !saves_extended_state(*code)) {
        let differences = compare(code, &mut software);
        if let Some(first) = differences.first() {
            report.push(format!("{} of {CASES}: {first}", differences.len()));
        }
    }
    assert!(report.is_empty(), "{}", report.join("\n"));
}

/// Pointers of a pending exception, seen in the saved image, are among what is compared.
#[test]
fn pending_exceptions_occur_in_the_comparison() {
    let mut generator = Generator::new(1);
    let pending = (0..100)
        .filter(|_| {
            let image = generator.image(false);
            let before = Situation::new(&mut generator, &image);
            let after = on_hardware(&wrapped(&encode(Code::Fsqrt, 0)), &before);
            after.status() & EXCEPTION_SUMMARY != 0
        })
        .count();
    assert!(pending > 10, "{pending} of 100");
}

/// Stack underflow, unmasked, so that the pointers are saved: FIP is that of the first prefix, FDP is without the segment's base, FOP is past
/// the prefixes.
#[test]
fn pointers_and_prefixes_go_together() {
    const FADD: [u8; 2] = [0xD8, 0x07];
    let mut software = Software::new();
    let mut generator = Generator::new(2);
    let mut image = generator.image(false);
    image[..5].copy_from_slice(&[0x40, 0x03, 0, 0, 0]);
    for prefixes in [
        &[][..],
        &[0x2E],
        &[0x40],
        &[0x67],
        &[0x3E, 0x67, 0x48],
        &[0x66],
    ] {
        let before = Situation::new(&mut generator, &image);
        let code = wrapped(&[prefixes, &FADD].concat());
        let expected = on_hardware(&code, &before);
        let found = software.run(&code, &before, 3).expect("three instructions");
        let pointers = 6..24;
        assert_ne!(expected.image()[pointers.clone()], [0; 18]);
        assert_eq!(
            found.image()[pointers.clone()],
            expected.image()[pointers],
            "{prefixes:x?}"
        );
    }
}
