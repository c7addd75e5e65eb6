use crate::{
    cpu::CR4_DE,
    flags::RF,
    isa::system::test_support::*,
    test_support::{CODE, DATA},
};

/// mov dr7, rax; mov dr6, rax; mov rax, dr4
const MOV_DR7: [u8; 3] = [0x0F, 0x23, 0xF8];
const MOV_DR6: [u8; 3] = [0x0F, 0x23, 0xF0];
const READ_DR4: [u8; 3] = [0x0F, 0x21, 0xE0];

#[test]
fn fixed_bits_stay_as_they_are() {
    let mut cpu = long_system(&MOV_DR7);
    change(&mut cpu, |state| state.general[0] = 0x0000_DF00);
    assert_eq!(step(&mut cpu).debug[7], 0x0700);
    let mut cpu = long_system(&MOV_DR6);
    change(&mut cpu, |state| state.general[0] = 0xFFFF_FFFF);
    assert_eq!(step(&mut cpu).debug[6], 0xFFFF_EFFF);
    for code in [MOV_DR6, MOV_DR7] {
        let mut cpu = long_system(&code);
        change(&mut cpu, |state| state.general[0] = 1 << 32);
        assert_eq!(run_to_handler(&mut cpu).1, 13);
    }
}

#[test]
fn dr4_is_dr6_unless_debugging_extensions_are_on() {
    let mut cpu = long_system(&READ_DR4);
    assert_eq!(step(&mut cpu).general[0], 0xFFFF_0FF0);
    let mut cpu = long_system(&READ_DR4);
    change(&mut cpu, |state| state.cr4 |= CR4_DE);
    assert_eq!(run_to_handler(&mut cpu).1, 6);
}

#[test]
fn general_detect_guards_the_debug_registers() {
    let mut cpu = long_system(&MOV_DR6);
    change(&mut cpu, |state| state.debug[7] |= 1 << 13);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 3), [CODE, 0x08, 2 | RF]);
    assert_eq!(state.debug[6], 0xFFFF_2FF0);
    // The handler may use them.
    assert_eq!(state.debug[7], 0x400);
}

#[test]
fn an_instruction_breakpoint_is_a_fault_and_rf_passes_it() {
    let mut cpu = long_system(&[0x90, 0x90]);
    change(&mut cpu, |state| {
        state.debug[1] = CODE + 1;
        state.debug[7] |= 1 << 2;
    });
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 3), [CODE + 1, 0x08, 2]);
    assert_eq!(state.debug[6], 0xFFFF_0FF2);
    cpu.reply(crate::Reply::None);
    change(&mut cpu, |state| {
        state.rip = CODE + 1;
        state.rflags |= RF;
    });
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.rflags), (CODE + 2, 2));
}

#[test]
fn a_breakpoint_behind_a_load_of_ss_does_not_hit_but_one_behind_sti_does() {
    for (first, hits) in [(&[0x8E, 0xD0][..], false), (&[0x90, 0xFB], true)] {
        let mut cpu = long_system(&[first, &[0x90, 0xF4]].concat());
        change(&mut cpu, |state| {
            state.general[0] = u64::from(KERNEL_DATA);
            state.debug[1] = CODE + 2;
            state.debug[7] |= 1 << 2;
        });
        cpu.run(crate::Goal::Exit);
        let halted = if hits { handler(1) + 1 } else { CODE + 4 };
        assert_eq!(cpu.save().rip, halted);
    }
}

#[test]
fn a_data_breakpoint_traps_after_the_store_that_arms_it_with_a_move() {
    // mov dr7, rax; mov [rdi], eax; nop
    let mut cpu = long_system(&[0x0F, 0x23, 0xF8, 0x89, 0x07, 0x90]);
    // The translation is known before.
    cpu.ram_mut().write(CODE + 0x10, &[0x89, 0x07]);
    change(&mut cpu, |state| {
        state.rip = CODE + 0x10;
        state.general[7] = DATA;
    });
    step(&mut cpu);
    change(&mut cpu, |state| {
        state.rip = CODE;
        // Four bytes, writes, DR0.
        state.general[0] = 0xD_0001;
        state.debug[0] = DATA;
    });
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 1), [CODE + 5]);
    assert_eq!(state.debug[6], 0xFFFF_0FF1);
    assert_eq!(read_u32(&cpu, DATA), 0xD_0001);
}
