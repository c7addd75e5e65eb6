use crate::{
    Exit, Goal, Stop,
    cpu::{
        CR0_CD, CR0_EM, CR0_ET, CR0_MP, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP,
        CR4_OSXSAVE, CR4_PAE, CR4_SMEP, EFER_LMA, EFER_LME,
    },
    isa::system::test_support::*,
    test_support::{CODE, DATA, STACK},
};

/// The PML4 of `test_support`.
const TABLES: u64 = 0x1000;
/// mov cr0, rax
const MOV_CR0: [u8; 3] = [0x0F, 0x22, 0xC0];
const MOV_CR3: [u8; 3] = [0x0F, 0x22, 0xD8];
const MOV_CR4: [u8; 3] = [0x0F, 0x22, 0xE0];
/// mov cr8, rax
const MOV_CR8: [u8; 4] = [0x44, 0x0F, 0x22, 0xC0];

/// The vector that an instruction with `rax` as operand ends in, or `None` if it completes.
fn outcome(code: &[u8], rax: u64) -> Option<u8> {
    let mut cpu = long_system(code);
    change(&mut cpu, |state| state.general[0] = rax);
    let state = step(&mut cpu);
    (state.rip != CODE + code.len() as u64).then(|| run_to_handler(&mut cpu).1)
}

#[test]
fn cr0_refuses_impossible_combinations_and_keeps_what_exists() {
    let on = CR0_PE | CR0_PG;
    for refused in [1 << 32 | on, CR0_PG, on | CR0_NW, CR0_PE] {
        assert_eq!(outcome(&MOV_CR0, refused), Some(13), "{refused:#x}");
    }
    let mut cpu = long_system(&MOV_CR0);
    change(&mut cpu, |state| state.general[0] = 0xFFFF_FFFF);
    let all = on | 0x3E | CR0_WP | 1 << 18 | CR0_NW | CR0_CD;
    assert_eq!(step(&mut cpu).cr0, all);
}

#[test]
fn real_mode_is_a_shutdown() {
    let mut cpu = protected_system(&MOV_CR0);
    change(&mut cpu, |state| state.general[0] = 0);
    assert_eq!(cpu.run(Goal::Exit), Stop::Exit(Exit::Shutdown));
}

#[test]
fn cr4_has_the_bits_of_announced_features() {
    assert_eq!(outcome(&MOV_CR4, 0x34_07BC), None);
    for refused in [
        1 << 0,
        1 << 1,
        1 << 6,
        1 << 11,
        1 << 13,
        1 << 16,
        1 << 17,
        1 << 22,
    ] {
        assert_eq!(
            outcome(&MOV_CR4, CR4_PAE | refused),
            Some(13),
            "{refused:#x}"
        );
    }
    // Long mode needs PAE.
    assert_eq!(outcome(&MOV_CR4, 0), Some(13));
}

#[test]
fn cr3_and_cr8_have_reserved_bits() {
    assert_eq!(outcome(&MOV_CR3, 1 << 40 | TABLES), Some(13));
    assert_eq!(outcome(&MOV_CR3, TABLES | 0x18), None);
    assert_eq!(outcome(&MOV_CR8, 16), Some(13));
    assert_eq!(outcome(&MOV_CR8, 15), None);
}

#[test]
fn control_registers_that_do_not_exist_are_undefined() {
    // mov rax, cr1; mov cr5, rax
    assert_eq!(outcome(&[0x0F, 0x20, 0xC8], 0), Some(6));
    assert_eq!(outcome(&[0x0F, 0x22, 0xE8], 0), Some(6));
}

#[test]
fn user_code_reads_no_control_register() {
    for code in [[0x0F, 0x20, 0xC0], MOV_CR0, [0x0F, 0x01, 0x38]] {
        let mut cpu = long_system(&code);
        enter_user(&mut cpu);
        assert_eq!(run_to_handler(&mut cpu).1, 13);
    }
}

