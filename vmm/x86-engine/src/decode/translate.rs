//! One instruction from iced-x86's form to [`Op`].

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register as Name,
};

use super::op::{Op, Place};
use crate::{
    cpu::{CodeSize, Register, SegmentName},
    isa,
};

/// No instruction is longer, bytes (SDM 2A 2.3.11).
pub(crate) const LONGEST: usize = 15;

/// What decoding some bytes gave.
pub(crate) enum Decoded {
    /// An instruction.
    Op(Op, Place),
    /// The bytes end before the instruction does.
    Incomplete,
}

/// Decodes the instruction at the beginning of `bytes`, which lies `offset` bytes after the beginning of its block at `block`.
pub(crate) fn decode(bytes: &[u8], block: u64, offset: u16, code: CodeSize) -> Decoded {
    let bits = match code {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    };
    let rip = block.wrapping_add(u64::from(offset));
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let mut instruction = decoder.decode();
    if let Some(exchange) = exchange_behind_pause(&instruction, bytes, code) {
        instruction = exchange;
    }
    let mut op = Op {
        run: isa::undefined,
        immediate: 0,
        displacement: 0,
        base: Register::Zero,
        index: Register::Zero,
        scale: 0,
        segment: SegmentName::Ds,
        r1: Register::Zero,
        r2: Register::Zero,
        high: 0,
        address_bits: bits as u8,
        narrow: code != CodeSize::Bits64,
        length: instruction.len() as u8,
        offset,
        extra: isa::x87::last_opcode(&bytes[..instruction.len()], code),
    };
    if instruction.is_invalid() {
        if decoder.last_error() == DecoderError::NoMoreBytes {
            if bytes.len() < LONGEST {
                return Decoded::Incomplete;
            }
            op.run = isa::too_long;
        }
        return Decoded::Op(op, Place::Last);
    }
    set_operands(&mut op, &instruction, block, code);
    let selected = isa::select(&instruction, &mut op, code);
    op.run = selected.run;
    Decoded::Op(op, selected.place)
}

/// `F3 REX.B 90` exchanges R8 with RAX on processors, and is PAUSE to iced-x86. The prefix means nothing then.
fn exchange_behind_pause(
    instruction: &Instruction,
    bytes: &[u8],
    code: CodeSize,
) -> Option<Instruction> {
    const REX_B: u8 = 0x41;
    if instruction.code() != Code::Pause || code != CodeSize::Bits64 {
        return None;
    }
    let (prefixes, rest) = bytes[..instruction.len()].split_at(instruction.len().checked_sub(2)?);
    if rest[0] & 0xF1 != REX_B {
        return None;
    }
    let exchange = if rest[0] & 8 != 0 {
        Code::Xchg_r64_RAX
    } else if prefixes.contains(&0x66) {
        Code::Xchg_r16_AX
    } else {
        Code::Xchg_r32_EAX
    };
    let (target, accumulator) = match exchange {
        Code::Xchg_r64_RAX => (Name::R8, Name::RAX),
        Code::Xchg_r16_AX => (Name::R8W, Name::AX),
        _ => (Name::R8D, Name::EAX),
    };
    let mut exchange = Instruction::with2(exchange, target, accumulator).ok()?;
    exchange.set_len(instruction.len());
    exchange.set_next_ip(instruction.next_ip());
    Some(exchange)
}

fn set_operands(op: &mut Op, instruction: &Instruction, block: u64, code: CodeSize) {
    let mut registers = 0;
    for index in 0..instruction.op_count() {
        match instruction.op_kind(index) {
            OpKind::Register => {
                let name = instruction.op_register(index);
                let (register, high) = (numbered(name), u8::from(is_high_byte(name)));
                match registers {
                    0 => {
                        op.r1 = register;
                        op.high |= high;
                    }
                    1 => {
                        op.r2 = register;
                        op.high |= high << 1;
                    }
                    // No instruction of ours has three register operands, except with a fixed XMM0.
                    _ => {}
                }
                registers += 1;
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                op.immediate = instruction.near_branch_target().wrapping_sub(block);
            }
            OpKind::Memory => set_memory(op, instruction, block, code),
            kind if is_string(kind) => set_string(op, instruction, kind, code),
            OpKind::FarBranch16 | OpKind::FarBranch32 => {
                op.immediate = if instruction.op_kind(index) == OpKind::FarBranch16 {
                    u64::from(instruction.far_branch16())
                } else {
                    u64::from(instruction.far_branch32())
                };
                op.extra = instruction.far_branch_selector();
            }
            OpKind::Immediate8_2nd => op.extra = u16::from(instruction.immediate8_2nd()),
            _ => op.immediate = instruction.immediate(index),
        }
    }
}

