//! Operands of one instruction, by the kinds that iced-x86 knows.

use iced_x86::{Code, Instruction, Mnemonic, OpCodeOperandKind as Kind, OpKind, Register};

use super::{Builder, values};

impl Builder<'_> {
    /// The operands of an instruction with this encoding; `None` if one is of a kind that no candidate has.
    pub(super) fn operands(&mut self, code: Code) -> Option<Instruction> {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let kinds = code.op_code();
        let bytes = code.op_code().memory_size().size() as u64;
        for (operand, kind) in (0..).zip(kinds.op_kinds().iter().copied()) {
            self.operand(&mut instruction, operand, kind, bytes)?;
        }
        Some(instruction)
    }

    fn operand(
        &mut self,
        instruction: &mut Instruction,
        operand: u32,
        kind: Kind,
        bytes: u64,
    ) -> Option<()> {
        let in_memory = self.random.chance(1, 2);
        let register = match kind {
            Kind::mem => {
                self.memory_operand(instruction, operand, bytes);
                return Some(());
            }
            Kind::mem_offs => {
                let target = self.memory_target(instruction.code(), bytes);
                instruction.set_op_kind(operand, OpKind::Memory);
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(target);
                return Some(());
            }
            Kind::r8_or_mem
            | Kind::r16_or_mem
            | Kind::r32_or_mem
            | Kind::r64_or_mem
            | Kind::mm_or_mem
            | Kind::xmm_or_mem
                if in_memory =>
            {
                self.memory_operand(instruction, operand, bytes);
                return Some(());
            }
            _ => match self.register(kind) {
                Some(register) => register,
                None => return self.other(instruction, operand, kind),
            },
        };
        instruction.set_op_kind(operand, OpKind::Register);
        instruction.set_op_register(operand, register);
        Some(())
    }

    fn memory_operand(&mut self, instruction: &mut Instruction, operand: u32, bytes: u64) {
        let target = self.memory_target(instruction.code(), bytes);
        self.set_memory(instruction, operand, target);
    }

    /// An address, with contents that suit the instruction.
    fn memory_target(&mut self, code: Code, bytes: u64) -> u64 {
        let target = if self.pointers == 0 {
            self.target(bytes)
        } else {
            crate::layout::DATA
                + 0x400
                + (self.random.below(0x1800) & self.random.pick(&[!15, !7, !0]))
        };
        // kvm-pvm emulates these where they are not aligned, and forgets to check.
        let target = match code.mnemonic() {
            Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => {
                target & !15
            }
            _ => target,
        };
        let content = self.memory_content(code);
        if self.pointers == 0 || self.random.chance(1, 3) {
            self.patch(target, &content);
        }
        target
    }

    /// A register of the class that `kind` asks for.
    fn register(&mut self, kind: Kind) -> Option<Register> {
        let general = self.general_register() as u32;
        let eight = self.random.below(8) as u32;
        let sixteen = self.random.below(16) as u32;
        Some(match kind {
            Kind::r8_or_mem | Kind::r8_reg | Kind::r8_opcode => match general {
                // AH to DH exist beside the sixteen.
                0..=3 if self.random.chance(1, 3) => Register::AH + general,
                0..=3 => Register::AL + general,
                _ => Register::SPL + (general - 4),
            },
            Kind::r16_or_mem
            | Kind::r16_reg
            | Kind::r16_reg_mem
            | Kind::r16_rm
            | Kind::r16_opcode => Register::AX + general,
            Kind::r32_or_mem
            | Kind::r32_reg
            | Kind::r32_reg_mem
            | Kind::r32_rm
            | Kind::r32_opcode => Register::EAX + general,
            Kind::r64_or_mem
            | Kind::r64_reg
            | Kind::r64_reg_mem
            | Kind::r64_rm
            | Kind::r64_opcode => Register::RAX + general,
            Kind::mm_or_mem | Kind::mm_reg | Kind::mm_rm => Register::MM0 + eight,
            Kind::xmm_or_mem | Kind::xmm_reg | Kind::xmm_rm => Register::XMM0 + sixteen,
            Kind::seg_reg => Register::ES + self.random.below(6) as u32,
            Kind::cr_reg => self.random.pick(&[
                Register::CR0,
                Register::CR2,
                Register::CR3,
                Register::CR4,
                Register::CR8,
            ]),
            Kind::dr_reg => Register::DR0 + eight,
            Kind::es => Register::ES,
            Kind::cs => Register::CS,
            Kind::ss => Register::SS,
            Kind::ds => Register::DS,
            Kind::fs => Register::FS,
            Kind::gs => Register::GS,
            Kind::al => Register::AL,
            Kind::cl => Register::CL,
            Kind::ax => Register::AX,
            Kind::dx => Register::DX,
            Kind::eax => Register::EAX,
            Kind::rax => Register::RAX,
            Kind::st0 => Register::ST0,
            Kind::sti_opcode => Register::ST0 + eight,
            _ => return None,
        })
    }

    /// Immediates, branch targets and the operands of string instructions.
    fn other(&mut self, instruction: &mut Instruction, operand: u32, kind: Kind) -> Option<()> {
        let value = values::integer(self.random);
        let small = value as i8;
        let narrow = self.narrow_strings;
        let mut string = |wide: OpKind, short: OpKind| {
            instruction.set_op_kind(operand, if narrow { short } else { wide });
        };
        match kind {
            Kind::seg_rSI => string(OpKind::MemorySegRSI, OpKind::MemorySegESI),
            Kind::es_rDI => string(OpKind::MemoryESRDI, OpKind::MemoryESEDI),
            Kind::seg_rDI => string(OpKind::MemorySegRDI, OpKind::MemorySegEDI),
            Kind::seg_rBX_al => {
                instruction.set_op_kind(operand, OpKind::Memory);
                let (base, index) = if narrow {
                    (Register::EBX, Register::AL)
                } else {
                    (Register::RBX, Register::AL)
                };
                instruction.set_memory_base(base);
                instruction.set_memory_index(index);
            }
            Kind::imm8 => {
                // The second of two, as ENTER has.
                let second = operand > 0 && instruction.op_kind(operand - 1) == OpKind::Immediate16;
                if second {
                    instruction.set_op_kind(operand, OpKind::Immediate8_2nd);
                    instruction.set_immediate8_2nd((value % 34) as u8);
                } else {
                    instruction.set_op_kind(operand, OpKind::Immediate8);
                    instruction.set_immediate8(value as u8);
                }
            }
            Kind::imm8_const_1 => {
                instruction.set_op_kind(operand, OpKind::Immediate8);
                instruction.set_immediate8(1);
            }
            Kind::imm8sex16 => {
                instruction.set_op_kind(operand, OpKind::Immediate8to16);
                instruction.set_immediate8to16(i16::from(small));
            }
            Kind::imm8sex32 => {
                instruction.set_op_kind(operand, OpKind::Immediate8to32);
                instruction.set_immediate8to32(i32::from(small));
            }
            Kind::imm8sex64 => {
                instruction.set_op_kind(operand, OpKind::Immediate8to64);
                instruction.set_immediate8to64(i64::from(small));
            }
            Kind::imm16 => {
                instruction.set_op_kind(operand, OpKind::Immediate16);
                instruction.set_immediate16(value as u16);
            }
            Kind::imm32 => {
                instruction.set_op_kind(operand, OpKind::Immediate32);
                instruction.set_immediate32(value as u32);
            }
            Kind::imm32sex64 => {
                instruction.set_op_kind(operand, OpKind::Immediate32to64);
                instruction.set_immediate32to64(i64::from(value as i32));
            }
            Kind::imm64 => {
                instruction.set_op_kind(operand, OpKind::Immediate64);
                instruction.set_immediate64(value);
            }
            Kind::br64_1 => {
                let target = self.near_landing();
                instruction.set_op_kind(operand, OpKind::NearBranch64);
                instruction.set_near_branch64(target);
            }
            Kind::br64_4 => {
                let target = self.landing();
                instruction.set_op_kind(operand, OpKind::NearBranch64);
                instruction.set_near_branch64(target);
            }
            _ => return None,
        }
        Some(())
    }
}
