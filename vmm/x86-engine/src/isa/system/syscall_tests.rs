use crate::{
    cpu::{EFER_SCE, Segment},
    flags::{AC, CF, DF, IF, IOPL, RF, TF},
    isa::system::test_support::*,
    run::Cpu,
    test_support::{CODE, STACK},
};

const ENTRY: u64 = CODE + 0x200;

fn prepared(code: &[u8]) -> Cpu {
    let mut cpu = long_system(code);
    change(&mut cpu, |state| {
        state.msrs.star = 0x001B_0008_0000_0000;
        state.msrs.lstar = ENTRY;
        state.msrs.fmask = IF | TF | DF;
        state.msrs.sysenter_cs = 0x8;
        state.msrs.sysenter_eip = ENTRY;
        state.msrs.sysenter_esp = 0x33_0000;
    });
    cpu
}

fn segment(selector: u16, access: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        access,
    }
}

#[test]
fn syscall_saves_rip_and_flags_and_masks() {
    let mut cpu = prepared(&[0x0F, 0x05]);
    enter_user(&mut cpu);
    change(&mut cpu, |state| state.rflags = 2 | IF | DF | CF | AC);
    let state = step(&mut cpu);
    assert_eq!(state.rip, ENTRY);
    assert_eq!(state.general[1], CODE + 2);
    assert_eq!(state.general[11], 2 | IF | DF | CF | AC);
    assert_eq!(state.rflags, 2 | CF | AC);
    assert_eq!(state.segments[1], segment(0x08, 0xA09B));
    assert_eq!(state.segments[2], segment(0x10, 0xC093));
    assert_eq!(state.general[4], STACK);
}

#[test]
fn sysret_goes_back_to_64_bit_and_to_compatibility_mode() {
    for (code, cs, access) in [
        (&[0x48, 0x0F, 0x07][..], USER_CODE, 0xA0FB),
        (&[0x0F, 0x07], USER_CODE_32, 0xC0FB),
    ] {
        let mut cpu = prepared(code);
        change(&mut cpu, |state| {
            state.general[1] = ENTRY;
            state.general[11] = !TF;
        });
        let state = step(&mut cpu);
        assert_eq!(state.rip, ENTRY);
        assert_eq!(state.rflags, 0x3C_7ED7);
        assert_eq!(state.segments[1], segment(cs, access));
        assert_eq!(state.segments[2], segment(USER_DATA, 0xC0F3));
    }
}

#[test]
fn sysret_refuses_an_address_that_is_not_canonical_in_the_kernel() {
    let mut cpu = prepared(&[0x48, 0x0F, 0x07]);
    change(&mut cpu, |state| state.general[1] = 0x8000_0000_0000);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(words(&cpu, &state, 4), [0, CODE, 0x08, 2 | RF]);
}

#[test]
fn without_efer_sce_or_outside_of_64_bit_mode_there_is_no_syscall() {
    let mut cpu = prepared(&[0x0F, 0x05]);
    change(&mut cpu, |state| state.efer &= !EFER_SCE);
    assert_eq!(run_to_handler(&mut cpu).1, 6);
    let mut cpu = prepared(&[0x0F, 0x05]);
    enter_compatibility(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 6);
}

#[test]
fn a_masked_trap_flag_does_not_trap_in_the_kernel_but_after_the_return() {
    let mut cpu = prepared(&[0x0F, 0x05]);
    cpu.ram_mut().write(ENTRY, &[0x48, 0x0F, 0x07]);
    enter_user(&mut cpu);
    change(&mut cpu, |state| state.rflags |= TF);
    assert_eq!(step(&mut cpu).rip, ENTRY);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(words(&cpu, &state, 3), [CODE + 2, 0x2B, 2 | TF]);
}

#[test]
fn sysenter_loads_fixed_segments() {
    let mut cpu = prepared(&[0x0F, 0x34]);
    enter_compatibility(&mut cpu);
    change(&mut cpu, |state| state.rflags |= IF | CF | IOPL);
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (ENTRY, 0x33_0000));
    assert_eq!(state.rflags, 2 | CF | IOPL);
    assert_eq!(state.segments[1], segment(0x08, 0xA09B));
    assert_eq!(state.segments[2], segment(0x10, 0xC093));

    let mut cpu = prepared(&[0x0F, 0x34]);
    change(&mut cpu, |state| state.msrs.sysenter_cs = 3);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}

#[test]
fn sysexit_takes_rcx_and_rdx() {
    let mut cpu = prepared(&[0x0F, 0x35]);
    change(&mut cpu, |state| {
        state.general[1] = 0xFFFF_0032_0000;
        state.general[2] = CODE;
    });
    let state = step(&mut cpu);
    assert_eq!((state.rip, state.general[4]), (CODE, 0x32_0000));
    assert_eq!(state.segments[1], segment(0x1B, 0xC0FB));
    assert_eq!(state.segments[2], segment(0x23, 0xC0F3));

    let mut cpu = prepared(&[0x48, 0x0F, 0x35]);
    change(&mut cpu, |state| {
        state.general[1] = 0x7FFF_0032_0000;
        state.general[2] = CODE;
    });
    let state = step(&mut cpu);
    assert_eq!(state.general[4], 0x7FFF_0032_0000);
    assert_eq!(state.segments[1], segment(0x2B, 0xA0FB));
    assert_eq!(state.segments[2], segment(0x33, 0xC0F3));
}

#[test]
fn protected_mode_has_sysenter() {
    let mut cpu = protected_system(&[0x0F, 0x34]);
    change(&mut cpu, |state| {
        state.msrs.sysenter_cs = 0x8;
        state.msrs.sysenter_eip = ENTRY;
    });
    enter_user(&mut cpu);
    let state = step(&mut cpu);
    assert_eq!(state.segments[1], segment(0x08, 0xC09B));
    assert_eq!(state.rip, ENTRY);
}
