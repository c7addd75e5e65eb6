//! Each instruction for thousands of operands and flags.

use iced_x86::code_asm::*;

use super::{Pair, is_amd};
use crate::{isa::integer::test_native::Registers, test_support::assemble};

const CASES: u32 = 3000;

/// Compares instructions for many operands: each is a call on a `CodeAssembler`.
macro_rules! compare {
    ($($operation:ident $operands:tt),* $(,)?) => {
        compare!(|_| {}; $($operation $operands),*)
    };
    ($adjust:expr; $($operation:ident $operands:tt),* $(,)?) => {$({
        let code = assemble(|a| a.$operation $operands);
        let name = concat!(stringify!($operation), stringify!($operands));
        Pair::new(name, &code).compare_many(CASES, $adjust);
    })*};
}

macro_rules! compare_shift {
    ($($operation:ident)*) => {$(
        compare!(
            $operation(al, cl), $operation(bh, cl), $operation(dx, cl), $operation(ebx, cl), $operation(r9, cl),
            $operation(al, 1), $operation(dx, 1), $operation(ebx, 1), $operation(r9, 1),
            $operation(ah, 0), $operation(dx, 0), $operation(ebx, 0), $operation(r9, 0),
            $operation(al, 5), $operation(al, 8), $operation(al, 9), $operation(al, 17), $operation(al, 31), $operation(al, 35),
            $operation(dx, 3), $operation(dx, 16), $operation(dx, 17), $operation(dx, 24), $operation(dx, 31), $operation(dx, 64),
            $operation(ebx, 7), $operation(ebx, 31), $operation(ebx, 32), $operation(r9, 63), $operation(r9, 32), $operation(r9, 64),
            $operation(byte_ptr(rsi), cl), $operation(word_ptr(rsi), cl), $operation(dword_ptr(rsi), cl), $operation(qword_ptr(rsi), cl),
            $operation(byte_ptr(rsi), 3), $operation(word_ptr(rsi), 1), $operation(dword_ptr(rsi), 12), $operation(qword_ptr(rsi), 40),
        );
    )*};
}

#[test]
fn shifts() {
    compare_shift!(shl shr sar);
}

#[test]
fn rotates() {
    compare_shift!(rol ror);
}

#[test]
fn rotates_through_carry() {
    compare_shift!(rcl rcr);
}

macro_rules! compare_double_shift {
    ($($operation:ident)*) => {$(
        compare!(
            $operation(eax, edx, cl), $operation(rax, rdx, cl), $operation(ecx, ecx, cl),
            $operation(ax, dx, 1), $operation(ax, dx, 0), $operation(ax, dx, 16),
            $operation(eax, edx, 1), $operation(eax, edx, 0), $operation(eax, edx, 31), $operation(eax, edx, 32),
            $operation(rax, rdx, 1), $operation(rax, rdx, 63), $operation(rax, rdx, 33),
            $operation(word_ptr(rsi), dx, 7), $operation(dword_ptr(rsi), edx, cl), $operation(qword_ptr(rsi), rdx, 9),
        );
        // What counts beyond 16 give is each maker's own.
        if is_amd() {
            compare!($operation(ax, dx, cl), $operation(ax, dx, 17), $operation(ax, dx, 31), $operation(word_ptr(rsi), dx, cl));
        }
    )*};
}

#[test]
fn double_shifts() {
    compare_double_shift!(shld shrd);
}

#[test]
fn products() {
    compare!(
        mul(bl),
        mul(ah),
        mul(bx),
        mul(ebx),
        mul(rbx),
        mul(byte_ptr(rsi)),
        mul(word_ptr(rsi)),
        mul(dword_ptr(rsi)),
        mul(qword_ptr(rsi)),
        imul(bl),
        imul(ah),
        imul(bx),
        imul(ebx),
        imul(rbx),
        imul(byte_ptr(rsi)),
        imul(qword_ptr(rsi)),
        imul_2(ax, bx),
        imul_2(eax, ebx),
        imul_2(rax, rbx),
        imul_2(rax, qword_ptr(rsi)),
        imul_2(r8d, dword_ptr(rsi)),
        imul_3(ax, bx, 100),
        imul_3(eax, ebx, -3),
        imul_3(rax, rbx, 0x7654_3210),
        imul_3(rax, rbx, -1),
        imul_3(rax, qword_ptr(rsi), 77),
        imul_3(cx, word_ptr(rsi), -30000),
    );
}

