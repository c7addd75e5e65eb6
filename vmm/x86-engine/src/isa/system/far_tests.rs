use crate::{
    cpu::Segment,
    isa::system::test_support::*,
    run::Cpu,
    test_support::{CODE, DATA, STACK},
};

const TARGET: u64 = CODE + 0x400;
/// jmp far [rdi] with a 32-bit offset; call far [rdi] with one of 64 bits.
const JUMP: [u8; 2] = [0xFF, 0x2F];
const CALL: [u8; 3] = [0x48, 0xFF, 0x1F];
const RETFQ: [u8; 2] = [0x48, 0xCB];

fn set_pointer(cpu: &mut Cpu, width: u64, offset: u64, selector: u16) {
    cpu.ram_mut().write(DATA, &offset.to_le_bytes());
    cpu.ram_mut().write(DATA + width, &selector.to_le_bytes());
    change(cpu, |state| state.general[7] = DATA);
}

fn jump(selector: u16) -> Cpu {
    let mut cpu = long_system(&JUMP);
    set_pointer(&mut cpu, 4, TARGET, selector);
    cpu
}

fn call(selector: u16) -> Cpu {
    let mut cpu = long_system(&CALL);
    set_pointer(&mut cpu, 8, TARGET, selector);
    cpu
}

fn refused(mut cpu: Cpu) -> (u8, u64) {
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(words(&cpu, &state, 2)[1], CODE);
    (vector, words(&cpu, &state, 1)[0])
}

/// A 64-bit call gate at FREE.
fn set_call_gate(cpu: &mut Cpu, dpl: u16, selector: u16) {
    let [low, high] = long_gate(12, dpl, selector, TARGET, 0);
    set_descriptor(cpu, FREE, low);
    set_descriptor(cpu, FREE + 8, high);
}

#[test]
fn a_jump_loads_code_of_the_same_privilege() {
    let mut cpu = jump(KERNEL_CODE_32);
    let state = step(&mut cpu);
    assert_eq!(state.rip, TARGET);
    assert_eq!(state.segments[1].access, 0xC09B);
    assert_eq!(state.segments[1].selector, KERNEL_CODE_32);
}

#[test]
fn a_jump_is_checked() {
    assert_eq!(refused(jump(0)), (13, 0));
    assert_eq!(refused(jump(KERNEL_DATA)), (13, 0x10));
    assert_eq!(refused(jump(USER_CODE)), (13, 0x28));
    assert_eq!(refused(jump(KERNEL_CODE | 3)), (13, 0x08));
    // Tasks are not switched.
    assert_eq!(refused(jump(TASK)), (13, u64::from(TASK)));
    let mut cpu = jump(FREE);
    set_descriptor(&mut cpu, FREE, descriptor(0, 0xF_FFFF, 0xE09B));
    assert_eq!(refused(cpu), (13, u64::from(FREE)));
    let mut cpu = jump(FREE);
    set_descriptor(&mut cpu, FREE, descriptor(0, 0xF_FFFF, 0xA01B));
    assert_eq!(refused(cpu), (11, u64::from(FREE)));
    let mut cpu = jump(FREE);
    set_descriptor(&mut cpu, FREE, descriptor(0, 0xFFFF, 0x409B));
    assert_eq!(refused(cpu), (13, 0));
}

#[test]
fn conforming_code_keeps_the_privilege() {
    let mut cpu = jump(FREE | 3);
    set_descriptor(&mut cpu, FREE, descriptor(0, 0xF_FFFF, 0xA09F));
    enter_user(&mut cpu);
    let state = step(&mut cpu);
    assert_eq!(state.segments[1].selector, FREE | 3);
    assert_eq!(state.segments[2].selector, USER_DATA);
    assert_eq!(state.rip, TARGET);
}

#[test]
fn a_call_pushes_and_a_return_pops() {
    let mut cpu = call(KERNEL_CODE);
    cpu.ram_mut().write(TARGET, &RETFQ);
    let state = step(&mut cpu);
    assert_eq!(state.rip, TARGET);
    assert_eq!(words(&cpu, &state, 2), [CODE + 3, 0x08]);
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (CODE + 3, STACK));
}

#[test]
fn a_call_gate_leads_inward_and_a_return_outward() {
    let mut cpu = call(FREE | 3);
    set_call_gate(&mut cpu, 3, KERNEL_CODE);
    cpu.ram_mut().write(TARGET, &RETFQ);
    enter_user(&mut cpu);
    let state = step(&mut cpu);
    assert_eq!(state.rip, TARGET);
    assert_eq!(state.segments[1].selector, KERNEL_CODE);
    assert_eq!(state.segments[2], Segment::default());
    // Not aligned, unlike interrupts.
    assert_eq!(state.general[4], KERNEL_STACK - 32);
    assert_eq!(words(&cpu, &state, 4), [CODE + 3, 0x2B, STACK, 0x23]);
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (CODE + 3, STACK));
    assert_eq!(state.segments[1].selector, USER_CODE);
    assert_eq!(state.segments[2].selector, USER_DATA);
    // The user's own data segments stay.
    assert_eq!(state.segments[3].selector, USER_DATA);
}