#[test]
fn a_change_of_page_tables_takes_effect_with_the_next_instruction() {
    // mov cr3, rax; mov rcx, [rdi]
    let mut cpu = long_system(&[0x0F, 0x22, 0xD8, 0x48, 0x8B, 0x0F]);
    // Another set of tables, which maps the second gigabyte to the first.
    write_u64(&mut cpu, 0x9000, 0xA007);
    write_u64(&mut cpu, 0xA000, 0x87);
    write_u64(&mut cpu, 0xA008, 0x87);
    write_u64(&mut cpu, DATA, 0x1234);
    change(&mut cpu, |state| {
        state.general[0] = 0x9000;
        state.general[7] = (1 << 30) + DATA;
    });
    step(&mut cpu);
    assert_eq!(step(&mut cpu).general[1], 0x1234);
}

#[test]
fn smep_forbids_user_code_in_the_kernel_at_once() {
    let mut cpu = long_system(&[0x0F, 0x22, 0xE0, 0x90]);
    change(&mut cpu, |state| state.general[0] = CR4_PAE | CR4_SMEP);
    step(&mut cpu);
    // The handlers are user pages too.
    cpu.run(Goal::Instructions(cpu.instructions() + 1));
    let state = cpu.save();
    assert_eq!(state.cr2, CODE + 3);
    assert_eq!(words(&cpu, &state, 2), [0x11, CODE + 3]);
}

/// SDM 3A 9.8.5: PAE, CR3, LME, PG, then a far jump.
#[test]
fn protected_mode_becomes_long_mode() {
    let mut cpu = protected_system(&[
        0x0F, 0x22, 0xE0, // mov cr4, eax
        0x0F, 0x22, 0xDB, // mov cr3, ebx
        0x0F, 0x20, 0xC0, // mov eax, cr0
        0x0D, 0, 0, 0, 0x80, // or eax, 1 << 31
        0x0F, 0x22, 0xC0, // mov cr0, eax
        0xEA, 0, 0, 0x20, 0, 0x08, 0, // jmp 8:DATA
    ]);
    set_descriptor(&mut cpu, KERNEL_CODE, descriptor(0, 0xF_FFFF, 0xA09B));
    cpu.ram_mut().write(DATA, &[0x48, 0xFF, 0xC0]);
    change(&mut cpu, |state| {
        state.general[0] = CR4_PAE;
        state.general[3] = TABLES;
        state.efer = EFER_LME;
    });
    for _ in 0..5 {
        step(&mut cpu);
    }
    let state = cpu.save();
    assert_eq!(state.efer, EFER_LME | EFER_LMA);
    // Compatibility mode until CS is loaded.
    assert_eq!(step(&mut cpu).segments[1].access, 0xA09B);
    change(&mut cpu, |state| state.general[0] = u64::MAX);
    // inc rax, in 64-bit code.
    assert_eq!(step(&mut cpu).general[0], 0);
}

#[test]
fn long_mode_needs_pae_and_code_that_is_not_64_bit() {
    let prepared = || {
        let mut cpu = protected_system(&MOV_CR0);
        change(&mut cpu, |state| {
            state.general[0] = CR0_PE | CR0_PG;
            state.efer = EFER_LME;
            state.cr3 = TABLES;
        });
        cpu
    };
    assert_eq!(run_to_handler(&mut prepared()).1, 13);
    let mut cpu = prepared();
    change(&mut cpu, |state| {
        state.cr4 = CR4_PAE;
        state.segments[1].access |= 1 << 13;
    });
    assert_eq!(run_to_handler(&mut cpu).1, 13);
    let mut cpu = prepared();
    change(&mut cpu, |state| state.cr4 = CR4_PAE);
    assert_eq!(step(&mut cpu).efer, EFER_LME | EFER_LMA);
}