/// Makes a quotient fit that has as many bits as its dividend's upper half leaves.
fn small_dividend(registers: &mut Registers) {
    let divisor = &mut registers.general[3];
    *divisor |= 0x0101_0101_0101_0103;
    *divisor &= 0x7F7F_7F7F_7F7F_7F7F;
    // Below half the divisor at every width.
    registers.general[2] = registers.general[0] & 1;
}

/// For 8 bits the upper half is AH.
fn small_byte_dividend(registers: &mut Registers) {
    registers.general[3] = registers.general[3] & 0x7F | 0x103;
    registers.general[0] &= !0xFF00;
}

#[test]
fn quotients() {
    compare!(small_dividend; div(bx), div(ebx), div(rbx));
    compare!(small_byte_dividend; div(bl), idiv(bl), div(bh));
    compare!(
        |registers: &mut Registers| {
            small_dividend(registers);
            registers.general[0] &= 0x7F7F_7F7F_7F7F_7F7F;
            registers.general[2] = 0;
        };
        idiv(bx), idiv(ebx), idiv(rbx)
    );
    // Negative dividends of all signs of divisors.
    compare!(
        |registers: &mut Registers| {
            small_dividend(registers);
            registers.general[0] |= 0x8080_8080_8080_8080;
            registers.general[0] &= !1;
            registers.general[2] = u64::MAX;
            if registers.flags & 1 != 0 {
                registers.general[3] = registers.general[3].wrapping_neg() | 0x8080_8080;
            }
        };
        idiv(rbx)
    );
    // Full-width dividends: the upper half is at most a quarter of the divisor.
    compare!(
        |registers: &mut Registers| {
            registers.general[3] |= 1 << 62;
            registers.general[2] = (registers.general[3] as i64 >> 2) as u64 & !(1 << 63);
            registers.general[3] |= registers.flags & 1;
            registers.general[3] &= !(1 << 63);
            registers.general[2] = registers.general[3] >> 3;
        };
        div(rbx), idiv(rbx)
    );
}

#[test]
fn bits() {
    compare!(
        bt(ax, dx),
        bt(eax, edx),
        bt(rax, rdx),
        bt(ax, 3),
        bt(eax, 33),
        bt(rax, 63),
        bt(dword_ptr(rsi), 31),
        bt(word_ptr(rsi), 17),
        bts(ax, dx),
        bts(eax, edx),
        bts(rax, rdx),
        bts(ax, 3),
        bts(eax, 33),
        bts(rax, 63),
        bts(qword_ptr(rsi), 31),
        btr(ax, dx),
        btr(eax, edx),
        btr(rax, rdx),
        btr(ax, 3),
        btr(eax, 33),
        btr(rax, 63),
        btr(word_ptr(rsi), 31),
        btc(ax, dx),
        btc(eax, edx),
        btc(rax, rdx),
        btc(ax, 3),
        btc(eax, 33),
        btc(rax, 63),
        btc(dword_ptr(rsi), 31),
        bsf(ax, dx),
        bsf(eax, edx),
        bsf(rax, rdx),
        bsf(rax, qword_ptr(rsi)),
        bsf(ax, word_ptr(rsi)),
        bsr(ax, dx),
        bsr(eax, edx),
        bsr(rax, rdx),
        bsr(rax, qword_ptr(rsi)),
        bsr(ax, word_ptr(rsi)),
        popcnt(ax, dx),
        popcnt(eax, edx),
        popcnt(rax, rdx),
        popcnt(eax, dword_ptr(rsi)),
        bswap(eax),
        bswap(r9),
        bswap(ecx),
    );
    Pair::new("bswap dx", &[0x66, 0x0F, 0xCA]).compare_many(CASES, |_| {});
}

