//! A small operating system's tables for tests: GDT, IDT and TSS for 64-bit and for 32-bit mode.
//!
//! Every interrupt has a handler of its own ([`handler`]) that consists of HLT.

use crate::{
    Exit, Goal, Stop,
    cpu::{DescriptorTable, Register, Segment},
    run::Cpu,
    state::State,
    test_support::{CODE, STACK, long_mode_cpu, long_mode_state},
};

pub(crate) const GDT: u64 = 0x5000;
pub(crate) const IDT: u64 = 0x6000;
pub(crate) const TSS: u64 = 0x7000;
pub(crate) const LDT: u64 = 0x8000;
/// RSP0, or ESP0.
pub(crate) const KERNEL_STACK: u64 = 0x28_0008;
/// The first entry of the interrupt stack table.
pub(crate) const INTERRUPT_STACK: u64 = 0x29_0000;
const HANDLERS: u64 = 0x4_0000;

// The order is Linux's, which SYSRET needs.
pub(crate) const KERNEL_CODE: u16 = 0x08;
pub(crate) const KERNEL_DATA: u16 = 0x10;
pub(crate) const USER_CODE_32: u16 = 0x1B;
pub(crate) const USER_DATA: u16 = 0x23;
pub(crate) const USER_CODE: u16 = 0x2B;
pub(crate) const TASK: u16 = 0x30;
pub(crate) const LOCAL_TABLE: u16 = 0x40;
pub(crate) const KERNEL_CODE_32: u16 = 0x50;
/// For tests to fill.
pub(crate) const FREE: u16 = 0x58;
const ENTRIES: usize = 20;

/// A descriptor with a 4 GiB limit (G set), or a byte limit if `access` has no G.
pub(crate) fn descriptor(base: u32, limit: u32, access: u16) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xFFFF
        | (base & 0xFF_FFFF) << 16
        | u64::from(access) << 40
        | (limit & 0xF_0000) << 32
        | (base & 0xFF00_0000) << 32
}

/// Where the handler of a vector is.
pub(crate) fn handler(vector: u8) -> u64 {
    HANDLERS + u64::from(vector) * 16
}

/// A 64-bit gate's two halves.
pub(crate) fn long_gate(kind: u16, dpl: u16, selector: u16, entry: u64, stack: u64) -> [u64; 2] {
    let low = entry & 0xFFFF
        | u64::from(selector) << 16
        | stack << 32
        | u64::from(0x80 | dpl << 5 | kind) << 40
        | (entry >> 16 & 0xFFFF) << 48;
    [low, entry >> 32]
}

/// A 16- or 32-bit gate.
pub(crate) fn gate(kind: u16, dpl: u16, selector: u16, entry: u64) -> u64 {
    long_gate(kind, dpl, selector, entry, 0)[0]
}

pub(crate) fn write_u64(cpu: &mut Cpu, address: u64, value: u64) {
    cpu.ram_mut().write(address, &value.to_le_bytes());
}

pub(crate) fn read_u64(cpu: &Cpu, address: u64) -> u64 {
    cpu.ram().load(address)
}

pub(crate) fn read_u32(cpu: &Cpu, address: u64) -> u32 {
    cpu.ram().load(address)
}

/// Puts a descriptor into the GDT.
pub(crate) fn set_descriptor(cpu: &mut Cpu, selector: u16, value: u64) {
    write_u64(cpu, GDT + u64::from(selector & !7), value);
}

/// Puts a gate into a 64-bit IDT.
pub(crate) fn set_gate(cpu: &mut Cpu, vector: u8, halves: [u64; 2]) {
    write_u64(cpu, IDT + u64::from(vector) * 16, halves[0]);
    write_u64(cpu, IDT + u64::from(vector) * 16 + 8, halves[1]);
}

fn write_descriptors(cpu: &mut Cpu, long: bool) {
    let code = if long { 0xA09B } else { 0xC09B };
    for (selector, access) in [
        (KERNEL_CODE, code),
        (KERNEL_DATA, 0xC093),
        (USER_CODE_32, 0xC0FB),
        (USER_DATA, 0xC0F3),
        (USER_CODE, code | 0x60),
        (KERNEL_CODE_32, 0xC09B),
    ] {
        set_descriptor(cpu, selector, descriptor(0, 0xF_FFFF, access));
    }
    set_descriptor(cpu, TASK, descriptor(TSS as u32, 0x67 + 0x2001, 0x89));
    set_descriptor(cpu, LOCAL_TABLE, descriptor(LDT as u32, 0xFFF, 0x82));
    for vector in 0..=255 {
        cpu.ram_mut().write(handler(vector), &[0xF4]);
    }
}