fn set_memory(op: &mut Op, instruction: &Instruction, block: u64, code: CodeSize) {
    let base = instruction.memory_base();
    op.displacement = instruction.memory_displacement64() as i64;
    op.scale = instruction.memory_index_scale().trailing_zeros() as u8;
    op.index = addressing(instruction.memory_index());
    op.address_bits = match base {
        Name::RIP | Name::EIP => {
            op.base = Register::Block;
            op.displacement = op.displacement.wrapping_sub(block as i64);
            if base == Name::RIP { 64 } else { 32 }
        }
        _ => {
            op.base = addressing(base);
            address_bits(instruction)
        }
    };
    op.segment = match segment(instruction.memory_segment()) {
        name @ (SegmentName::Fs | SegmentName::Gs) => name,
        name if code != CodeSize::Bits64 => name,
        // 64-bit mode ignores the other prefixes (SDM 1 3.3.4); the stack's registers still mean the stack.
        _ if matches!(op.base, Register::Rsp | Register::Rbp) => SegmentName::Ss,
        _ => SegmentName::Ds,
    };
    op.narrow = code != CodeSize::Bits64 || op.address_bits != 64;
    // 64-bit addresses have no high part of the displacement to lose; narrower ones are cut where they are used.
}

/// Without a register to tell, the displacement's size does.
fn address_bits(instruction: &Instruction) -> u8 {
    let register = match (instruction.memory_base(), instruction.memory_index()) {
        (Name::None, index) => index,
        (base, _) => base,
    };
    match (register, instruction.memory_displ_size()) {
        (Name::None, 8) => 64,
        (Name::None, 4) => 32,
        (Name::None, _) => 16,
        (register, _) => (register.size() * 8) as u8,
    }
}

fn is_string(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI
    )
}

fn set_string(op: &mut Op, instruction: &Instruction, kind: OpKind, code: CodeSize) {
    op.address_bits = match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 16,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 32,
        _ => 64,
    };
    let is_source = !matches!(
        kind,
        OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI
    );
    if is_source {
        op.segment = segment(instruction.memory_segment());
    }
    op.narrow = code != CodeSize::Bits64 || op.address_bits != 64;
}

fn addressing(name: Name) -> Register {
    if name == Name::None {
        Register::Zero
    } else {
        numbered(name)
    }
}

/// The register with the operand's number. Those of byte registers count AH to BH too, hence the full register's.
fn numbered(name: Name) -> Register {
    Register::numbered(name.full_register().number() & 15)
}

fn is_high_byte(name: Name) -> bool {
    matches!(name, Name::AH | Name::CH | Name::DH | Name::BH)
}

/// A segment register by iced-x86's name.
pub(crate) fn segment(name: Name) -> SegmentName {
    match name {
        Name::ES => SegmentName::Es,
        Name::CS => SegmentName::Cs,
        Name::SS => SegmentName::Ss,
        Name::FS => SegmentName::Fs,
        Name::GS => SegmentName::Gs,
        _ => SegmentName::Ds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_parts_of_their_registers() {
        for (name, register) in [
            (Name::AL, Register::Rax),
            (Name::AH, Register::Rax),
            (Name::BH, Register::Rbx),
            (Name::SPL, Register::Rsp),
            (Name::SIL, Register::Rsi),
            (Name::R8L, Register::R8),
            (Name::R15L, Register::R15),
            (Name::R15, Register::R15),
            (Name::XMM9, Register::R9),
        ] {
            assert_eq!(numbered(name), register, "{name:?}");
        }
    }
}
