//! Frames are laid out as SDM 3A figures 6-4 and 6-9 have them.

use crate::{
    Goal, Stop,
    cpu::Segment,
    flags::{AC, CF, IF, IOPL, NT, RF, VM},
    isa::system::test_support::*,
    run::Cpu,
    state::State,
    test_support::{CODE, STACK},
};

const IRETQ: [u8; 2] = [0x48, 0xCF];
const IRETD: [u8; 1] = [0xCF];
const TARGET: u64 = CODE + 0x100;
const USER_STACK: u64 = 0x31_0000;

/// Executes the return with `frame` on the 64-bit stack.
fn returned(cpu: &mut Cpu, frame: [u64; 5]) -> State {
    for (index, value) in frame.into_iter().enumerate() {
        write_u64(cpu, STACK + index as u64 * 8, value);
    }
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    cpu.save()
}

/// The exception's vector and error code that the return ended in.
fn refused(cpu: &mut Cpu, frame: [u64; 5]) -> (u8, u64) {
    for (index, value) in frame.into_iter().enumerate() {
        write_u64(cpu, STACK + index as u64 * 8, value);
    }
    let (state, vector) = run_to_handler(cpu);
    let frame = words(cpu, &state, 5);
    // The failed return changed nothing.
    assert_eq!((frame[1], frame[4]), (CODE, STACK));
    (vector, frame[0])
}

fn user_frame() -> [u64; 5] {
    [
        TARGET,
        u64::from(USER_CODE),
        2 | IF | CF,
        USER_STACK,
        u64::from(USER_DATA),
    ]
}

#[test]
fn to_user_mode_everything_is_loaded_and_inner_segments_are_dropped() {
    let mut cpu = long_system(&IRETQ);
    change(&mut cpu, |state| {
        state.segments[5] = Segment {
            base: 0x1234_5678_9000,
            ..Segment::default()
        };
        state.segments[4].selector = USER_DATA;
        state.segments[4].access = 0xC0F3;
    });
    let state = returned(&mut cpu, user_frame());
    assert_eq!(state.rip, TARGET);
    assert_eq!(state.general[4], USER_STACK);
    assert_eq!(state.rflags, 2 | IF | CF);
    assert_eq!(state.segments[1].selector, USER_CODE);
    assert_eq!(state.segments[1].access, 0xA0FB);
    assert_eq!(state.segments[2].selector, USER_DATA);
    // ES and DS were CPL 0's, FS is the user's, GS was null and has the base that an MSR gave it.
    assert_eq!(
        state.segments[0],
        Segment {
            limit: u32::MAX,
            ..Segment::default()
        }
    );
    assert_eq!(state.segments[4].selector, USER_DATA);
    assert_eq!(state.segments[5].base, 0x1234_5678_9000);
}

#[test]
fn to_the_same_privilege_ss_and_rsp_are_loaded_too() {
    let mut cpu = long_system(&IRETQ);
    let state = returned(&mut cpu, [TARGET, 0x08, 2, USER_STACK + 5, 0]);
    assert_eq!(state.general[4], USER_STACK + 5);
    assert_eq!(state.segments[2].selector, 0);
    assert_eq!(state.segments[0].selector, KERNEL_DATA);
}

#[test]
fn to_compatibility_mode() {
    let mut cpu = long_system(&IRETQ);
    let mut frame = user_frame();
    frame[1] = u64::from(USER_CODE_32);
    frame[3] = 0xAAAA_0000_0031_0000;
    let state = returned(&mut cpu, frame);
    assert_eq!(state.segments[1].access, 0xC0FB);
    assert_eq!(state.general[4], USER_STACK);
    frame[0] = 1 << 32;
    let mut cpu = long_system(&IRETQ);
    assert_eq!(refused(&mut cpu, frame), (13, 0));
}