#[test]
fn compatibility_code_can_leave_long_mode() {
    let mut cpu = long_system(&MOV_CR0);
    change(&mut cpu, |state| {
        state.segments[1].access = 0xC09B;
        state.general[0] = CR0_PE;
    });
    let state = step(&mut cpu);
    assert_eq!(state.efer & EFER_LMA, 0);
    assert_eq!(state.cr0, CR0_PE | CR0_ET);
}

#[test]
fn pae_paging_loads_and_checks_its_pointers() {
    let prepared = |third: u64| {
        let mut cpu = protected_system(&[0x0F, 0x22, 0xC0, 0x8B, 0x0F]);
        for (index, entry) in [0xB001, 0xB001, third, 0].into_iter().enumerate() {
            write_u64(&mut cpu, 0x9020 + index as u64 * 8, entry);
        }
        for index in 0..4 {
            write_u64(&mut cpu, 0xB000 + index * 8, index << 21 | 0x83);
        }
        write_u64(&mut cpu, DATA, 0x5678);
        change(&mut cpu, |state| {
            state.general[0] = CR0_PE | CR0_PG;
            state.general[7] = (1 << 30) + DATA;
            state.cr3 = 0x9020;
            state.cr4 = CR4_PAE;
        });
        cpu
    };
    let mut cpu = prepared(0);
    assert_eq!(step(&mut cpu).pdpte, [0xB001, 0xB001, 0, 0]);
    assert_eq!(step(&mut cpu).general[1], 0x5678);
    assert_eq!(run_to_handler(&mut prepared(0xB003)).1, 13);
}

#[test]
fn clts_smsw_and_lmsw() {
    // clts
    let mut cpu = long_system(&[0x0F, 0x06]);
    change(&mut cpu, |state| state.cr0 |= CR0_TS);
    assert_eq!(step(&mut cpu).cr0 & CR0_TS, 0);
    // smsw rax, smsw eax, smsw ax
    for (code, expected) in [
        (&[0x48, 0x0F, 0x01, 0xE0][..], 0x8000_0031),
        (&[0x0F, 0x01, 0xE0], 0x8000_0031),
        (&[0x66, 0x0F, 0x01, 0xE0], 0xFFFF_FFFF_FFFF_0031),
    ] {
        let mut cpu = long_system(code);
        enter_user(&mut cpu);
        change(&mut cpu, |state| state.general[0] = u64::MAX);
        assert_eq!(step(&mut cpu).general[0], expected);
    }
    // lmsw ax: PE cannot be cleared, ET and NE are not touched.
    let mut cpu = long_system(&[0x0F, 0x01, 0xF0]);
    change(&mut cpu, |state| state.general[0] = 0xE);
    let expected = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_TS | CR0_MP | CR0_EM;
    assert_eq!(step(&mut cpu).cr0, expected);
}

#[test]
fn xsetbv_and_xgetbv_need_osxsave_and_x87() {
    let set = [0x0F, 0x01, 0xD1];
    let get = [0x0F, 0x01, 0xD0];
    assert_eq!(outcome(&set, 1), Some(6));
    assert_eq!(outcome(&get, 1), Some(6));
    for (value, refused) in [(1, false), (3, false), (2, true), (0, true), (7, true)] {
        let mut cpu = long_system(&[set, get].concat());
        change(&mut cpu, |state| {
            state.cr4 |= CR4_OSXSAVE;
            state.general[0] = value;
        });
        if refused {
            assert_eq!(run_to_handler(&mut cpu).1, 13);
        } else {
            step(&mut cpu);
            assert_eq!(step(&mut cpu).general[0], value);
        }
    }
}

#[test]
fn invlpg_has_nothing_to_do() {
    let mut cpu = long_system(&[0x0F, 0x01, 0x38]);
    change(&mut cpu, |state| state.general[0] = 0x8000_0000_0000);
    assert_eq!(step(&mut cpu).general[4], STACK);
}
