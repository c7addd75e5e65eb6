//! RCPPS and its like: the error's bound, and the manual's special cases.

use super::{
    faults::Bench,
    native::{Random, state_of},
};

const INFINITY: u32 = 0x7F80_0000;
const MINUS: u32 = 1 << 31;
const INDEFINITE: u32 = 0xFFC0_0000;

/// RCPPS XMM0, XMM1 or RSQRTPS XMM0, XMM1.
fn approximate(bench: &mut Bench, opcode: u8, operands: [u32; 4]) -> [u32; 4] {
    let mut state = state_of(&Random(1).registers());
    state.xmm[1] = (0..4).fold(0, |all, lane| {
        all | u128::from(operands[lane]) << (lane * 32)
    });
    let (exception, after) = bench.execute(&state, &[0x0F, opcode, 0xC1]);
    assert_eq!(exception, None);
    assert_eq!(after.mxcsr, state.mxcsr, "no flags");
    std::array::from_fn(|lane| (after.xmm[0] >> (lane * 32)) as u32)
}

const RECIPROCAL: u8 = 0x53;
const OF_ROOT: u8 = 0x52;

#[test]
fn special_operands_give_what_the_manual_says() {
    let mut bench = Bench::new();
    let zeros = [0, MINUS, 1, MINUS | 0x7F_FFFF];
    let infinities = [INFINITY, INFINITY | MINUS, INFINITY, INFINITY | MINUS];
    assert_eq!(approximate(&mut bench, RECIPROCAL, zeros), infinities);
    assert_eq!(approximate(&mut bench, OF_ROOT, zeros), infinities);
    let operands = [INFINITY, INFINITY | MINUS, 0x7F80_0001, 0xBF80_0000];
    assert_eq!(
        approximate(&mut bench, RECIPROCAL, operands),
        [0, MINUS, 0x7FC0_0001, 0xBF80_0000]
    );
    assert_eq!(
        approximate(&mut bench, OF_ROOT, operands),
        [0, INDEFINITE, 0x7FC0_0001, INDEFINITE]
    );
    // Results that would be denormal are zeros.
    let large = [0x7F7F_FFFF, 0xFF7F_FFFF, 0x7E80_0001, 0x7E80_0000];
    assert_eq!(
        approximate(&mut bench, RECIPROCAL, large),
        [0, MINUS, 0, 0x0080_0000]
    );
}

#[test]
fn errors_are_within_the_manuals_bound() {
    let mut bench = Bench::new();
    let mut random = Random(3);
    let bound = 1.5 / 4096.0;
    for _ in 0..20_000 {
        // Between 2^-63 and 2^64.
        let operands: [u32; 4] = std::array::from_fn(|_| {
            (64 + random.below(127) as u32) << 23 | random.next() as u32 & 0x7F_FFFF
        });
        for opcode in [RECIPROCAL, OF_ROOT] {
            let results = approximate(&mut bench, opcode, operands);
            for (operand, result) in operands.into_iter().zip(results) {
                let value = f64::from(f32::from_bits(operand));
                let exact = if opcode == RECIPROCAL {
                    1.0 / value
                } else {
                    1.0 / value.sqrt()
                };
                let error = (f64::from(f32::from_bits(result)) / exact - 1.0).abs();
                assert!(error <= bound, "{opcode:x} of {value} is off by {error}");
            }
        }
    }
}

#[test]
fn powers_of_two_are_exact() {
    let mut bench = Bench::new();
    let operands = [1.0_f32, 4.0, 0.25, 65536.0].map(f32::to_bits);
    assert_eq!(
        approximate(&mut bench, RECIPROCAL, operands),
        [1.0_f32, 0.25, 4.0, 1.0 / 65536.0].map(f32::to_bits)
    );
    assert_eq!(
        approximate(&mut bench, OF_ROOT, operands),
        [1.0_f32, 0.5, 2.0, 1.0 / 256.0].map(f32::to_bits)
    );
}
