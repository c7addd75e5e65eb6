use crate::{
    Goal, Stop,
    cpu::{CR0_AM, CR4_SMAP, Shadow},
    flags::{AC, CF, ID, IF, IOPL, NT, RF, TF, VIF_VIP, VM},
    isa::system::test_support::*,
    test_support::{CODE, DATA, STACK},
};

/// RFLAGS after POPF of `value`, with `before` in force.
fn popped(code: &[u8], user: bool, before: u64, value: u64) -> u64 {
    let mut cpu = long_system(code);
    if user {
        enter_user(&mut cpu);
    }
    change(&mut cpu, |state| state.rflags = before);
    write_u64(&mut cpu, STACK, value);
    step(&mut cpu).rflags
}

#[test]
fn popf_changes_what_the_privilege_allows() {
    let all = u64::MAX;
    assert_eq!(popped(&[0x9D], false, 2, all), 0x24_7FD7);
    assert_eq!(popped(&[0x9D], true, 2, all), 0x24_4DD7);
    assert_eq!(popped(&[0x9D], true, 2 | IOPL, all), 0x24_7FD7);
    assert_eq!(popped(&[0x9D], true, 2 | IF | IOPL, 2), 2 | IOPL);
    assert_eq!(popped(&[0x9D], true, 2 | IF, 2), 2 | IF);
    assert_eq!(popped(&[0x9D], false, 2 | VIF_VIP | ID | AC, 2), 2);
    // 16 bits leave the upper ones alone.
    assert_eq!(
        popped(&[0x66, 0x9D], false, 2 | ID | AC, NT),
        2 | ID | AC | NT
    );
}

#[test]
fn pushf_hides_rf_and_vm() {
    let mut cpu = long_system(&[0x9C]);
    change(&mut cpu, |state| state.rflags = 2 | RF | VM | ID | CF);
    let state = step(&mut cpu);
    assert_eq!(state.general[4], STACK - 8);
    assert_eq!(read_u64(&cpu, STACK - 8), 2 | ID | CF);
}

#[test]
fn a_trap_flag_that_is_popped_traps_after_the_next_instruction() {
    let mut cpu = long_system(&[0x9D, 0x90, 0x90]);
    write_u64(&mut cpu, STACK, 2 | TF);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 1), [CODE + 2]);
}

#[test]
fn interrupts_wait_one_instruction_after_sti() {
    let mut cpu = long_system(&[0xFB, 0x90, 0x90]);
    assert!(!cpu.accepts_interrupts());
    step(&mut cpu);
    assert!(!cpu.accepts_interrupts());
    assert_eq!(cpu.save().shadow, Shadow::Interrupts);
    step(&mut cpu);
    assert!(cpu.accepts_interrupts());
}

#[test]
fn a_second_sti_does_not_wait_longer() {
    let mut cpu = long_system(&[0xFB, 0xFB]);
    step(&mut cpu);
    step(&mut cpu);
    assert!(cpu.accepts_interrupts());
}

#[test]
fn a_single_step_does_not_wait_after_sti() {
    let mut cpu = long_system(&[0xFB, 0x90]);
    change(&mut cpu, |state| state.rflags |= TF);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 3), [CODE + 1, 0x08, 2 | TF | IF]);
    assert_eq!(state.shadow, Shadow::None);
}

#[test]
fn cli_and_sti_need_io_privilege() {
    for code in [0xFA, 0xFB] {
        let mut cpu = long_system(&[code]);
        enter_user(&mut cpu);
        assert_eq!(run_to_handler(&mut cpu).1, 13);
        let mut cpu = long_system(&[code]);
        enter_user(&mut cpu);
        change(&mut cpu, |state| state.rflags |= IOPL);
        step(&mut cpu);
    }
}

#[test]
fn stac_lets_the_kernel_touch_user_pages() {
    // stac; mov rax, [DATA]; clac; mov rax, [DATA]
    let mut cpu = long_system(&[
        0x0F, 0x01, 0xCB, 0x48, 0x8B, 0x07, 0x0F, 0x01, 0xCA, 0x48, 0x8B, 0x07,
    ]);
    // The code's own page is the user's too: without SMEP that is no matter.
    change(&mut cpu, |state| {
        state.cr4 |= CR4_SMAP;
        state.general[7] = DATA;
        state.gdtr.base = GDT;
    });
    for _ in 0..3 {
        step(&mut cpu);
    }
    assert_eq!(cpu.save().rip, CODE + 9);
    // Everything is a user page, so nothing can be delivered.
    assert_eq!(cpu.run(Goal::Exit), Stop::Exit(crate::Exit::Shutdown));
    assert_eq!(cpu.save().cr2, IDT + 8 * 16);
}

#[test]
fn stac_and_clac_are_the_kernels() {
    for code in [0xCA, 0xCB] {
        let mut cpu = long_system(&[0x0F, 0x01, code]);
        enter_user(&mut cpu);
        assert_eq!(run_to_handler(&mut cpu).1, 6);
    }
}

#[test]
fn alignment_is_checked_at_cpl_3_if_asked_for() {
    // mov eax, [rdi]
    let prepared = |address: u64, user: bool, cr0: u64, rflags: u64| {
        let mut cpu = long_system(&[0x8B, 0x07]);
        if user {
            enter_user(&mut cpu);
        }
        change(&mut cpu, |state| {
            state.general[7] = address;
            state.cr0 |= cr0;
            state.rflags |= rflags;
        });
        cpu
    };
    let mut cpu = prepared(DATA + 2, true, CR0_AM, AC);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 17);
    assert_eq!(words(&cpu, &state, 2), [0, CODE]);
    for (address, user, cr0, rflags) in [
        (DATA + 4, true, CR0_AM, AC),
        (DATA + 2, false, CR0_AM, AC),
        (DATA + 2, true, 0, AC),
        (DATA + 2, true, CR0_AM, 0),
    ] {
        step(&mut prepared(address, user, cr0, rflags));
    }
}
