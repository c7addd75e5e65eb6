//! What a state carries besides registers: what waits for one more instruction, and exits in progress.

use iced_x86::code_asm::*;

use crate::{
    exit::{Exit, Goal, Reply, Stop},
    memory::ram::Ram,
    run::Cpu,
    test_support::{DATA, assemble, long_mode_cpu},
};

/// Mapped, and not memory.
const DEVICE: u64 = 0x1000_0000;

/// Another processor in the same state, on a copy of the memory.
fn continued(cpu: &Cpu) -> Cpu {
    let mut bytes = vec![0; cpu.ram().bytes() as usize];
    cpu.ram().read(0, &mut bytes);
    let mut ram = Ram::owned(bytes.len() as u64);
    ram.write(0, &bytes);
    let mut other = Cpu::new(ram);
    other.restore(&cpu.save()).expect("this version's state");
    other
}

#[test]
fn what_waits_for_one_more_instruction_after_sti_waits_after_a_restore() {
    let code = assemble(|a| {
        a.sti()?;
        a.nop()?;
        a.nop()
    });
    let mut cpu = long_mode_cpu(&code);
    cpu.run(Goal::Instructions(1));
    let mut other = continued(&cpu);
    assert!(!other.accepts_interrupts());
    assert_eq!(other.run(Goal::Interruptible { limit: 3 }), Stop::Reached);
    assert_eq!(other.instructions(), 2);
    assert!(other.accepts_interrupts());
}

#[test]
fn an_exit_that_nobody_answered_yet_is_answered_after_a_restore() {
    let mut cpu = long_mode_cpu(&assemble(|a| a.in_(al, 0x60)));
    let asked = Stop::Exit(Exit::PortRead {
        port: 0x60,
        width: 1,
    });
    assert_eq!(cpu.run(Goal::Exit), asked);
    let mut other = continued(&cpu);
    other.reply(Reply::Port(7));
    assert_eq!(other.save().general[0], 7);
}

/// An access of 16 bytes is two exits: it is saved before, between and after their answers.
#[test]
fn an_instruction_whose_accesses_are_half_answered_goes_on_after_a_restore() {
    let code = assemble(|a| {
        a.movups(xmm0, xmmword_ptr(DEVICE as i32))?;
        a.movups(xmmword_ptr(DATA as i32), xmm0)
    });
    let asked = |address| Stop::Exit(Exit::MmioRead { address, width: 8 });
    let mut cpu = long_mode_cpu(&code);
    assert_eq!(cpu.run(Goal::Exit), asked(DEVICE));
    let mut cpu = continued(&cpu);
    cpu.reply(Reply::Mmio([1; 8]));
    let mut cpu = continued(&cpu);
    assert_eq!(cpu.run(Goal::Instructions(1)), asked(DEVICE + 8));
    let mut cpu = continued(&cpu);
    cpu.reply(Reply::Mmio([2; 8]));
    let mut cpu = continued(&cpu);
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    let mut stored = [0; 16];
    cpu.ram().read(DATA, &mut stored);
    assert_eq!((&stored[..8], &stored[8..]), (&[1; 8][..], &[2; 8][..]));
}
