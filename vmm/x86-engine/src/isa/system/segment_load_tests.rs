use crate::{
    cpu::{Segment, Shadow},
    flags::IF,
    isa::system::test_support::*,
    run::Cpu,
    test_support::{CODE, DATA, STACK},
};

/// mov ds, eax; mov fs, eax; mov ss, eax
const MOV_DS: [u8; 2] = [0x8E, 0xD8];
const MOV_FS: [u8; 2] = [0x8E, 0xE0];
const MOV_SS: [u8; 2] = [0x8E, 0xD0];

fn prepared(code: &[u8], selector: u16, access: u16) -> Cpu {
    let mut cpu = long_system(code);
    set_descriptor(&mut cpu, FREE, descriptor(0x1234_5678, 0xABCDE, access));
    change(&mut cpu, |state| {
        state.general[0] = u64::from(selector) | 0xFFFF_0000;
        state.rflags |= IF;
    });
    cpu
}

/// Vector and error code.
fn refused(mut cpu: Cpu) -> (u8, u64) {
    let (state, vector) = run_to_handler(&mut cpu);
    (vector, words(&cpu, &state, 1)[0])
}

#[test]
fn a_descriptor_is_loaded_and_marked_as_accessed() {
    let mut cpu = prepared(&MOV_FS, FREE, 0x8092);
    let state = step(&mut cpu);
    let expected = Segment {
        selector: FREE,
        base: 0x1234_5678,
        limit: 0xABCD_EFFF,
        access: 0x8093,
    };
    assert_eq!(state.segments[4], expected);
    assert_eq!(
        read_u64(&cpu, GDT + u64::from(FREE)),
        descriptor(0x1234_5678, 0xABCDE, 0x8093)
    );
    // With bytes as units.
    let mut cpu = prepared(&MOV_FS, FREE, 0x93);
    assert_eq!(step(&mut cpu).segments[4].limit, 0xABCDE);
}

#[test]
fn a_null_selector_clears_the_base() {
    let mut cpu = prepared(&MOV_FS, 2, 0x93);
    change(&mut cpu, |state| state.segments[4].base = 0x1000);
    let expected = Segment {
        selector: 2,
        ..Segment::default()
    };
    assert_eq!(step(&mut cpu).segments[4], expected);
}

#[test]
fn data_segments_are_checked() {
    // Beyond the table; system; execute-only code; not present.
    let error = u64::from(FREE);
    assert_eq!(refused(prepared(&MOV_DS, 0x1000, 0x93)), (13, 0x1000));
    assert_eq!(refused(prepared(&MOV_DS, LOCAL_TABLE, 0)), (13, 0x40));
    assert_eq!(refused(prepared(&MOV_DS, FREE, 0x99)), (13, error));
    assert_eq!(refused(prepared(&MOV_DS, FREE, 0x13)), (11, error));
    // RPL 3 wants DPL 3, unless the code is conforming.
    assert_eq!(refused(prepared(&MOV_DS, FREE | 3, 0x93)), (13, error));
    assert_eq!(refused(prepared(&MOV_DS, FREE | 3, 0x9B)), (13, error));
    for (selector, access) in [(FREE | 3, 0xF3), (FREE, 0x9B), (FREE | 3, 0x9F)] {
        let mut cpu = prepared(&MOV_DS, selector, access);
        assert_eq!(step(&mut cpu).segments[3].selector, selector);
    }
    let mut cpu = prepared(&MOV_DS, FREE, 0x93);
    enter_user(&mut cpu);
    assert_eq!(refused(cpu), (13, error));
}

#[test]
fn stack_segments_are_checked() {
    let error = u64::from(FREE);
    assert_eq!(refused(prepared(&MOV_SS, FREE, 0x91)), (13, error));
    assert_eq!(refused(prepared(&MOV_SS, FREE, 0xF3)), (13, error));
    assert_eq!(refused(prepared(&MOV_SS, FREE | 3, 0xF3)), (13, error));
    assert_eq!(refused(prepared(&MOV_SS, FREE, 0x13)), (12, error));
    assert_eq!(refused(prepared(&MOV_SS, 3, 0x93)), (13, 0));
    let mut cpu = prepared(&MOV_SS, 0, 0x93);
    enter_user(&mut cpu);
    assert_eq!(refused(cpu), (13, 0));
    // Null is for 64-bit code above CPL 3.
    let mut cpu = prepared(&MOV_SS, 0, 0x93);
    assert_eq!(step(&mut cpu).segments[2], Segment::default());
    let mut cpu = protected_system(&MOV_SS);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, narrow_words(&cpu, &state, 1)[0]), (13, 0));
}

