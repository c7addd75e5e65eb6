use crate::{
    Exit, Goal, Reply, Stop,
    cpu::{EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE},
    isa::system::test_support::*,
    model,
    run::Cpu,
    test_support::CODE,
};

const RDMSR: [u8; 2] = [0x0F, 0x32];
const WRMSR: [u8; 2] = [0x0F, 0x30];

fn prepared(code: &[u8], register: u32, value: u64) -> Cpu {
    let mut cpu = long_system(code);
    change(&mut cpu, |state| {
        state.general[0] = value & 0xFFFF_FFFF | 0xAAAA << 32;
        state.general[2] = value >> 32 | 0xAAAA << 32;
        state.general[1] = u64::from(register) | 0xAAAA << 32;
    });
    cpu
}

/// Writes, then reads back; `None` if the write raises #GP.
fn round_trip(register: u32, value: u64) -> Option<u64> {
    let mut cpu = prepared(&[WRMSR, RDMSR].concat(), register, value);
    if step(&mut cpu).rip == handler(13) {
        return None;
    }
    let state = step(&mut cpu);
    Some(state.general[2] << 32 | state.general[0])
}

const NOT_CANONICAL: u64 = 0x8000_0000_0000;
const HIGH: u64 = 0xFFFF_FFFF_8100_0000;

#[test]
fn addresses_must_be_canonical() {
    for register in [
        0x175,
        0x176,
        0xC000_0082,
        0xC000_0083,
        0xC000_0100,
        0xC000_0101,
        0xC000_0102,
    ] {
        assert_eq!(round_trip(register, HIGH), Some(HIGH), "{register:#x}");
        assert_eq!(round_trip(register, NOT_CANONICAL), None, "{register:#x}");
    }
}

#[test]
fn other_registers_hold_what_they_can() {
    let pat = 0x0007_0106_0507_0406;
    assert_eq!(round_trip(0x277, pat), Some(pat));
    assert_eq!(round_trip(0x277, 2), None);
    assert_eq!(round_trip(0x277, 8 << 56), None);
    assert_eq!(round_trip(0x174, 0x1_0010), Some(0x10));
    assert_eq!(round_trip(0xC000_0081, u64::MAX), Some(u64::MAX));
    assert_eq!(round_trip(0xC000_0084, 0x4_7700), Some(0x4_7700));
    assert_eq!(round_trip(0xC000_0103, 7), Some(7));
    assert_eq!(round_trip(0xC000_0103, 1 << 32), None);
    assert_eq!(round_trip(0x1A0, 0), Some(0));
    assert_eq!(round_trip(0x1A0, 1 << 22), None);
    assert_eq!(round_trip(0x1B, 0xFEE0_0100), Some(0xFEE0_0100));
    assert_eq!(round_trip(0x1B, 0xFEE0_0900), None);
    assert_eq!(round_trip(0x48, 0x403), Some(0x403));
    assert_eq!(round_trip(0x48, 4), None);
    // The command can be written, not read.
    assert_eq!(step(&mut prepared(&WRMSR, 0x49, 1)).rip, CODE + 2);
    assert_eq!(step(&mut prepared(&WRMSR, 0x49, 2)).rip, handler(13));
    assert_eq!(step(&mut prepared(&RDMSR, 0x49, 0)).rip, handler(13));
    assert_eq!(round_trip(0x1D9, 0), Some(0));
    assert_eq!(round_trip(0x1D9, 2), None);
    assert_eq!(round_trip(0x8B, 0), Some(1 << 32));
}

#[test]
fn what_does_not_exist_is_a_general_protection() {
    // MTRRcap, MCG_CAP, x2APIC ID, an unknown one.
    for register in [0xFE, 0x179, 0x802, 0x1234_5678] {
        for code in [RDMSR, WRMSR] {
            let mut cpu = prepared(&code, register, 0);
            let (state, vector) = run_to_handler(&mut cpu);
            assert_eq!(vector, 13);
            assert_eq!(words(&cpu, &state, 2), [0, CODE]);
        }
    }
    assert_eq!(round_trip(0x10A, 0), None);
}

#[test]
fn arch_capabilities_are_the_models() {
    let mut cpu = prepared(&RDMSR, 0x10A, 0);
    let state = step(&mut cpu);
    assert_eq!(
        state.general[2] << 32 | state.general[0],
        model::ARCH_CAPABILITIES
    );
}

#[test]
fn efer_protects_long_mode() {
    let on = EFER_LME | EFER_LMA;
    let all = on | EFER_SCE | EFER_NXE;
    assert_eq!(round_trip(0xC000_0080, all), Some(all));
    // LMA is not written, LME cannot change under paging.
    assert_eq!(round_trip(0xC000_0080, EFER_LME), Some(on));
    assert_eq!(round_trip(0xC000_0080, 0), None);
    assert_eq!(round_trip(0xC000_0080, on | 1 << 12), None);
}

#[test]
fn user_code_has_no_access() {
    for code in [RDMSR, WRMSR] {
        let mut cpu = prepared(&code, 0xC000_0100, 0);
        enter_user(&mut cpu);
        assert_eq!(run_to_handler(&mut cpu).1, 13);
    }
}

#[test]
fn the_time_stamp_counter_comes_from_outside() {
    let mut cpu = prepared(&RDMSR, 0x10, 0);
    assert_eq!(
        cpu.run(Goal::Exit),
        Stop::Exit(Exit::TscRead { with_aux: false })
    );
    cpu.reply(Reply::Tsc {
        value: 0x1_2345_6789,
    });
    let state = cpu.save();
    assert_eq!((state.general[0], state.general[2]), (0x2345_6789, 1));
    assert_eq!(state.rip, CODE + 2);
}

#[test]
fn a_base_counts_for_the_next_access() {
    // wrmsr; mov eax, gs:[0]
    let mut cpu = prepared(
        &[0x0F, 0x30, 0x65, 0x8B, 0x04, 0x25, 0, 0, 0, 0],
        0xC000_0101,
        0x20_0000,
    );
    write_u64(&mut cpu, 0x20_0000, 0x99);
    step(&mut cpu);
    assert_eq!(step(&mut cpu).general[0], 0x99);
}
