//! Which instructions the family has: all that its features brought, and no other.

use std::collections::BTreeSet;

use iced_x86::{Code, Instruction};

use super::{
    corpus::{belongs, decoded, encodings, is_elsewhere},
    native::Random,
};
use crate::{
    cpu::CodeSize,
    decode::translate::{Decoded, decode},
    isa::{self, simd::handler},
};

#[test]
fn every_instruction_of_the_family_can_be_found_in_the_corpus() {
    let found = encodings();
    let missing: Vec<Code> = Code::values()
        .filter(|code| belongs(*code) && !is_elsewhere(*code) && !found.contains_key(code))
        .collect();
    assert_eq!(missing, []);
}

#[test]
fn every_instruction_of_the_family_is_selected() {
    let unknown: Vec<Code> = encodings()
        .into_iter()
        .flat_map(|(code, opcodes)| opcodes.into_iter().map(move |opcode| (code, opcode)))
        .filter(|(code, opcode)| {
            let mut random = Random(0x5EED);
            let instruction = std::iter::repeat_with(|| random.instruction(opcode, *code))
                .take(1000)
                .find_map(|found| found)
                .unwrap_or_else(|| panic!("no instruction for {code:?}"))
                .1;
            handler(&instruction).is_none()
        })
        .map(|(code, _)| code)
        .collect();
    assert_eq!(unknown, []);
}

/// Every first four bytes of an instruction that matter, with a register and with a memory operand.
fn all_instructions(mut visit: impl FnMut(&[u8], &Instruction)) {
    let prefixes: [&[u8]; 8] = [
        &[],
        &[0x66],
        &[0xF3],
        &[0xF2],
        &[0xC5, 0xF9],
        &[0xC4, 0xE2, 0x79],
        &[0xC4, 0xE3, 0x79],
        &[0x62, 0xF1, 0x7D, 0x48],
    ];
    let maps: [&[u8]; 4] = [&[], &[0x0F], &[0x0F, 0x38], &[0x0F, 0x3A]];
    for prefix in prefixes {
        for map in maps {
            for opcode in 0..=255 {
                for modrm in (0x00..=0x38)
                    .step_by(8)
                    .flat_map(|reg| [reg | 7, reg | 0xC0])
                {
                    let mut bytes = [prefix, map, &[opcode, modrm]].concat();
                    bytes.resize(15, 0);
                    if let Some(instruction) = decoded(&bytes) {
                        visit(&bytes, &instruction);
                    }
                }
            }
        }
    }
}

#[test]
fn instructions_of_other_features_are_not_the_familys() {
    let mut taken = BTreeSet::new();
    let mut seen = 0;
    all_instructions(|_, instruction| {
        seen += 1;
        let code = instruction.code();
        if !belongs(code) && handler(instruction).is_some() {
            taken.insert(code);
        }
    });
    assert!(seen > 10_000, "only {seen} instructions");
    assert_eq!(taken, BTreeSet::new());
}

#[test]
fn what_the_features_brought_to_other_families_is_there() {
    let mut missing = BTreeSet::new();
    let mut seen = BTreeSet::new();
    all_instructions(|bytes, instruction| {
        let code = instruction.code();
        if belongs(code) && is_elsewhere(code) {
            seen.insert(code);
            let Decoded::Op(op, _) = decode(bytes, 0, 0, CodeSize::Bits64) else {
                panic!("15 bytes hold an instruction");
            };
            if std::ptr::fn_addr_eq(op.run, isa::undefined as crate::decode::op::Handler) {
                missing.insert(code);
            }
        }
    });
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert_eq!(missing, BTreeSet::new());
}
