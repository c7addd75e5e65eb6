use crate::{
    cpu::{DescriptorTable, Segment},
    isa::system::test_support::*,
    run::Cpu,
    test_support::DATA,
};

/// With RDI at the data, and RAX.
fn prepared(code: &[u8], rax: u16) -> Cpu {
    let mut cpu = long_system(code);
    change(&mut cpu, |state| {
        state.general[0] = u64::from(rax);
        state.general[7] = DATA;
    });
    cpu
}

const LGDT: [u8; 3] = [0x0F, 0x01, 0x17];
const LTR: [u8; 3] = [0x0F, 0x00, 0xD8];
const LLDT: [u8; 3] = [0x0F, 0x00, 0xD0];

#[test]
fn tables_are_loaded_and_stored() {
    // lidt [rdi]; sidt [rdi + 16]
    let mut cpu = prepared(&[0x0F, 0x01, 0x1F, 0x0F, 0x01, 0x4F, 0x10], 0);
    write_u64(&mut cpu, DATA, 0x8000_1234_5678_0FFF);
    write_u64(&mut cpu, DATA + 8, 0xFFFF);
    write_u64(&mut cpu, DATA + 24, u64::MAX);
    let expected = DescriptorTable {
        base: 0xFFFF_8000_1234_5678,
        limit: 0xFFF,
    };
    assert_eq!(step(&mut cpu).idtr, expected);
    step(&mut cpu);
    assert_eq!(read_u64(&cpu, DATA + 16), 0x8000_1234_5678_0FFF);
    assert_eq!(read_u64(&cpu, DATA + 24), 0xFFFF_FFFF_FFFF_FFFF);
}

#[test]
fn a_base_that_is_not_canonical_is_refused() {
    let mut cpu = prepared(&LGDT, 0);
    write_u64(&mut cpu, DATA, 0x1234_5678_0FFF);
    write_u64(&mut cpu, DATA + 8, 0xFFFF);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
    let mut cpu = prepared(&LGDT, 0);
    enter_user(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}

#[test]
fn protected_mode_tables_have_six_bytes() {
    // lgdt [edi], with and without 16-bit operands; sgdt [edi + 16]
    for (code, base) in [
        (&[0x0F, 0x01, 0x17, 0x0F, 0x01, 0x47, 0x10][..], 0x1234_5678),
        (&[0x66, 0x0F, 0x01, 0x17, 0x0F, 0x01, 0x47, 0x10], 0x34_5678),
    ] {
        let mut cpu = protected_system(code);
        change(&mut cpu, |state| state.general[7] = DATA);
        write_u64(&mut cpu, DATA, 0xFFFF_1234_5678_0FFF);
        write_u64(&mut cpu, DATA + 16, u64::MAX);
        assert_eq!(step(&mut cpu).gdtr, DescriptorTable { base, limit: 0xFFF });
        step(&mut cpu);
        assert_eq!(read_u64(&cpu, DATA + 16), 0xFFFF << 48 | base << 16 | 0xFFF);
    }
}

#[test]
fn a_task_becomes_busy() {
    let mut cpu = prepared(&LTR, TASK);
    // The upper half of the base.
    write_u64(&mut cpu, GDT + u64::from(TASK) + 8, 0xFFFF_8000);
    let state = step(&mut cpu);
    let expected = Segment {
        selector: TASK,
        base: 0xFFFF_8000_0000_0000 | TSS,
        limit: 0x67 + 0x2001,
        access: 0x8B,
    };
    assert_eq!(state.tr, expected);
    assert_eq!(
        read_u64(&cpu, GDT + u64::from(TASK)),
        descriptor(TSS as u32, 0x67 + 0x2001, 0x8B)
    );
    // A busy one is refused.
    change(&mut cpu, |state| state.rip -= 3);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, words(&cpu, &state, 1)[0]), (13, u64::from(TASK)));
}

#[test]
fn what_is_no_task_is_refused() {
    for (selector, expected) in [
        (0, (13, 0)),
        (TASK | 4, (13, u64::from(TASK | 4))),
        (KERNEL_DATA, (13, u64::from(KERNEL_DATA))),
        (LOCAL_TABLE, (13, u64::from(LOCAL_TABLE))),
    ] {
        let mut cpu = prepared(&LTR, selector);
        let (state, vector) = run_to_handler(&mut cpu);
        assert_eq!((vector, words(&cpu, &state, 1)[0]), expected);
    }
    let mut cpu = prepared(&LTR, TASK);
    set_descriptor(&mut cpu, TASK, descriptor(0, 0x67, 0x09));
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, words(&cpu, &state, 1)[0]), (11, u64::from(TASK)));
}

#[test]
fn local_tables_are_loaded_and_can_be_none() {
    let mut cpu = prepared(&LLDT, LOCAL_TABLE);
    let state = step(&mut cpu);
    assert_eq!((state.ldtr.base, state.ldtr.limit), (LDT, 0xFFF));
    let mut cpu = prepared(&LLDT, 0);
    assert!(!step(&mut cpu).ldtr.present());
    let mut cpu = prepared(&LLDT, TASK);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}

#[test]
fn selectors_of_tables_are_stored() {
    // str rax; sldt eax
    let mut cpu = prepared(&[0x48, 0x0F, 0x00, 0xC8, 0x0F, 0x00, 0xC0], 0xFFFF);
    enter_user(&mut cpu);
    assert_eq!(step(&mut cpu).general[0], u64::from(TASK));
    assert_eq!(step(&mut cpu).general[0], 0);
}
