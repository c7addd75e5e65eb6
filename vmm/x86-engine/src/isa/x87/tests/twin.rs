//! The same code on both processors.

use super::{
    generator::Generator,
    native::{self, PAGE, Registers},
};
use crate::{
    exit::{Goal, Stop},
    flags::ARITHMETIC,
    run::Cpu,
    test_support::{CODE, DATA, long_mode_cpu, long_mode_state},
};

/// Where in the data page the state is loaded from.
pub(super) const BEFORE: usize = 0x400;
/// Where the state is saved to.
pub(super) const AFTER: usize = 0x800;
/// FXRSTOR64 [RDX].
const LOAD: [u8; 4] = [0x48, 0x0F, 0xAE, 0x0A];
/// FXSAVE64 [RSI].
const SAVE: [u8; 4] = [0x48, 0x0F, 0xAE, 0x06];

/// Everything that a run begins and ends with.
#[derive(Clone)]
pub(super) struct Situation {
    pub(super) data: [u8; PAGE],
    pub(super) registers: Registers,
}

impl Situation {
    /// RDI points to an operand, RDX to the image of FXRSTOR64 and RSI to that of FXSAVE64.
    pub(super) fn new(generator: &mut Generator, image: &[u8; 512]) -> Self {
        let mut data = [0; PAGE];
        for place in data[..BEFORE].as_chunks_mut().0 {
            *place = generator.operand();
        }
        data[BEFORE..BEFORE + 512].copy_from_slice(image);
        Self {
            data,
            registers: Registers {
                rax: generator.next(),
                rdx: DATA + BEFORE as u64,
                rsi: DATA + AFTER as u64,
                rdi: DATA,
                flags: generator.next() & ARITHMETIC,
            },
        }
    }

    /// The state that was saved.
    pub(super) fn image(&self) -> &[u8; 512] {
        self.data[AFTER..].first_chunk().expect("it lies inside")
    }

    pub(super) fn status(&self) -> u16 {
        u16::from_le_bytes([self.image()[2], self.image()[3]])
    }
}

/// Loads the state, executes `instruction`, saves the state.
pub(super) fn wrapped(instruction: &[u8]) -> Vec<u8> {
    [&LOAD, instruction, &SAVE].concat()
}

/// Runs code on the processor that runs the test.
pub(super) fn on_hardware(code: &[u8], situation: &Situation) -> Situation {
    let mut after = situation.clone();
    let mut pages = native::pages();
    let pages = pages.as_mut().expect("mapped by `pages`");
    after.registers = pages.run(code, &mut after.data, situation.registers);
    after
}

/// The software processor, made once for many runs.
pub(super) struct Software(Cpu);

impl Software {
    pub(super) fn new() -> Self {
        Self(long_mode_cpu(&[]))
    }

    /// Runs `instructions` instructions of code.
    pub(super) fn run(
        &mut self,
        code: &[u8],
        situation: &Situation,
        instructions: u64,
    ) -> Result<Situation, Stop> {
        let cpu = &mut self.0;
        cpu.ram_mut().write(CODE, code);
        cpu.ram_mut().write(DATA, &situation.data);
        let mut state = long_mode_state();
        state.general[0] = situation.registers.rax;
        state.general[2] = situation.registers.rdx;
        state.general[6] = situation.registers.rsi;
        state.general[7] = situation.registers.rdi;
        state.rflags |= situation.registers.flags;
        state.cr4 |= crate::cpu::CR4_OSXSAVE;
        state.xcr0 = 3;
        cpu.restore(&state).expect("this version's state");
        let stop = cpu.run(Goal::Instructions(instructions));
        let after = cpu.save();
        if stop != Stop::Reached || after.rip != CODE + code.len() as u64 {
            return Err(stop);
        }
        let mut situation = situation.clone();
        cpu.ram().read(DATA, &mut situation.data);
        situation.registers = Registers {
            rax: after.general[0],
            rdx: after.general[2],
            rsi: after.general[6],
            rdi: after.general[7],
            flags: after.rflags & ARITHMETIC,
        };
        Ok(situation)
    }
}