/// Bit numbers that stay within the buffer, negative ones too.
fn near(registers: &mut Registers) {
    let number = (registers.general[2] as i64 % 900) as u64;
    registers.general[2] = match registers.flags & 0x41 {
        // The upper parts of the register do not count for narrower operands.
        0 => number & 0xFFFF | 0x1234_5678_0000_0000,
        _ => number,
    };
}

#[test]
fn bits_of_strings_in_memory() {
    let narrow = |registers: &mut Registers| {
        near(registers);
        let number = registers.general[2] as i16;
        registers.general[2] = registers.general[2] & !0xFFFF | u64::from((number % 900) as u16);
    };
    compare!(narrow; bt(word_ptr(rsi), dx), bts(word_ptr(rsi), dx), btr(word_ptr(rsi), dx), btc(word_ptr(rsi), dx));
    let full = |registers: &mut Registers| {
        registers.general[2] = (registers.general[2] as i64 % 900) as u64;
    };
    compare!(full; bt(dword_ptr(rsi), edx), bts(dword_ptr(rsi), edx), btr(dword_ptr(rsi), edx), btc(dword_ptr(rsi), edx));
    compare!(full; bt(qword_ptr(rsi), rdx), bts(qword_ptr(rsi), rdx), btr(qword_ptr(rsi), rdx), btc(qword_ptr(rsi), rdx));
}

#[test]
fn checksums() {
    compare!(
        crc32(eax, bl),
        crc32(eax, bh),
        crc32(eax, bx),
        crc32(eax, ebx),
        crc32(rax, bl),
        crc32(rax, rbx),
        crc32(eax, byte_ptr(rsi)),
        crc32(eax, word_ptr(rsi)),
        crc32(rax, qword_ptr(rsi)),
    );
}

#[test]
fn exchanges() {
    compare!(
        xchg(al, ah),
        xchg(al, bl),
        xchg(ax, dx),
        xchg(eax, edx),
        xchg(eax, ebx),
        xchg(rax, r9),
        xchg(r8d, r8d),
        xchg(byte_ptr(rsi), bh),
        xchg(word_ptr(rsi), bx),
        xchg(dword_ptr(rsi), ebx),
        xchg(qword_ptr(rsi), rbx),
        xadd(al, ah),
        xadd(ax, ax),
        xadd(ebx, ecx),
        xadd(ecx, ecx),
        xadd(rbx, rcx),
        xadd(byte_ptr(rsi), bh),
        xadd(word_ptr(rsi), bx),
        xadd(dword_ptr(rsi), ebx),
        xadd(qword_ptr(rsi), rbx),
    );
}

#[test]
fn comparing_exchanges() {
    let often_equal = |registers: &mut Registers| {
        if registers.flags & 4 != 0 {
            registers.general[3] = registers.general[0];
        }
    };
    compare!(
        often_equal;
        cmpxchg(bl, cl), cmpxchg(ah, cl), cmpxchg(bx, cx), cmpxchg(ebx, ecx), cmpxchg(rbx, rcx), cmpxchg(eax, ecx), cmpxchg(ebx, eax),
        cmpxchg(byte_ptr(rsi), bh), cmpxchg(word_ptr(rsi), bx), cmpxchg(dword_ptr(rsi), ebx), cmpxchg(qword_ptr(rsi), rbx),
    );
    let doubled = |registers: &mut Registers| {
        if registers.flags & 4 != 0 {
            registers.general[2] = registers.general[0] >> 32;
        }
    };
    compare!(doubled; cmpxchg8b(qword_ptr(rsi)));
}