#[test]
fn call_gates_are_checked() {
    let error = u64::from(FREE);
    let mut cpu = call(FREE | 3);
    set_call_gate(&mut cpu, 0, KERNEL_CODE);
    enter_user(&mut cpu);
    assert_eq!(refused(cpu), (13, error));
    let mut cpu = call(FREE);
    set_call_gate(&mut cpu, 0, KERNEL_CODE_32);
    assert_eq!(refused(cpu), (13, u64::from(KERNEL_CODE_32)));
    let mut cpu = call(FREE);
    set_call_gate(&mut cpu, 0, KERNEL_CODE);
    set_descriptor(&mut cpu, FREE + 8, 0x0100 << 32);
    assert_eq!(refused(cpu), (13, error));
    // A jump does not change the privilege.
    let mut cpu = jump(FREE | 3);
    set_call_gate(&mut cpu, 3, KERNEL_CODE);
    enter_user(&mut cpu);
    assert_eq!(refused(cpu), (13, u64::from(KERNEL_CODE)));
}

#[test]
fn a_jump_through_a_gate_of_the_same_privilege() {
    let mut cpu = jump(FREE);
    set_call_gate(&mut cpu, 0, KERNEL_CODE);
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (TARGET, STACK));
}

#[test]
fn returns_drop_parameters_from_both_stacks() {
    // retfq 16
    let mut cpu = long_system(&[0x48, 0xCA, 16, 0]);
    for (index, value) in [TARGET, 0x2B, 1, 2, DATA, 0x23].into_iter().enumerate() {
        write_u64(&mut cpu, STACK + index as u64 * 8, value);
    }
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (TARGET, DATA + 16));
    assert_eq!(state.segments[3].selector, 0);
    let mut cpu = long_system(&[0x48, 0xCA, 16, 0]);
    for (index, value) in [TARGET, 0x08].into_iter().enumerate() {
        write_u64(&mut cpu, STACK + index as u64 * 8, value);
    }
    assert_eq!(step(&mut cpu).general[4], STACK + 32);
}

#[test]
fn a_return_inward_is_refused() {
    let mut cpu = long_system(&RETFQ);
    for (index, value) in [TARGET, 0x08].into_iter().enumerate() {
        write_u64(&mut cpu, STACK + index as u64 * 8, value);
    }
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, words(&cpu, &state, 1)[0]), (13, 0x08));
}

#[test]
fn protected_mode_gates_copy_parameters() {
    // call far FREE:0
    let mut cpu = protected_system(&[0x9A, 0, 0, 0, 0, FREE as u8 | 3, 0]);
    set_descriptor(&mut cpu, FREE, gate(12, 3, KERNEL_CODE, TARGET) | 2 << 32);
    for (index, value) in [0x1111_u32, 0x2222].into_iter().enumerate() {
        cpu.ram_mut()
            .write(STACK + index as u64 * 4, &value.to_le_bytes());
    }
    // retf 8
    cpu.ram_mut().write(TARGET, &[0xCA, 8, 0]);
    enter_user(&mut cpu);
    let state = step(&mut cpu);
    assert_eq!(state.rip, TARGET);
    assert_eq!(state.general[4], KERNEL_STACK - 24);
    assert_eq!(
        narrow_words(&cpu, &state, 6),
        [CODE as u32 + 7, 0x2B, 0x1111, 0x2222, STACK as u32, 0x23]
    );
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (CODE + 7, STACK + 8));
}

#[test]
fn code_of_another_base_is_not_mistaken_for_what_ran_at_its_offset() {
    // jmp far FREE:CODE + 0x400, twice, with another base each time; inc eax there, inc ecx where the base is.
    let mut cpu = protected_system(&[0xEA, 0, 4, 0x10, 0, FREE as u8, 0]);
    cpu.ram_mut().write(TARGET, &[0x40, 0xF4]);
    cpu.ram_mut().write(TARGET + 0x1000, &[0x41, 0xF4]);
    for (base, expected) in [(0, [1, 0]), (0x1000, [1, 1])] {
        set_descriptor(&mut cpu, FREE, descriptor(base, 0xF_FFFF, 0xC09B));
        change(&mut cpu, |state| {
            state.rip = CODE;
            state.segments[1].base = 0;
        });
        step(&mut cpu);
        let state = step(&mut cpu);
        assert_eq!(state.general[..2], expected);
    }
}
