//! This family against the real processor: results and all six arithmetic flags, the undefined ones too.

mod against_hardware;
mod faults;
mod legacy;

use iced_x86::RflagsBits;

use crate::{
    cpu::Core,
    decode::{
        op::Op,
        translate::{Decoded, decode},
    },
    exit::{Goal, Stop},
    flags::{AF, ARITHMETIC, CF, DF, OF, PF, SF, ZF},
    isa::integer::test_native::{DATA_BYTES, Native, Registers},
    run::Cpu,
    test_support::{CODE, DATA, long_mode_cpu},
};

/// Where the pointers point in the data.
const MIDDLE: u64 = 128;

/// A deterministic source of operands (xorshift64*).
pub(crate) struct Operands(u64);

impl Operands {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Often a corner of some width, else anything.
    pub(crate) fn interesting(&mut self) -> u64 {
        let choice = self.next();
        let bit = 1_u64 << (choice >> 8 & 63);
        match choice % 10 {
            0 => 0,
            1 => u64::MAX,
            2 => bit,
            3 => bit.wrapping_sub(1),
            4 => bit.wrapping_neg(),
            5 => choice >> 16 & 0xFF,
            6 => 0x8000_0000_8080_8080 ^ (choice >> 16 & 3),
            7 => 0x7FFF_FFFF_7FFF_7F7F,
            _ => self.next(),
        }
    }

    /// Registers full of them, RSP excepted, and any arithmetic flags.
    pub(crate) fn registers(&mut self) -> Registers {
        let mut registers = Registers::default();
        for register in &mut registers.general {
            *register = self.interesting();
        }
        registers.flags = self.next() & ARITHMETIC | 2;
        registers
    }
}

/// One instruction on both processors.
pub(crate) struct Pair {
    name: String,
    cpu: Cpu,
    native: Native,
    /// Registers that are made to point to the middle of the data.
    pub(crate) pointers: Vec<usize>,
    /// How far they may point beyond it, bytes.
    pub(crate) spread: u64,
    /// Units of the clock that the software CPU does at a time.
    pub(crate) units: u64,
    /// Flags to compare. What is undefined is ours as on AMD's processors.
    flags: u64,
}

/// The operation that an instruction decodes to.
fn operation(core: &Core, code: &[u8]) -> Op {
    // The decoder asks for more bytes before it finds that some are no instruction.
    let padded = [code, &[0x90; 8]].concat();
    let Decoded::Op(op, _) = decode(&padded, CODE, 0, core.code_size) else {
        panic!("{code:x?} is a whole instruction");
    };
    op
}

/// Whether the processor that the tests run on is AMD's.
pub(crate) fn is_amd() -> bool {
    // "Auth"
    std::arch::x86_64::__cpuid(0).ebx == 0x6874_7541
}

/// Flags that an instruction leaves defined, or all on the processors that the undefined ones were taken from.
fn comparable_flags(code: &[u8]) -> u64 {
    if is_amd() {
        return ARITHMETIC | DF;
    }
    let bits = iced_x86::Decoder::new(64, code, 0)
        .decode()
        .rflags_undefined();
    let undefined = [
        (RflagsBits::OF, OF),
        (RflagsBits::SF, SF),
        (RflagsBits::ZF, ZF),
        (RflagsBits::AF, AF),
        (RflagsBits::PF, PF),
        (RflagsBits::CF, CF),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .fold(0, |mask, (_, flag)| mask | flag);
    (ARITHMETIC | DF) & !undefined
}

impl Pair {
    pub(crate) fn new(name: &str, code: &[u8]) -> Self {
        let mut native = Native::new();
        native.assemble(code);
        Self {
            name: name.to_owned(),
            // More units than the instruction needs go to what does nothing.
            cpu: long_mode_cpu(&[code, &[0x90; 64]].concat()),
            native,
            pointers: vec![6, 7],
            spread: 1,
            units: 1,
            flags: comparable_flags(code),
        }
    }

    /// Compares for these registers and this content of the buffer.
    pub(crate) fn compare(&mut self, mut registers: Registers, content: &[u8; DATA_BYTES]) {
        self.native.write_data(content);
        self.cpu.ram_mut().write(DATA, content);
        registers.general[4] = 0;
        let real = self.run_real(registers);
        let soft = self.run_soft(registers);
        let name = &self.name;
        assert_eq!(
            soft.general, real.general,
            "{name} with {registers:x?}: registers"
        );
        let shown = |flags: u64| format!("{:#x}", flags & self.flags);
        assert_eq!(
            shown(soft.flags),
            shown(real.flags),
            "{name} with {registers:x?}: flags"
        );
        let mut memory = [0; DATA_BYTES];
        self.cpu.ram().read(DATA, &mut memory);
        let expected = self.native.read_data();
        assert!(
            memory == expected,
            "{name} with {registers:x?}: memory {memory:x?} rather than {expected:x?}"
        );
    }

    fn run_real(&self, mut registers: Registers) -> Registers {
        let middle = self.native.data_address() + MIDDLE;
        for &index in &self.pointers {
            registers.general[index] = middle + registers.general[index] % self.spread;
        }
        self.native.execute(&mut registers);
        for &index in &self.pointers {
            registers.general[index] = registers.general[index].wrapping_sub(middle);
        }
        registers
    }

    fn run_soft(&mut self, mut registers: Registers) -> Registers {
        let middle = DATA + MIDDLE;
        for &index in &self.pointers {
            registers.general[index] = middle + registers.general[index] % self.spread;
        }
        let core = &mut self.cpu.core;
        core.general[..16].copy_from_slice(&registers.general);
        core.flags.set(registers.flags);
        core.rip = CODE;
        while self.cpu.core.rip == CODE {
            let goal = Goal::Instructions(self.cpu.instructions() + self.units);
            assert_eq!(self.cpu.run(goal), Stop::Reached, "{}", self.name);
        }
        let core = &self.cpu.core;
        registers.general.copy_from_slice(&core.general[..16]);
        registers.flags = core.flags.get();
        for &index in &self.pointers {
            registers.general[index] = registers.general[index].wrapping_sub(middle);
        }
        registers
    }

    /// Compares for many operands, which `adjust` can change.
    pub(crate) fn compare_many(&mut self, cases: u32, adjust: impl Fn(&mut Registers)) {
        let seed = self.name.bytes().fold(7, |seed: u64, byte| {
            seed.wrapping_mul(131) + u64::from(byte)
        });
        let mut operands = Operands::new(seed);
        for _ in 0..cases {
            let mut registers = operands.registers();
            adjust(&mut registers);
            let mut content = [0; DATA_BYTES];
            for chunk in content.chunks_exact_mut(8) {
                chunk.copy_from_slice(&operands.interesting().to_le_bytes());
            }
            // Often the very value that a comparison is looking for.
            if operands.next().is_multiple_of(2) {
                content[MIDDLE as usize..][..8]
                    .copy_from_slice(&registers.general[0].to_le_bytes());
                content[MIDDLE as usize + 8..][..8]
                    .copy_from_slice(&registers.general[2].to_le_bytes());
            }
            self.compare(registers, &content);
        }
    }
}
