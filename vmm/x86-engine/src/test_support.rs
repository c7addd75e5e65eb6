//! What the tests of all families share.

use iced_x86::code_asm::CodeAssembler;

use crate::{
    cpu::{CR0_PG, CR4_PAE, EFER_LMA, EFER_LME, Segment},
    memory::ram::Ram,
    run::Cpu,
    state::State,
};

/// Where code goes.
pub(crate) const CODE: u64 = 0x10_0000;
/// Some memory for data.
pub(crate) const DATA: u64 = 0x20_0000;
/// Where the stack begins, downwards.
pub(crate) const STACK: u64 = 0x30_0000;
const MEMORY_BYTES: u64 = 8 << 20;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;

/// A state in 64-bit mode at CPL 0, interrupts off, with 1 GiB mapped one to one once [`long_mode_cpu`] wrote the tables.
pub(crate) fn long_mode_state() -> State {
    let mut state = State::default();
    state.segments[1] = Segment {
        access: 0xA09B,
        ..state.segments[1]
    };
    state.cr0 |= CR0_PG;
    state.cr3 = PML4;
    state.cr4 = CR4_PAE | 1 << 9 | 1 << 10;
    state.efer = EFER_LME | EFER_LMA | 1;
    state.rip = CODE;
    state.general[4] = STACK;
    state
}

/// A CPU in [`long_mode_state`] with `code` at [`CODE`].
pub(crate) fn long_mode_cpu(code: &[u8]) -> Cpu {
    let mut cpu = Cpu::new(Ram::owned(MEMORY_BYTES));
    let ram = cpu.ram_mut();
    ram.write(PML4, &(PDPT | 7).to_le_bytes());
    ram.write(PDPT, &0x87_u64.to_le_bytes());
    ram.write(CODE, code);
    cpu.restore(&long_mode_state())
        .expect("this version's state");
    cpu
}

/// Assembles 64-bit code for [`CODE`].
pub(crate) fn assemble(
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>,
) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).expect("64 bits are possible");
    write(&mut assembler).expect("valid operands");
    assembler.assemble(CODE).expect("valid code")
}