#[test]
fn a_comparing_exchange_of_16_bytes() {
    let code = assemble(|a| a.cmpxchg16b(xmmword_ptr(rsi)));
    Pair::new("cmpxchg16b", &code).compare_many(CASES, |_| {});
}

macro_rules! compare_conditional {
    ($($set:ident $cmov:ident),*) => {$(
        compare!(
            $set(al), $set(bh), $set(byte_ptr(rsi)),
            $cmov(ax, dx), $cmov(eax, edx), $cmov(rax, rdx), $cmov(ax, word_ptr(rsi)), $cmov(r9d, dword_ptr(rsi)), $cmov(rax, qword_ptr(rsi)),
        );
    )*};
}

#[test]
fn conditions() {
    compare_conditional!(
        seto cmovo, setno cmovno, setb cmovb, setae cmovae, sete cmove, setne cmovne, setbe cmovbe, seta cmova,
        sets cmovs, setns cmovns, setp cmovp, setnp cmovnp, setl cmovl, setge cmovge, setle cmovle, setg cmovg
    );
}

#[test]
fn conversions_and_flags() {
    compare!(
        cbw(),
        cwde(),
        cdqe(),
        cwd(),
        cdq(),
        cqo(),
        lahf(),
        sahf(),
        clc(),
        stc(),
        cmc(),
        cld(),
        std(),
        nop(),
        pause(),
        endbr64(),
        nop_1(dword_ptr(rax)),
        prefetcht0(byte_ptr(rax)),
        prefetchw(byte_ptr(rcx)),
    );
}

#[test]
fn a_table_lookup() {
    let mut pair = Pair::new("xlatb", &[0xD7]);
    pair.pointers = vec![3];
    pair.compare_many(CASES, |_| {});
}

#[test]
fn single_string_elements() {
    compare!(
        movsb(),
        movsw(),
        movsd(),
        movsq(),
        stosb(),
        stosw(),
        stosd(),
        stosq(),
        lodsb(),
        lodsw(),
        lodsd(),
        lodsq(),
        cmpsb(),
        cmpsw(),
        cmpsd(),
        cmpsq(),
        scasb(),
        scasw(),
        scasd(),
        scasq(),
    );
    let downwards = |registers: &mut Registers| registers.flags |= 1 << 10;
    compare!(
        downwards;
        movsb(), movsw(), movsd(), movsq(), stosb(), stosq(), lodsb(), lodsq(), cmpsb(), cmpsq(), scasb(), scasd()
    );
}

/// Every string instruction by opcode, the widths and address sizes by prefix.
#[test]
fn repeated_strings() {
    let widths: [&[u8]; 4] = [&[], &[0x66], &[], &[0x48]];
    for opcode in [0xA4_u8, 0xA6, 0xAA, 0xAC, 0xAE] {
        for (index, width) in widths.into_iter().enumerate() {
            for repeat in [0xF2_u8, 0xF3] {
                for address in [&[][..], &[0x67]] {
                    let opcode = opcode | u8::from(index != 0);
                    let code = [address, &[repeat], width, &[opcode]].concat();
                    let mut pair = Pair::new(&format!("repeated {code:x?}"), &code);
                    pair.spread = 48;
                    for units in [1, 3, 50] {
                        pair.units = units;
                        if address.is_empty() {
                            pair.compare_many(300, few_repetitions);
                        } else {
                            pair.compare_many(300, |registers| {
                                let upper = registers.general[1] << 32;
                                few_repetitions(registers);
                                registers.general[1] |= upper;
                            });
                        }
                    }
                }
            }
        }
    }
}

/// At most 15 repetitions, up or down.
fn few_repetitions(registers: &mut Registers) {
    let choice = registers.general[1];
    registers.general[1] = choice & 0xF;
    if choice & 0x100 != 0 {
        registers.flags |= 1 << 10;
    }
    if choice & 0x200 != 0 {
        // Everything compares equal to this.
        registers.general[0] = 0;
    }
}
