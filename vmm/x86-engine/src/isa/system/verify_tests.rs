use crate::{
    flags::{CF, ZF},
    isa::system::test_support::*,
    run::Cpu,
};

/// With RCX as selector, a descriptor of that access, and RAX all ones.
fn prepared(code: &[u8], selector: u16, access: u16) -> Cpu {
    let mut cpu = long_system(code);
    set_descriptor(&mut cpu, FREE, descriptor(0x1234_5678, 0xABCDE, access));
    change(&mut cpu, |state| {
        state.general[0] = u64::MAX;
        state.general[1] = u64::from(selector);
        state.rflags |= CF;
    });
    cpu
}

/// RAX, if ZF is set.
fn answer(mut cpu: Cpu) -> Option<u64> {
    let state = step(&mut cpu);
    assert_eq!(state.rflags & CF, CF);
    (state.rflags & ZF != 0).then_some(state.general[0])
}

const LAR: [u8; 3] = [0x0F, 0x02, 0xC1];
const LSL: [u8; 3] = [0x0F, 0x03, 0xC1];
const VERR: [u8; 3] = [0x0F, 0x00, 0xE1];
const VERW: [u8; 3] = [0x0F, 0x00, 0xE9];

#[test]
fn access_rights_come_with_the_limits_upper_bits() {
    assert_eq!(answer(prepared(&LAR, FREE, 0xC093)), Some(0xCA_9300));
    assert_eq!(
        answer(prepared(&[0x66, 0x0F, 0x02, 0xC1], FREE, 0xC093)),
        Some(0xFFFF_FFFF_FFFF_9300)
    );
    // A present bit is not asked for.
    assert_eq!(answer(prepared(&LAR, FREE, 0xC013)), Some(0xCA_1300));
}

#[test]
fn limits_are_in_bytes() {
    assert_eq!(answer(prepared(&LSL, FREE, 0x8093)), Some(0xABCD_EFFF));
    assert_eq!(answer(prepared(&LSL, FREE, 0x0093)), Some(0xA_BCDE));
}

#[test]
fn what_cannot_be_seen_has_no_answer() {
    for selector in [0, 3, 0x1000, FREE | 3] {
        for code in [LAR, LSL, VERR, VERW] {
            assert_eq!(answer(prepared(&code, selector, 0x93)), None);
        }
    }
    // Conforming code can be seen from everywhere.
    assert!(answer(prepared(&LAR, FREE | 3, 0x9F)).is_some());
    assert!(answer(prepared(&VERR, FREE | 3, 0x9F)).is_some());
}

#[test]
fn long_mode_knows_fewer_types() {
    for (kind, has_rights, has_limit) in [
        (1, false, false),
        (2, true, true),
        (3, false, false),
        (4, false, false),
        (5, false, false),
        (6, false, false),
        (9, true, true),
        (11, true, true),
        (12, true, false),
        (14, false, false),
    ] {
        let access = 0x80 | kind;
        assert_eq!(answer(prepared(&LAR, FREE, access)).is_some(), has_rights);
        assert_eq!(answer(prepared(&LSL, FREE, access)).is_some(), has_limit);
    }
}

#[test]
fn reading_and_writing_are_told_apart() {
    for (access, readable, writable) in [
        (0x91, true, false),
        (0x93, true, true),
        (0x99, false, false),
        (0x9B, true, false),
        (0x82, false, false),
    ] {
        assert_eq!(answer(prepared(&VERR, FREE, access)).is_some(), readable);
        assert_eq!(answer(prepared(&VERW, FREE, access)).is_some(), writable);
    }
}

#[test]
fn arpl_raises_the_requested_privilege() {
    // arpl cx, ax
    for (target, source, expected, zero) in [
        (0x10, 3, 0x13, true),
        (0x12, 2, 0x12, false),
        (0x13, 1, 0x13, false),
    ] {
        let mut cpu = protected_system(&[0x63, 0xC1]);
        change(&mut cpu, |state| {
            state.general[0] = source;
            state.general[1] = target;
        });
        let state = step(&mut cpu);
        assert_eq!(state.general[1], expected);
        assert_eq!(state.rflags & ZF != 0, zero);
    }
}
