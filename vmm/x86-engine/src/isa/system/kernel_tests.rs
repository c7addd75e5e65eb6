//! A kernel of a few dozen instructions: demand paging, system calls that copy from user memory under SMEP and SMAP, a tick.
//!
//! Wherever the tick comes, and wherever the processor is saved and restored, the rest is the same.

use iced_x86::{IcedError, code_asm::*};

use crate::{
    Exit, Goal, Ram, Reply, Stop,
    cpu::{CR0_WP, CR4_SMAP, CR4_SMEP},
    flags::{AC, IF},
    isa::system::test_support::*,
    run::Cpu,
    state::State,
    test_support::{CODE, STACK},
};

const USER: u64 = 0x20_0000;
const USER_PAGES: u64 = 0x21_0000;
const PAGES: u64 = 5;
const DIRECTORY: u64 = 0x3000;
const PAGE_TABLE: u64 = 0x4000;
/// Where the kernel counts page faults, ticks, and sums up what it was told.
const FAULTS: u64 = 0xF000;
const TICKS: u64 = 0xF008;
const SUM: u64 = 0xF010;
const TICK: u8 = 0x20;
const MEMORY_BYTES: u64 = 8 << 20;

fn assembled(at: u64, write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).expect("64 bits are possible");
    write(&mut assembler).expect("valid operands");
    assembler.assemble(at).expect("valid code")
}

/// Maps the page that is missing.
fn page_fault_handler() -> Vec<u8> {
    assembled(CODE + 0x100, |a| {
        a.push(rax)?;
        a.push(rdx)?;
        a.mov(rax, cr2)?;
        a.and(rax, -4096)?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 12)?;
        a.and(rdx, 0x1FF)?;
        a.or(rax, 7)?;
        a.mov(qword_ptr(PAGE_TABLE) + rdx * 8, rax)?;
        a.inc(qword_ptr(FAULTS))?;
        a.pop(rdx)?;
        a.pop(rax)?;
        a.add(rsp, 8)?;
        a.iretq()
    })
}

fn tick_handler() -> Vec<u8> {
    assembled(CODE + 0x200, |a| {
        a.inc(qword_ptr(TICKS))?;
        a.iretq()
    })
}

/// EAX 1: adds the word at RDI to the sum. EAX 2: halts.
fn system_call_handler() -> Vec<u8> {
    assembled(CODE + 0x300, |a| {
        let mut halt = a.create_label();
        a.mov(rbx, rsp)?;
        a.mov(rsp, KERNEL_STACK & !15)?;
        a.push(rcx)?;
        a.push(r11)?;
        a.sti()?;
        a.cmp(eax, 2)?;
        a.je(halt)?;
        a.stac()?;
        a.mov(rax, qword_ptr(rdi))?;
        a.clac()?;
        a.add(qword_ptr(SUM), rax)?;
        a.cli()?;
        a.pop(r11)?;
        a.pop(rcx)?;
        a.mov(rsp, rbx)?;
        a.sysretq()?;
        a.set_label(&mut halt)?;
        a.hlt()
    })
}

fn user_program() -> Vec<u8> {
    assembled(USER, |a| {
        let mut next = a.create_label();
        a.mov(rdi, USER_PAGES)?;
        a.mov(r12, PAGES)?;
        a.set_label(&mut next)?;
        a.push(r12)?;
        a.pop(r13)?;
        a.mov(qword_ptr(rdi), r13)?;
        a.mov(eax, 1)?;
        a.syscall()?;
        a.add(rdi, 4096)?;
        a.dec(r12)?;
        a.jnz(next)?;
        a.mov(eax, 2)?;
        a.syscall()
    })
}

