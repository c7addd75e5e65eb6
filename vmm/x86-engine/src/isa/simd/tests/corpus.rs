//! Every encoding of every instruction of the family, found by trying all opcodes.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, OpKind, Register,
};

/// The features that the family implements.
const FEATURES: [CpuidFeature; 7] = [
    CpuidFeature::MMX,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
];

/// Whether the instruction came with MMX or one of the SSEs.
pub(super) fn belongs(code: Code) -> bool {
    let features = code.cpuid_features();
    code.encoding() == EncodingKind::Legacy
        && !features.is_empty()
        && features.iter().all(|feature| FEATURES.contains(feature))
}

/// Prefetches and fences, which came with the SSEs: the integer family has them.
pub(super) fn is_elsewhere(code: Code) -> bool {
    use iced_x86::Mnemonic::*;
    matches!(
        code.mnemonic(),
        Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Sfence | Lfence | Mfence
    )
}

/// The bytes before ModRM of every encoding, by what they encode.
pub(super) fn encodings() -> BTreeMap<Code, BTreeSet<Vec<u8>>> {
    let mut found = BTreeMap::<Code, BTreeSet<Vec<u8>>>::new();
    for prefix in [&[][..], &[0x66], &[0xF3], &[0xF2], &[0x66, 0xF2]] {
        for map in [&[0x0F][..], &[0x0F, 0x38], &[0x0F, 0x3A]] {
            for rex in [0x40, 0x48] {
                for opcode in
                    (0..=255).filter(|opcode| map.len() > 1 || !matches!(opcode, 0x38 | 0x3A))
                {
                    let bytes = [prefix, &[rex], map, &[opcode]].concat();
                    note_all_forms(&mut found, &bytes);
                }
            }
        }
    }
    found
}

fn note_all_forms(found: &mut BTreeMap<Code, BTreeSet<Vec<u8>>>, bytes: &[u8]) {
    for modrm in 0..=255_u8 {
        let mut whole = bytes.to_vec();
        whole.extend([modrm, 0, 0, 0, 0, 0, 0, 0, 0]);
        if let Some(instruction) = decoded(&whole)
            && belongs(instruction.code())
            && !is_elsewhere(instruction.code())
        {
            found
                .entry(instruction.code())
                .or_default()
                .insert(bytes.to_vec());
        }
    }
}

/// The 64-bit instruction at the beginning of `bytes`.
pub(super) fn decoded(bytes: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether it has a memory operand, and how wide it is, bytes.
pub(super) fn memory_bytes(instruction: &Instruction) -> Option<usize> {
    (0..instruction.op_count())
        .any(|index| instruction.op_kind(index) == OpKind::Memory)
        .then(|| instruction.memory_size().size())
}

/// Whether its memory operand of 16 bytes may be anywhere.
pub(super) fn may_be_unaligned(code: Code) -> bool {
    use iced_x86::Mnemonic::*;
    matches!(
        code.mnemonic(),
        Movups
            | Movupd
            | Movdqu
            | Lddqu
            | Pcmpestrm
            | Pcmpestrm64
            | Pcmpestri
            | Pcmpestri64
            | Pcmpistrm
            | Pcmpistri
    )
}

/// Whether it uses RSP, which tests cannot set.
pub(super) fn uses_stack_pointer(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|index| {
        instruction.op_kind(index) == OpKind::Register
            && instruction.op_register(index).full_register() == Register::RSP
    })
}
