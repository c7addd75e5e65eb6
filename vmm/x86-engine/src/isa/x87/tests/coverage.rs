//! Every x87 instruction that can be decoded has a handler.

use iced_x86::{
    Code, CpuidFeature, Encoder, Instruction, MemoryOperand, OpCodeOperandKind, Register,
};

use crate::{
    cpu::CodeSize,
    decode::translate::{Decoded, decode},
};

/// Instructions of these features that have no handler, and why.
fn is_left_out(code: Code) -> bool {
    match code {
        // FWAIT and the form without it, which is what they are decoded as.
        Code::Fstenv_m14byte | Code::Fstenv_m28byte | Code::Fstcw_m2byte | Code::Feni => true,
        Code::Fdisi | Code::Fclex | Code::Finit | Code::Fsetpm | Code::Fsave_m94byte => true,
        Code::Fsave_m108byte | Code::Fstsw_m2byte | Code::Fstsw_AX => true,
        // Of the system family.
        Code::Xgetbv | Code::Xsetbv => true,
        // The 80287XL and the 80387SL alone; undefined on all processors since.
        Code::Frstpm | Code::Fstdw_AX | Code::Fstsg_AX | Code::Fnstdw_AX | Code::Fnstsg_AX => true,
        _ => false,
    }
}

fn is_of_this_family(code: Code) -> bool {
    code.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            CpuidFeature::FPU
                | CpuidFeature::FPU287
                | CpuidFeature::FPU287XL_ONLY
                | CpuidFeature::FPU387
                | CpuidFeature::FPU387SL_ONLY
                | CpuidFeature::FXSR
                | CpuidFeature::XSAVE
        )
    })
}

/// All instructions that this family must execute.
pub(super) fn instructions() -> impl Iterator<Item = Code> {
    Code::values().filter(|code| is_of_this_family(*code) && !is_left_out(*code))
}

/// 64-bit code for an instruction, its memory operand at RDI, its register operand ST(`other`).
pub(super) fn encode(code: Code, other: usize) -> Vec<u8> {
    const STACK: [Register; 8] = [
        Register::ST0,
        Register::ST1,
        Register::ST2,
        Register::ST3,
        Register::ST4,
        Register::ST5,
        Register::ST6,
        Register::ST7,
    ];
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    for (index, kind) in code.op_code().op_kinds().iter().enumerate() {
        let index = index as u32;
        match kind {
            OpCodeOperandKind::st0 => instruction.set_op_register(index, Register::ST0),
            OpCodeOperandKind::sti_opcode => instruction.set_op_register(index, STACK[other]),
            OpCodeOperandKind::r16_reg => instruction.set_op_register(index, Register::AX),
            _ if *kind == OpCodeOperandKind::mem => {
                let memory = MemoryOperand::with_base(Register::RDI);
                instruction = Instruction::with1(code, memory).expect("a memory operand");
            }
            kind => instruction.set_op_register(index, fixed(*kind)),
        }
    }
    let mut encoder = Encoder::new(64);
    encoder
        .encode(&instruction, 0)
        .unwrap_or_else(|error| panic!("{code:?} can be encoded: {error}"));
    encoder.take_buffer()
}

fn fixed(kind: OpCodeOperandKind) -> Register {
    assert!(format!("{kind:?}").contains("ax"), "{kind:?} is AX");
    Register::AX
}

#[test]
fn every_instruction_of_the_x87_has_a_handler() {
    let mut count = 0;
    for code in instructions() {
        let bytes = encode(code, 3);
        let Decoded::Op(op, _) = decode(&bytes, 0, 0, CodeSize::Bits64) else {
            panic!("{code:?} is complete");
        };
        let is_undefined =
            std::ptr::fn_addr_eq(op.run, crate::isa::undefined as fn(&mut _, &_) -> _);
        assert!(!is_undefined, "{code:?} has no handler");
        count += 1;
    }
    assert!(count > 150, "only {count} instructions were looked at");
}

#[test]
fn the_last_opcode_is_found_behind_prefixes() {
    use crate::isa::x87::last_opcode;
    assert_eq!(last_opcode(&[0xD9, 0xC9], CodeSize::Bits64), 0x1C9);
    assert_eq!(
        last_opcode(&[0x66, 0x67, 0x41, 0xDD, 0x37], CodeSize::Bits64),
        0x537
    );
    assert_eq!(
        last_opcode(&[0x2E, 0xDF, 0x28, 0x11], CodeSize::Bits32),
        0x728
    );
    // INC ECX, not a prefix.
    assert_eq!(last_opcode(&[0x41], CodeSize::Bits32), 0);
    assert_eq!(last_opcode(&[0x9B], CodeSize::Bits64), 0);
    assert_eq!(last_opcode(&[], CodeSize::Bits64), 0);
}