/// At the first instruction of the user's program.
fn booted() -> Cpu {
    let mut cpu = long_system(&[]);
    for (address, value) in [
        (0x2000, DIRECTORY | 7),
        (DIRECTORY, 0x83),
        (DIRECTORY + 8, PAGE_TABLE | 7),
    ] {
        write_u64(&mut cpu, address, value);
    }
    for (page, rights) in [(USER, 5), (STACK - 4096, 7), (KERNEL_STACK & !4095, 3)] {
        let index = page >> 12 & 0x1FF;
        write_u64(&mut cpu, PAGE_TABLE + index * 8, page | rights);
    }
    // The stack of CPL 0 begins just below a page's start.
    let below = (KERNEL_STACK & !4095) - 4096;
    write_u64(&mut cpu, PAGE_TABLE + (below >> 12 & 0x1FF) * 8, below | 3);
    for (at, code) in [
        (CODE + 0x100, page_fault_handler()),
        (CODE + 0x200, tick_handler()),
        (CODE + 0x300, system_call_handler()),
        (USER, user_program()),
    ] {
        cpu.ram_mut().write(at, &code);
    }
    set_gate(&mut cpu, 14, long_gate(14, 0, KERNEL_CODE, CODE + 0x100, 0));
    set_gate(
        &mut cpu,
        TICK,
        long_gate(14, 0, KERNEL_CODE, CODE + 0x200, 0),
    );
    enter_user(&mut cpu);
    change(&mut cpu, |state| {
        state.rip = USER;
        state.rflags |= IF;
        state.cr0 |= CR0_WP;
        state.cr4 |= CR4_SMEP | CR4_SMAP;
        state.msrs.star = 0x001B_0008_0000_0000;
        state.msrs.lstar = CODE + 0x300;
        state.msrs.fmask = IF | AC;
    });
    cpu
}

fn memory(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; MEMORY_BYTES as usize];
    cpu.ram().read(0, &mut bytes);
    bytes
}

/// The same processor and memory, without anything cached.
fn moved(cpu: &Cpu) -> Cpu {
    let mut other = Cpu::new(Ram::owned(MEMORY_BYTES));
    other.ram_mut().write(0, &memory(cpu));
    other.restore(&cpu.save()).expect("this version's state");
    other
}

/// The state at the end, without the counter of instructions, and that counter.
fn finished(cpu: &mut Cpu) -> (State, u64) {
    assert_eq!(cpu.run(Goal::Instructions(10_000)), Stop::Exit(Exit::Halt));
    cpu.reply(Reply::None);
    let state = cpu.save();
    assert_eq!(read_u64(cpu, FAULTS), PAGES);
    assert_eq!(read_u64(cpu, SUM), PAGES * (PAGES + 1) / 2);
    (
        State {
            retired: 0,
            ..state
        },
        cpu.retired(),
    )
}

#[test]
fn a_tick_anywhere_changes_nothing_else() {
    let mut undisturbed = booted();
    let (end, instructions) = finished(&mut undisturbed);
    let mut ticks = 0;
    for point in 0..instructions {
        let mut cpu = booted();
        assert_eq!(cpu.run(Goal::Instructions(point)), Stop::Reached);
        let limit = point + 100;
        if cpu.run(Goal::Interruptible { limit }) != Stop::Reached {
            // The last system call's STI keeps interrupts out to the end.
            continue;
        }
        let mut cpu = moved(&cpu);
        cpu.interrupt(TICK);
        let (state, retired) = finished(&mut cpu);
        assert_eq!(state, end, "a tick after {point} instructions");
        assert_eq!(retired, instructions + 2);
        assert_eq!(read_u64(&cpu, TICKS), 1);
        ticks += 1;
    }
    assert!(ticks + 10 > instructions, "{ticks} of {instructions}");
}

#[test]
fn saved_and_restored_anywhere_it_ends_the_same() {
    let mut undisturbed = booted();
    let (end, instructions) = finished(&mut undisturbed);
    let expected = memory(&undisturbed);
    for point in (0..instructions).step_by(3) {
        let mut cpu = booted();
        assert_eq!(cpu.run(Goal::Instructions(point)), Stop::Reached);
        let mut cpu = moved(&cpu);
        assert_eq!(finished(&mut cpu), (end.clone(), instructions));
        assert!(memory(&cpu) == expected, "moved after {point} instructions");
    }
}
