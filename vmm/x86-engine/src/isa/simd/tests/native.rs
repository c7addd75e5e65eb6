//! Random operands: the processor in software and the real one leave the same.

use iced_x86::{Code, Instruction, Mnemonic};

use super::corpus::{decoded, encodings, may_be_unaligned, memory_bytes, uses_stack_pointer};
use crate::{
    Cpu, Goal, Ram, State, Stop,
    cpu::{CR4_OSFXSR, CR4_OSXMMEXCPT, EFER_LMA, EFER_LME},
    flags,
    native_host::{BASE, DATA, DATA_BYTES, Native, Registers},
};

/// Where the guest's memory ends: right after the operands, so that an access that is too wide leaves it.
pub(super) const RAM_BYTES: u64 = DATA + DATA_BYTES as u64;
const CASES_PER_ENCODING: usize = 200;

/// A small generator with a seed (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    /// A vector: of random bits, of floats with interesting exponents, of text, of few different bytes.
    pub(super) fn vector(&mut self) -> u128 {
        let quarter = |random: &mut Self| u128::from(random.single());
        let half = |random: &mut Self| u128::from(random.double());
        match self.below(6) {
            0 => u128::from(self.next()) << 64 | u128::from(self.next()),
            1 | 2 => (0..4).fold(0, |value, _| value << 32 | quarter(self)),
            3 | 4 => half(self) << 64 | half(self),
            _ => (0..16).fold(0, |value, _| value << 8 | u128::from(self.below(4))),
        }
    }

    fn single(&mut self) -> u32 {
        let sign = (self.below(2) as u32) << 31;
        let mantissa = match self.below(4) {
            0 => 0,
            1 => 0x40_0000,
            2 => 0x7F_FFFF,
            _ => self.next() as u32 & 0x7F_FFFF,
        };
        let exponent = match self.below(8) {
            0 => 0,
            1 => 0xFF,
            2 => 1 + self.below(30) as u32,
            3 => 0xFE - self.below(30) as u32,
            _ => 110 + self.below(50) as u32,
        };
        sign | exponent << 23 | mantissa
    }

    fn double(&mut self) -> u64 {
        let sign = self.below(2) << 63;
        let mantissa = match self.below(4) {
            0 => 0,
            1 => 1 << 51,
            2 => (1 << 52) - 1,
            _ => self.next() >> 12,
        };
        let exponent = match self.below(8) {
            0 => 0,
            1 => 0x7FF,
            2 => 1 + self.below(60),
            3 => 0x7FE - self.below(60),
            4 => 850 + self.below(60),
            _ => 1000 + self.below(100),
        };
        sign | exponent << 52 | mantissa
    }

    /// An MXCSR with every exception masked, mostly the default control bits, with or without flags.
    fn mxcsr(&mut self) -> u32 {
        let flags = if self.below(2) == 0 {
            0
        } else {
            self.below(64) as u32
        };
        let control = match self.below(2) {
            0 => 0,
            _ => (self.below(8) as u32) << 13 | (self.below(2) as u32) << 6,
        };
        0x1F80 | flags | control
    }

    pub(super) fn registers(&mut self) -> Registers {
        let mut registers = Registers {
            fxsave: [0; 512],
            general: [0; 16],
            rflags: flags::RESERVED_1 | flags::IF | (self.next() & flags::ARITHMETIC),
        };
        registers.fxsave[..2].copy_from_slice(&0x37F_u16.to_le_bytes());
        registers.fxsave[2..4].copy_from_slice(&((self.below(8) as u16) << 11).to_le_bytes());
        registers.fxsave[4] = self.next() as u8;
        for index in 0..8 {
            let value = self.vector().to_le_bytes();
            registers.fxsave[32 + index * 16..][..10].copy_from_slice(&value[..10]);
        }
        for index in 0..16 {
            let value = self.vector();
            registers.set_xmm(index, value);
            registers.general[index] = match self.below(3) {
                0 => self.below(20).wrapping_sub(2),
                _ => self.vector() as u64,
            };
        }
        registers.set_mxcsr(self.mxcsr());
        registers
    }

    /// ModRM, an immediate and so on after `opcode`; `None` if that is nothing to test.
    pub(super) fn instruction(
        &mut self,
        opcode: &[u8],
        code: Code,
    ) -> Option<(Vec<u8>, Instruction)> {
        let mut bytes = opcode.to_vec();
        // Memory operands are at [RDI].
        let memory = self.below(2) == 0;
        let modrm = self.next() as u8;
        bytes.push(if memory {
            modrm & 0x38 | 7
        } else {
            modrm | 0xC0
        });
        let rex = bytes.iter().position(|byte| byte & 0xF0 == 0x40)?;
        let extension = self.below(8) as u8;
        bytes[rex] |= if memory { extension & 4 } else { extension & 5 };
        bytes.push(self.next() as u8);
        let instruction = decoded(&bytes)?;
        bytes.truncate(instruction.len());
        (instruction.code() == code && !uses_stack_pointer(&instruction))
            .then_some((bytes, instruction))
    }
}

