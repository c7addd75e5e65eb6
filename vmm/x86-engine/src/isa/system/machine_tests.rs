use crate::{
    Exit, Goal, Reply, Stop,
    cpu::{CR4_OSXSAVE, CR4_TSD},
    isa::system::test_support::*,
    model,
    test_support::{CODE, DATA},
};

#[test]
fn hlt_is_an_exit_for_the_kernel_alone() {
    let mut cpu = long_system(&[0xF4]);
    assert_eq!(cpu.run(Goal::Exit), Stop::Exit(Exit::Halt));
    assert_eq!(cpu.retired(), 1);
    assert_eq!(cpu.save().rip, CODE + 1);
    let mut cpu = long_system(&[0xF4]);
    enter_user(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}

#[test]
fn cpuid_is_the_models_and_shows_osxsave() {
    for (cr4, flag) in [(0, 0), (CR4_OSXSAVE, model::OSXSAVE)] {
        let mut cpu = long_system(&[0x0F, 0xA2]);
        change(&mut cpu, |state| {
            state.general[0] = 1;
            state.cr4 |= cr4;
        });
        let state = step(&mut cpu);
        let [a, b, c, d] = model::cpuid(1, 0);
        let found = [0, 3, 1, 2].map(|number| state.general[number]);
        assert_eq!(found, [a, b, c | flag, d].map(u64::from));
    }
}

#[test]
fn the_time_stamp_counter_is_asked_for() {
    for (code, with_aux, rcx) in [
        (&[0x0F, 0x31][..], false, u64::MAX),
        (&[0x0F, 0x01, 0xF9], true, 77),
    ] {
        let mut cpu = long_system(code);
        enter_user(&mut cpu);
        change(&mut cpu, |state| {
            state.general[1] = u64::MAX;
            state.msrs.tsc_aux = 77;
        });
        assert_eq!(cpu.run(Goal::Exit), Stop::Exit(Exit::TscRead { with_aux }));
        cpu.reply(Reply::Tsc {
            value: 0x11_2222_3333,
        });
        let state = cpu.save();
        assert_eq!((state.general[0], state.general[2]), (0x2222_3333, 0x11));
        assert_eq!(state.general[1], rcx);

        let mut cpu = long_system(code);
        enter_user(&mut cpu);
        change(&mut cpu, |state| state.cr4 |= CR4_TSD);
        assert_eq!(run_to_handler(&mut cpu).1, 13);
    }
}

#[test]
fn swapgs_exchanges_the_bases() {
    // swapgs; mov eax, gs:[0]
    let mut cpu = long_system(&[0x0F, 0x01, 0xF8, 0x65, 0x8B, 0x04, 0x25, 0, 0, 0, 0]);
    write_u64(&mut cpu, DATA, 0x77);
    change(&mut cpu, |state| {
        state.segments[5].base = 0x1000;
        state.msrs.kernel_gs_base = DATA;
    });
    let state = step(&mut cpu);
    assert_eq!(state.segments[5].base, DATA);
    assert_eq!(state.msrs.kernel_gs_base, 0x1000);
    assert_eq!(step(&mut cpu).general[0], 0x77);
    let mut cpu = long_system(&[0x0F, 0x01, 0xF8]);
    enter_user(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
    let mut cpu = long_system(&[0x0F, 0x01, 0xF8]);
    enter_compatibility(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 6);
}

#[test]
fn hints_do_nothing_even_with_bad_addresses() {
    for code in [
        &[0x90][..],
        &[0xF3, 0x90],
        // nop [rax]; prefetcht0 [rax]; prefetchw [rax]; cldemote [rax]; a reserved one
        &[0x0F, 0x1F, 0x00],
        &[0x0F, 0x18, 0x08],
        &[0x0F, 0x0D, 0x08],
        &[0x0F, 0x1C, 0x00],
        &[0x0F, 0x19, 0x00],
        // endbr64; rdsspq rax
        &[0xF3, 0x0F, 0x1E, 0xFA],
        &[0xF3, 0x48, 0x0F, 0x1E, 0xC8],
        // lfence; mfence; sfence
        &[0x0F, 0xAE, 0xE8],
        &[0x0F, 0xAE, 0xF0],
        &[0x0F, 0xAE, 0xF8],
    ] {
        let mut cpu = long_system(code);
        change(&mut cpu, |state| state.general[0] = 0x8000_0000_0000);
        let state = step(&mut cpu);
        assert_eq!(state.rip, CODE + code.len() as u64, "{code:x?}");
        assert_eq!(state.general[0], 0x8000_0000_0000);
    }
}

#[test]
fn clflush_faults_as_a_load_does() {
    let mut cpu = long_system(&[0x0F, 0xAE, 0x38]);
    change(&mut cpu, |state| state.general[0] = 1 << 30);
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!((vector, words(&cpu, &state, 1)[0]), (14, 0));
    let mut cpu = long_system(&[0x0F, 0xAE, 0x38]);
    assert_eq!(step(&mut cpu).rip, CODE + 3);
}

#[test]
fn what_cpuid_does_not_announce_is_undefined() {
    for code in [
        // ud2; ud1 eax, eax; ud0 eax, eax
        &[0x0F, 0x0B][..],
        &[0x0F, 0xB9, 0xC0],
        &[0x0F, 0xFF, 0xC0],
        // rdrand eax; rdseed eax; rdfsbase rax; rdpid rax
        &[0x0F, 0xC7, 0xF0],
        &[0x0F, 0xC7, 0xF8],
        &[0xF3, 0x48, 0x0F, 0xAE, 0xC0],
        &[0xF3, 0x0F, 0xC7, 0xF8],
        // invpcid rax, [rdi]; vmcall; vmmcall; monitor; mwait; clflushopt [rdi]; clwb [rdi]
        &[0x66, 0x0F, 0x38, 0x82, 0x07],
        &[0x0F, 0x01, 0xC1],
        &[0x0F, 0x01, 0xD9],
        &[0x0F, 0x01, 0xC8],
        &[0x0F, 0x01, 0xC9],
        &[0x66, 0x0F, 0xAE, 0x3F],
        &[0x66, 0x0F, 0xAE, 0x37],
        // movbe eax, [rdi]; andn eax, eax, eax; adcx eax, eax; vzeroupper
        &[0x0F, 0x38, 0xF0, 0x07],
        &[0xC4, 0xE2, 0x78, 0xF2, 0xC0],
        &[0x66, 0x0F, 0x38, 0xF6, 0xC0],
        &[0xC5, 0xF8, 0x77],
    ] {
        let mut cpu = long_system(code);
        let (state, vector) = run_to_handler(&mut cpu);
        assert_eq!(vector, 6, "{code:x?}");
        assert_eq!(words(&cpu, &state, 1), [CODE]);
    }
}

#[test]
fn performance_counters_never_count() {
    let mut cpu = long_system(&[0x0F, 0x33]);
    change(&mut cpu, |state| {
        state.general[0] = 5;
        state.general[1] = 1;
    });
    assert_eq!(step(&mut cpu).general[0], 0);
    let mut cpu = long_system(&[0x0F, 0x33]);
    change(&mut cpu, |state| state.general[1] = 2);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
    let mut cpu = long_system(&[0x0F, 0x33]);
    enter_user(&mut cpu);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}
