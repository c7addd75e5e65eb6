//! Stack frames are compared word by word with SDM 3A figures 6-4 and 6-9.

use crate::exception::Exception;
use crate::{
    Exit, Goal, Stop,
    flags::{AC, IF, NT, RF, TF},
    isa::system::{interrupt::combine, test_support::*},
    test_support::{CODE, STACK},
};

const UD2: [u8; 2] = [0x0F, 0x0B];

#[test]
fn an_exception_at_the_same_privilege_pushes_five_words_on_an_aligned_stack() {
    let mut cpu = long_system(&UD2);
    change(&mut cpu, |state| {
        state.general[4] = STACK - 3;
        state.rflags = 2 | IF | TF | NT | AC;
    });
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 6);
    assert_eq!(state.general[4], ((STACK - 3) & !15) - 40);
    let flags = 2 | IF | TF | NT | AC | RF;
    assert_eq!(words(&cpu, &state, 5), [CODE, 0x08, flags, STACK - 3, 0x10]);
    assert_eq!(state.rflags, 2 | AC);
    assert_eq!(state.segments[2].selector, 0x10);
}

#[test]
fn an_exception_from_user_mode_takes_the_tasks_stack_and_a_null_ss() {
    let mut cpu = long_system(&[0xF4]);
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    let top = KERNEL_STACK & !15;
    assert_eq!(state.general[4], top - 48);
    assert_eq!(words(&cpu, &state, 6), [0, CODE, 0x2B, 2 | RF, STACK, 0x23]);
    assert_eq!(state.segments[1].selector, 0x08);
    assert_eq!(state.segments[2].selector, 0);
    assert_eq!(state.segments[2].dpl(), 0);
}

#[test]
fn the_interrupt_stack_table_is_used_without_a_change_of_privilege() {
    let mut cpu = long_system(&UD2);
    set_gate(&mut cpu, 6, long_gate(15, 0, KERNEL_CODE, handler(6), 1));
    change(&mut cpu, |state| state.rflags |= IF);
    let (state, _) = run_to_handler(&mut cpu);
    assert_eq!(state.general[4], INTERRUPT_STACK - 40);
    // A trap gate leaves IF alone.
    assert_eq!(state.rflags, 2 | IF);
}

#[test]
fn an_interrupt_returns_to_the_instruction_it_came_before() {
    let mut cpu = long_system(&[0x90, 0x90, 0xF4]);
    change(&mut cpu, |state| state.rflags |= IF);
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    assert!(cpu.accepts_interrupts());
    cpu.interrupt(0x41);
    assert_eq!(cpu.save().rip, handler(0x41));
    assert!(!cpu.accepts_interrupts());
    let (state, _) = run_to_handler(&mut cpu);
    assert_eq!(words(&cpu, &state, 3), [CODE + 1, 0x08, 2 | IF]);
}

#[test]
fn software_interrupts_push_the_next_instruction_and_need_the_gates_privilege() {
    let mut cpu = long_system(&[0xCD, 0x80]);
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 0x80);
    assert_eq!(words(&cpu, &state, 2), [CODE + 2, 0x2B]);

    let mut cpu = long_system(&[0xCD, 0x81]);
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    // IDT, not external.
    assert_eq!(words(&cpu, &state, 2), [0x81 * 8 + 2, CODE]);
}

#[test]
fn int3_and_int1_are_traps() {
    for (code, expected) in [(0xCC, 3), (0xF1, 1)] {
        let mut cpu = long_system(&[code]);
        enter_user(&mut cpu);
        let (state, vector) = run_to_handler(&mut cpu);
        assert_eq!(vector, expected);
        assert_eq!(words(&cpu, &state, 3), [CODE + 1, 0x2B, 2]);
    }
}

#[test]
fn a_single_step_is_delivered_after_the_instruction() {
    let mut cpu = long_system(&[0x90, 0x90]);
    change(&mut cpu, |state| state.rflags |= TF);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 3), [CODE + 1, 0x08, 2 | TF]);
    assert_eq!(state.debug[6], 0xFFFF_4FF0);
}

#[test]
fn a_software_interrupt_is_not_stepped_into() {
    let mut cpu = long_system(&[0xCD, 0x80]);
    change(&mut cpu, |state| state.rflags |= TF);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 0x80);
    assert_eq!(words(&cpu, &state, 3), [CODE + 2, 0x08, 2 | TF]);
    assert_eq!(state.pending_debug, 0);
}

#[test]
fn page_faults_leave_their_address_even_if_they_cannot_be_delivered() {
    // mov al, [0x7fff00000000], with its gate absent.
    let mut code = vec![0xA0];
    code.extend_from_slice(&0x7FFF_0000_0000_u64.to_le_bytes());
    let mut cpu = long_system(&code);
    let mut halves = long_gate(14, 0, KERNEL_CODE, handler(14), 0);
    halves[0] &= !(1 << 47);
    set_gate(&mut cpu, 14, halves);
    let (state, vector) = run_to_handler(&mut cpu);
    // #PF, then #NP: a double fault.
    assert_eq!(vector, 8);
    assert_eq!(state.cr2, 0x7FFF_0000_0000);
    assert_eq!(state.general[4], INTERRUPT_STACK - 48);
    assert_eq!(words(&cpu, &state, 5), [0, CODE, 0x08, 2, STACK]);
}