#[test]
fn what_is_wrong_with_the_frame_is_reported() {
    let cases: [(usize, u64, (u8, u64)); 9] = [
        (0, 0x8000_0000_0000, (13, 0)),
        (1, 0, (13, 0)),
        (1, u64::from(USER_DATA), (13, 0x20)),
        (1, 0xFFF8, (13, 0xFFF8)),
        (1, u64::from(KERNEL_CODE | 3), (13, 0x08)),
        (4, 0, (13, 0)),
        (4, 3, (13, 0)),
        (4, u64::from(KERNEL_DATA), (13, 0x10)),
        (4, u64::from(USER_CODE), (13, 0x28)),
    ];
    for (index, value, expected) in cases {
        let mut cpu = long_system(&IRETQ);
        let mut frame = user_frame();
        frame[index] = value;
        assert_eq!(refused(&mut cpu, frame), expected, "{index} {value:#x}");
    }
}

#[test]
fn segments_that_are_not_present_are_reported_as_such() {
    let mut cpu = long_system(&IRETQ);
    set_descriptor(&mut cpu, USER_CODE, descriptor(0, 0xF_FFFF, 0xA07B));
    assert_eq!(refused(&mut cpu, user_frame()), (11, 0x28));
    let mut cpu = long_system(&IRETQ);
    set_descriptor(&mut cpu, USER_DATA, descriptor(0, 0xF_FFFF, 0xC073));
    assert_eq!(refused(&mut cpu, user_frame()), (12, 0x20));
}

#[test]
fn user_code_cannot_return_inward_or_change_its_privileges() {
    let mut cpu = long_system(&IRETQ);
    enter_user(&mut cpu);
    let mut frame = user_frame();
    frame[1] = u64::from(KERNEL_CODE);
    assert_eq!(refused(&mut cpu, frame), (13, 0x08));

    let mut cpu = long_system(&IRETQ);
    enter_user(&mut cpu);
    let mut frame = user_frame();
    frame[2] = 2 | IF | IOPL | CF | NT;
    assert_eq!(returned(&mut cpu, frame).rflags, 2 | CF | NT);
}

#[test]
fn the_kernel_can_set_every_flag_but_vm() {
    let mut cpu = long_system(&IRETQ);
    let mut frame = user_frame();
    frame[2] = 0xFFFF_FFFF;
    assert_eq!(returned(&mut cpu, frame).rflags, 0x3D_7FD7);
}

#[test]
fn nested_tasks_cannot_return() {
    for code in [&IRETQ[..], &IRETD] {
        let mut cpu = long_system(code);
        change(&mut cpu, |state| state.rflags |= NT);
        assert_eq!(refused(&mut cpu, user_frame()), (13, 0));
    }
}

#[test]
fn loading_marks_descriptors_as_accessed() {
    let mut cpu = long_system(&IRETQ);
    set_descriptor(&mut cpu, USER_CODE, descriptor(0, 0xF_FFFF, 0xA0FA));
    let state = returned(&mut cpu, user_frame());
    assert_eq!(state.segments[1].access, 0xA0FB);
    assert_eq!(read_u64(&cpu, GDT + 0x28), descriptor(0, 0xF_FFFF, 0xA0FB));
}

fn protected_frame(cpu: &mut Cpu, frame: &[u64]) {
    for (index, value) in frame.iter().enumerate() {
        cpu.ram_mut()
            .write(STACK + index as u64 * 4, &(*value as u32).to_le_bytes());
    }
}

#[test]
fn protected_mode_pops_the_stack_pointer_only_outwards() {
    let mut cpu = protected_system(&IRETD);
    protected_frame(&mut cpu, &[TARGET, 0x08, 2 | AC]);
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    let state = cpu.save();
    assert_eq!((state.rip, state.general[4]), (TARGET, STACK + 12));
    assert_eq!(state.rflags, 2 | AC);

    let mut cpu = protected_system(&IRETD);
    protected_frame(&mut cpu, &user_frame());
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    let state = cpu.save();
    assert_eq!((state.rip, state.general[4]), (TARGET, USER_STACK));
    assert_eq!(state.segments[3].selector, 0);
    assert!(!state.segments[3].present());
}

#[test]
fn virtual_8086_mode_is_refused() {
    let mut cpu = protected_system(&IRETD);
    let mut frame = user_frame();
    frame[2] |= VM;
    protected_frame(&mut cpu, &frame);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(
        narrow_words(&cpu, &state, 4),
        [0, CODE as u32, 0x08, (2 | RF) as u32]
    );
}