#[test]
fn interrupts_and_traps_wait_after_a_load_of_ss() {
    let mut cpu = prepared(&[0x8E, 0xD0, 0x90], KERNEL_DATA, 0);
    assert!(cpu.accepts_interrupts());
    assert_eq!(step(&mut cpu).shadow, Shadow::Traps);
    assert!(!cpu.accepts_interrupts());
    step(&mut cpu);
    assert!(cpu.accepts_interrupts());
    let mut cpu = prepared(&[0x8E, 0xD0, 0x90], KERNEL_DATA, 0);
    change(&mut cpu, |state| state.rflags |= crate::flags::TF);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, words(&cpu, &state, 1)[0]), (1, CODE + 3));
}

#[test]
fn selectors_are_stored_in_the_destinations_width() {
    // mov rax, ds; mov eax, ds; mov ax, ds
    for (code, expected) in [
        (&[0x48, 0x8C, 0xD8][..], 0x10),
        (&[0x8C, 0xD8], 0x10),
        (&[0x66, 0x8C, 0xD8], 0xFFFF_FFFF_FFFF_0010),
    ] {
        let mut cpu = long_system(code);
        change(&mut cpu, |state| state.general[0] = u64::MAX);
        assert_eq!(step(&mut cpu).general[0], expected);
    }
    // mov [rdi], ds: 16 bits whatever the prefix.
    let mut cpu = long_system(&[0x48, 0x8C, 0x1F]);
    write_u64(&mut cpu, DATA, u64::MAX);
    change(&mut cpu, |state| state.general[7] = DATA);
    step(&mut cpu);
    assert_eq!(read_u64(&cpu, DATA), 0xFFFF_FFFF_FFFF_0010);
}

#[test]
fn cs_is_not_moved_to() {
    assert_eq!(
        run_to_handler(&mut prepared(&[0x8E, 0xC8], FREE, 0x9B)).1,
        6
    );
}

#[test]
fn segment_registers_are_pushed_and_popped() {
    // push fs; pop gs
    let mut cpu = long_system(&[0x0F, 0xA0, 0x0F, 0xA9]);
    change(&mut cpu, |state| {
        state.segments[4].selector = USER_DATA;
        state.segments[4].access = 0xC0F3;
    });
    write_u64(&mut cpu, STACK - 8, u64::MAX);
    step(&mut cpu);
    assert_eq!(read_u64(&cpu, STACK - 8), u64::from(USER_DATA));
    let state = step(&mut cpu);
    assert_eq!(state.segments[5].selector, USER_DATA);
    assert_eq!(state.general[4], STACK);
}

#[test]
fn a_pop_that_fails_leaves_the_stack_pointer() {
    let mut cpu = long_system(&[0x0F, 0xA9]);
    write_u64(&mut cpu, STACK, 0x1000);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 13);
    assert_eq!(words(&cpu, &state, 5), [0x1000, CODE, 8, 0x1_0002, STACK]);
}

#[test]
fn far_pointers_load_both_halves_or_none() {
    // lgs rax, [rdi]; lss eax, [rdi]
    for (code, width, segment) in [
        (&[0x48, 0x0F, 0xB5, 0x07][..], 8, 5),
        (&[0x0F, 0xB2, 0x07], 4, 2),
    ] {
        let mut cpu = long_system(code);
        cpu.ram_mut()
            .write(DATA, &0x1122_3344_5566_7788_u64.to_le_bytes());
        cpu.ram_mut()
            .write(DATA + width, &KERNEL_DATA.to_le_bytes());
        change(&mut cpu, |state| state.general[7] = DATA);
        let state = step(&mut cpu);
        assert_eq!(state.segments[segment].selector, KERNEL_DATA);
        let mask = u64::MAX >> (64 - width * 8);
        assert_eq!(state.general[0], 0x1122_3344_5566_7788 & mask);

        cpu.ram_mut().write(DATA + width, &[0xF0, 0xFF]);
        change(&mut cpu, |state| {
            state.rip = CODE;
            state.general[0] = 5;
        });
        let (state, vector) = run_to_handler(&mut cpu);
        assert_eq!((vector, words(&cpu, &state, 1)[0]), (13, 0xFFF0));
        assert_eq!(state.general[0], 5);
    }
}

#[test]
fn the_local_table_is_used_if_there_is_one() {
    assert_eq!(refused(prepared(&MOV_DS, 0xC, 0)), (13, 0xC));
    let mut cpu = prepared(&MOV_DS, 0xC, 0);
    write_u64(&mut cpu, LDT + 8, descriptor(0, 0xF_FFFF, 0xC093));
    change(&mut cpu, |state| {
        state.ldtr = Segment {
            selector: LOCAL_TABLE,
            base: LDT,
            limit: 15,
            access: 0x82,
        };
    });
    assert_eq!(step(&mut cpu).segments[3].selector, 0xC);
}