#[test]
fn what_fails_while_an_exception_is_delivered_is_external() {
    let mut cpu = long_system(&UD2);
    let mut halves = long_gate(14, 0, KERNEL_CODE, handler(6), 0);
    halves[0] &= !(1 << 47);
    set_gate(&mut cpu, 6, halves);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 11);
    assert_eq!(words(&cpu, &state, 2), [6 * 8 + 2 + 1, CODE]);

    // A gate to data.
    set_gate(&mut cpu, 6, long_gate(14, 0, KERNEL_DATA, handler(6), 0));
    cpu.reply(crate::Reply::None);
    change(&mut cpu, |state| state.rip = CODE);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(words(&cpu, &state, 1), [u64::from(KERNEL_DATA) + 1]);
}

#[test]
fn a_stack_that_is_not_canonical_is_a_stack_fault() {
    let mut cpu = long_system(&UD2);
    write_u64(&mut cpu, TSS + 4, 0x9000_0000_0000);
    set_gate(&mut cpu, 12, long_gate(14, 0, KERNEL_CODE, handler(12), 1));
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 12);
    // From CPL 3: the failed delivery changed nothing.
    assert_eq!(words(&cpu, &state, 6), [1, CODE, 0x2B, 2 | RF, STACK, 0x23]);
}

#[test]
fn no_interrupt_table_is_a_shutdown() {
    let mut cpu = long_system(&UD2);
    change(&mut cpu, |state| state.idtr.limit = 0);
    assert_eq!(cpu.run(Goal::Instructions(10)), Stop::Exit(Exit::Shutdown));
}

#[test]
fn an_interrupt_that_cannot_be_delivered_shuts_down_at_the_next_run() {
    let mut cpu = long_system(&UD2);
    change(&mut cpu, |state| {
        state.rflags |= IF;
        state.idtr.limit = 0;
    });
    cpu.interrupt(0x30);
    assert_eq!(cpu.run(Goal::Instructions(10)), Stop::Exit(Exit::Shutdown));
}

#[test]
fn an_interrupt_table_in_a_device_is_a_shutdown() {
    let mut cpu = long_system(&UD2);
    change(&mut cpu, |state| {
        state.rflags |= IF;
        state.idtr.base = 0x3000_0000;
    });
    cpu.interrupt(0x30);
    assert_eq!(cpu.run(Goal::Instructions(10)), Stop::Exit(Exit::Shutdown));
}

#[test]
fn compatibility_code_is_interrupted_with_64_bit_frames() {
    let mut cpu = long_system(&UD2);
    enter_compatibility(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 6);
    assert_eq!(words(&cpu, &state, 5), [CODE, 0x1B, 2 | RF, STACK, 0x23]);
}

#[test]
fn protected_mode_pushes_three_words_at_the_same_privilege() {
    let mut cpu = protected_system(&UD2);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 6);
    assert_eq!(state.general[4], STACK - 12);
    assert_eq!(
        narrow_words(&cpu, &state, 3),
        [CODE as u32, 0x08, (2 | RF) as u32]
    );
}

#[test]
fn protected_mode_pushes_five_words_and_the_code_from_user_mode() {
    let mut cpu = protected_system(&[0xF4]);
    enter_user(&mut cpu);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(state.general[4], KERNEL_STACK - 24);
    assert_eq!(
        narrow_words(&cpu, &state, 6),
        [0, CODE as u32, 0x2B, (2 | RF) as u32, STACK as u32, 0x23]
    );
    assert_eq!(state.segments[2].selector, KERNEL_DATA);
}

#[test]
fn protected_mode_checks_the_tasks_stack() {
    let mut cpu = protected_system(&[0xCD, 0x80]);
    write_u64(
        &mut cpu,
        TSS + 4,
        KERNEL_STACK | u64::from(KERNEL_CODE) << 32,
    );
    // #TS at CPL 3 finds the same bad stack: a double fault, which does too.
    enter_user(&mut cpu);
    assert_eq!(cpu.run(Goal::Instructions(10)), Stop::Exit(Exit::Shutdown));
}

#[test]
fn sixteen_bit_gates_push_half_words() {
    let mut cpu = protected_system(&UD2);
    write_u64(&mut cpu, IDT + 6 * 8, gate(6, 0, KERNEL_CODE, 0x3000));
    cpu.ram_mut().write(0x3000, &[0xF4]);
    assert_eq!(cpu.run(Goal::Instructions(10)), Stop::Exit(Exit::Halt));
    let state = cpu.save();
    assert_eq!(state.rip, 0x3001);
    assert_eq!(state.general[4], STACK - 6);
    assert_eq!(read_u32(&cpu, STACK - 6), 0x08_0000 | CODE as u32 & 0xFFFF);
}

#[test]
fn task_gates_are_not_supported() {
    let mut cpu = protected_system(&UD2);
    write_u64(&mut cpu, IDT + 6 * 8, gate(5, 0, TASK, 0));
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(narrow_words(&cpu, &state, 1), [6 * 8 + 2 + 1]);
}

#[test]
fn double_faults_come_of_pairs_of_contributory_exceptions() {
    let general = Exception::general_protection(0);
    let page = Exception::page_fault(0, 0);
    let double = Some(Exception::DOUBLE_FAULT);
    assert_eq!(combine(general, Exception::DIVIDE), double);
    assert_eq!(combine(page, page), double);
    assert_eq!(combine(page, general), double);
    assert_eq!(combine(general, page), Some(page));
    assert_eq!(combine(Exception::INVALID_OPCODE, general), Some(general));
    assert_eq!(combine(Exception::DOUBLE_FAULT, page), None);
}