fn with_tables(state: State, idt_bytes: u16) -> State {
    State {
        gdtr: DescriptorTable {
            base: GDT,
            limit: (ENTRIES * 8 - 1) as u16,
        },
        idtr: DescriptorTable {
            base: IDT,
            limit: idt_bytes - 1,
        },
        tr: Segment {
            selector: TASK,
            base: TSS,
            limit: 0x67 + 0x2001,
            access: 0x8B,
        },
        ..state
    }
}

/// 64-bit mode, CPL 0, with tables. Vectors 3, 4 and 0x80 can be reached from CPL 3; vector 8 has an interrupt stack.
pub(crate) fn long_system(code: &[u8]) -> Cpu {
    let mut cpu = long_mode_cpu(code);
    write_descriptors(&mut cpu, true);
    for vector in 0..=255 {
        let dpl = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let stack = u64::from(vector == 8);
        let halves = long_gate(14, dpl, KERNEL_CODE, handler(vector), stack);
        set_gate(&mut cpu, vector, halves);
    }
    write_u64(&mut cpu, TSS + 4, KERNEL_STACK);
    write_u64(&mut cpu, TSS + 36, INTERRUPT_STACK);
    let mut state = with_tables(long_mode_state(), 4096);
    state.segments = kernel_segments(0xA09B);
    state.segments[2].selector = KERNEL_DATA;
    cpu.restore(&state).expect("this version's state");
    cpu
}

/// 32-bit protected mode without paging, CPL 0, with tables like [`long_system`]'s.
pub(crate) fn protected_system(code: &[u8]) -> Cpu {
    let mut cpu = long_mode_cpu(code);
    write_descriptors(&mut cpu, false);
    for vector in 0..=255_u8 {
        let dpl = if matches!(vector, 3 | 4 | 0x80) { 3 } else { 0 };
        let value = gate(14, dpl, KERNEL_CODE, handler(vector));
        write_u64(&mut cpu, IDT + u64::from(vector) * 8, value);
    }
    write_u64(
        &mut cpu,
        TSS + 4,
        KERNEL_STACK | u64::from(KERNEL_DATA) << 32,
    );
    let mut state = with_tables(State::default(), 2048);
    state.segments = kernel_segments(0xC09B);
    state.rip = CODE;
    state.general[4] = STACK;
    cpu.restore(&state).expect("this version's state");
    cpu
}

fn flat(selector: u16, access: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        access,
    }
}

fn kernel_segments(code: u16) -> [Segment; 6] {
    let mut segments = [flat(KERNEL_DATA, 0xC093); 6];
    segments[1] = flat(KERNEL_CODE, code);
    segments
}

/// Changes the state in one go.
pub(crate) fn change(cpu: &mut Cpu, edit: impl FnOnce(&mut State)) {
    let mut state = cpu.save();
    edit(&mut state);
    cpu.restore(&state).expect("this version's state");
}

/// Goes to CPL 3, in 64-bit code if the kernel's is, with the same stack pointer.
pub(crate) fn enter_user(cpu: &mut Cpu) {
    change(cpu, |state| {
        let code = state.segments[1].access | 0x60;
        state.segments = [flat(USER_DATA, 0xC0F3); 6];
        state.segments[1] = flat(USER_CODE, code);
    });
}

/// Goes to CPL 3 in compatibility mode.
pub(crate) fn enter_compatibility(cpu: &mut Cpu) {
    change(cpu, |state| {
        state.segments = [flat(USER_DATA, 0xC0F3); 6];
        state.segments[1] = flat(USER_CODE_32, 0xC0FB);
    });
}

/// Executes one instruction.
pub(crate) fn step(cpu: &mut Cpu) -> State {
    let goal = Goal::Instructions(cpu.instructions() + 1);
    assert_eq!(cpu.run(goal), Stop::Reached);
    cpu.save()
}

/// Runs until a handler's HLT: returns the state there and which vector it was.
///
/// # Panics
/// If something else comes first.
pub(crate) fn run_to_handler(cpu: &mut Cpu) -> (State, u8) {
    let stop = cpu.run(Goal::Instructions(cpu.instructions() + 1000));
    assert_eq!(stop, Stop::Exit(Exit::Halt), "at {:#x}", cpu.save().rip);
    let state = cpu.save();
    let vector = (state.rip - 1).wrapping_sub(HANDLERS) / 16;
    assert_eq!(
        state.rip - 1,
        handler(vector as u8),
        "HLT outside of a handler"
    );
    (state, vector as u8)
}

/// The `count` 64-bit words on top of a stack.
pub(crate) fn words(cpu: &Cpu, state: &State, count: u64) -> Vec<u64> {
    let top = state.general[Register::Rsp as usize];
    (0..count)
        .map(|index| read_u64(cpu, top + index * 8))
        .collect()
}

/// The `count` 32-bit words on top of a stack.
pub(crate) fn narrow_words(cpu: &Cpu, state: &State, count: u64) -> Vec<u32> {
    let top = state.general[Register::Rsp as usize];
    (0..count)
        .map(|index| read_u32(cpu, top + index * 4))
        .collect()
}