/// The guest: 64-bit code and linear addresses that are physical ones.
pub(super) fn state_of(registers: &Registers) -> State {
    let mut state = State {
        cr4: CR4_OSFXSR | CR4_OSXMMEXCPT,
        ..State::default()
    };
    state.efer = EFER_LMA | EFER_LME;
    state.segments[1].access = 0xA09B;
    state.rip = BASE;
    state.general = registers.general;
    state.rflags = registers.rflags;
    state.mxcsr = registers.mxcsr();
    for index in 0..16 {
        state.xmm[index] = registers.xmm(index);
    }
    let x87 = &mut state.x87;
    x87.status = u16::from_le_bytes([registers.fxsave[2], registers.fxsave[3]]);
    x87.in_use = registers.fxsave[4];
    let top = usize::from(x87.status >> 11 & 7);
    for index in 0..8 {
        let at = &registers.fxsave[32 + index * 16..];
        x87.mantissa[(index + top) & 7] = u64::from_le_bytes(at[..8].try_into().expect("8 bytes"));
        x87.sign_exponent[(index + top) & 7] = u16::from_le_bytes([at[8], at[9]]);
    }
    state
}

/// Puts the instruction and its operands into the guest's memory.
pub(super) fn guest(cpu: &mut Cpu, registers: &Registers, code: &[u8], data: &[u8; DATA_BYTES]) {
    cpu.ram_mut().write(BASE, code);
    cpu.ram_mut().write(DATA, data);
    cpu.memory_written(BASE, RAM_BYTES - BASE);
    cpu.restore(&state_of(registers))
        .expect("a state of this version");
}

/// Where the memory operand goes: sometimes to the very end of memory.
pub(super) fn operand_address(random: &mut Random, instruction: &Instruction) -> u64 {
    let bytes = memory_bytes(instruction).unwrap_or(16).max(1) as u64;
    let aligned = bytes == 16 && !may_be_unaligned(instruction.code());
    if random.below(4) == 0 {
        return RAM_BYTES - bytes;
    }
    let address = DATA + random.below(DATA_BYTES as u64 - 32);
    if aligned { address & !15 } else { address }
}

/// Runs one random case on both; whether the encoding made one, and what differs.
fn compare(
    native: &mut Native,
    cpu: &mut Cpu,
    random: &mut Random,
    (code, opcode): (Code, &[u8]),
) -> Result<bool, String> {
    let Some((bytes, instruction)) = random.instruction(opcode, code) else {
        return Ok(false);
    };
    let mut registers = random.registers();
    registers.general[7] = operand_address(random, &instruction);
    for chunk in native.data().chunks_exact_mut(16) {
        chunk.copy_from_slice(&random.vector().to_le_bytes());
    }
    if instruction.mnemonic() == Mnemonic::Ldmxcsr {
        let at = (registers.general[7] - DATA) as usize;
        let value = random.mxcsr().to_le_bytes();
        native.data()[at..at + 4].copy_from_slice(&value);
    }
    guest(cpu, &registers, &bytes, native.data());
    let before = state_of(&registers);
    native.execute(&bytes, &mut registers);
    let stop = cpu.run(Goal::Instructions(1));
    let difference = difference(cpu, stop, &state_of(&registers), &bytes, native.data());
    difference.map_or(Ok(true), |what| {
        Err(format!(
            "{instruction} ({bytes:02x?}): {what}; before: {before:x?}"
        ))
    })
}

fn difference(
    cpu: &Cpu,
    stop: Stop,
    expected: &State,
    bytes: &[u8],
    data: &[u8; DATA_BYTES],
) -> Option<String> {
    if stop != Stop::Reached || cpu.retired() != 1 {
        return Some(format!("{stop:?}"));
    }
    let mut after = cpu.save();
    if after.rip != BASE + bytes.len() as u64 {
        return Some(format!("RIP is {:#x}", after.rip));
    }
    // Not loaded.
    after.general[4] = expected.general[4];
    for index in 0..16 {
        let (xmm, wanted) = (after.xmm[index], expected.xmm[index]);
        if xmm != wanted {
            return Some(format!("XMM{index} is {xmm:032x}, not {wanted:032x}"));
        }
    }
    let same = after.general == expected.general
        && after.mxcsr == expected.mxcsr
        && after.rflags == expected.rflags
        && after.x87.mantissa == expected.x87.mantissa
        && after.x87.sign_exponent == expected.x87.sign_exponent
        && after.x87.in_use == expected.x87.in_use
        && after.x87.status == expected.x87.status;
    if !same {
        return Some(format!("{after:x?}, not {expected:x?}"));
    }
    let mut memory = [0; DATA_BYTES];
    cpu.ram().read(DATA, &mut memory);
    (&memory != data).then(|| "memory differs".to_owned())
}

#[test]
fn every_instruction_of_the_family_does_what_it_does_on_the_host() {
    let mut native = Native::new();
    let mut cpu = Cpu::new(Ram::owned(RAM_BYTES));
    let mut random = Random(0x5EED);
    let mut differences = Vec::new();
    for (code, opcodes) in encodings() {
        if differs_by_design(code) {
            continue;
        }
        for opcode in opcodes {
            let mut compared = 0;
            for _ in 0..CASES_PER_ENCODING * 50 {
                if compared == CASES_PER_ENCODING {
                    break;
                }
                match compare(&mut native, &mut cpu, &mut random, (code, &opcode)) {
                    Ok(made) => compared += usize::from(made),
                    Err(what) => {
                        differences.push(what);
                        compared = CASES_PER_ENCODING;
                        break;
                    }
                }
            }
            assert_eq!(compared, CASES_PER_ENCODING, "{code:?}");
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Approximations, which differ among processors.
pub(super) fn differs_by_design(code: Code) -> bool {
    matches!(
        code.mnemonic(),
        Mnemonic::Rcpps | Mnemonic::Rcpss | Mnemonic::Rsqrtps | Mnemonic::Rsqrtss
    )
}
