use crate::{
    Exit, Goal, Reply, Stop,
    cpu::CR4_DE,
    flags::{DF, IOPL, TF},
    isa::system::test_support::*,
    run::Cpu,
    test_support::{CODE, DATA},
};

/// The I/O permission bitmap of the tests begins here in the TSS.
const BITMAP: u64 = 0x68;

fn run(cpu: &mut Cpu) -> Stop {
    cpu.run(Goal::Exit)
}

fn port_read(port: u16, width: u8) -> Stop {
    Stop::Exit(Exit::PortRead { port, width })
}

fn port_write(port: u16, width: u8, value: u32) -> Stop {
    Stop::Exit(Exit::PortWrite { port, width, value })
}

#[test]
fn input_goes_to_the_accumulator() {
    for (code, port, width, expected) in [
        (&[0xE4, 0x60][..], 0x60, 1, 0xFFFF_FFFF_FFFF_FF78),
        (&[0x66, 0xE5, 0x61], 0x61, 2, 0xFFFF_FFFF_FFFF_5678),
        (&[0xE5, 0x62], 0x62, 4, 0x1234_5678),
        (&[0xEC], 0x3F8, 1, 0xFFFF_FFFF_FFFF_FF78),
        (&[0x66, 0xED], 0x3F8, 2, 0xFFFF_FFFF_FFFF_5678),
        (&[0xED], 0x3F8, 4, 0x1234_5678),
    ] {
        let mut cpu = long_system(code);
        change(&mut cpu, |state| {
            state.general[0] = u64::MAX;
            state.general[2] = 0x1_03F8;
        });
        assert_eq!(run(&mut cpu), port_read(port, width));
        cpu.reply(Reply::Port(0x1234_5678));
        let state = cpu.save();
        assert_eq!(state.general[0], expected);
        assert_eq!(state.rip, CODE + code.len() as u64);
        assert_eq!((state.since_exit, state.retired), (0, 1));
    }
}

#[test]
fn output_tells_the_value() {
    for (code, port, width, value) in [
        (&[0xE6, 0x60][..], 0x60, 1, 0x78),
        (&[0x66, 0xE7, 0x61], 0x61, 2, 0x5678),
        (&[0xE7, 0x62], 0x62, 4, 0x1234_5678),
        (&[0xEE], 0x3F8, 1, 0x78),
        (&[0x66, 0xEF], 0x3F8, 2, 0x5678),
        (&[0xEF], 0x3F8, 4, 0x1234_5678),
    ] {
        let mut cpu = long_system(code);
        change(&mut cpu, |state| {
            state.general[0] = 0x1234_5678;
            state.general[2] = 0x3F8;
        });
        assert_eq!(run(&mut cpu), port_write(port, width, value));
        cpu.reply(Reply::None);
        assert_eq!(cpu.save().rip, CODE + code.len() as u64);
    }
}

#[test]
fn the_bitmap_decides_for_users() {
    // in eax, dx
    let prepared = |port: u64, bits: &[u8]| {
        let mut cpu = long_system(&[0xED]);
        cpu.ram_mut()
            .write(TSS + 102, &(BITMAP as u16).to_le_bytes());
        cpu.ram_mut().write(TSS + BITMAP, &[0xFF; 0x2001]);
        cpu.ram_mut().write(TSS + BITMAP + port / 8, bits);
        enter_user(&mut cpu);
        change(&mut cpu, |state| state.general[2] = port);
        cpu
    };
    // Ports 0x3FE to 0x401 cross a byte.
    let mut cpu = prepared(0x3FE, &[0x3F, 0xFC]);
    assert_eq!(run(&mut cpu), port_read(0x3FE, 4));
    for bits in [[0x7F, 0xFC], [0x3F, 0xFD], [0x3F, 0xFE]] {
        assert_eq!(run_to_handler(&mut prepared(0x3FE, &bits)).1, 13);
    }
    // The last ports have the byte of ones behind them.
    let mut cpu = prepared(0xFFFC, &[0x0F, 0xFF]);
    assert_eq!(run(&mut cpu), port_read(0xFFFC, 4));
    let mut cpu = prepared(0xFFFD, &[0x0F, 0xFF]);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
    // With IOPL nobody asks.
    let mut cpu = prepared(0x80, &[0xFF, 0xFF]);
    change(&mut cpu, |state| state.rflags |= IOPL);
    assert_eq!(run(&mut cpu), port_read(0x80, 4));
    // A bitmap beyond the limit allows nothing.
    let mut cpu = prepared(0x80, &[0, 0]);
    change(&mut cpu, |state| state.tr.limit = 0x68 + 0x10);
    assert_eq!(run_to_handler(&mut cpu).1, 13);
}

#[test]
fn repeated_input_is_one_exit_an_element() {
    // rep insw
    let mut cpu = long_system(&[0xF3, 0x66, 0x6D]);
    change(&mut cpu, |state| {
        state.general[1] = 3;
        state.general[2] = 0x1F0;
        state.general[7] = DATA;
    });
    for index in 0..3 {
        assert_eq!(run(&mut cpu), port_read(0x1F0, 2));
        assert_eq!(cpu.save().rip, CODE);
        assert_eq!(cpu.save().general[1], 3 - index);
        cpu.reply(Reply::Port(0x1111 * (index as u32 + 1)));
        assert_eq!(cpu.retired(), index + 1);
    }
    let state = cpu.save();
    assert_eq!(read_u64(&cpu, DATA), 0x3333_2222_1111);
    assert_eq!((state.general[1], state.general[7]), (0, DATA + 6));
    assert_eq!(state.rip, CODE + 3);
}

#[test]
fn a_count_of_zero_does_nothing() {
    for code in [[0xF3, 0x6C], [0xF3, 0x6E]] {
        let mut cpu = long_system(&code);
        let state = step(&mut cpu);
        assert_eq!((state.rip, state.retired), (CODE + 2, 1));
    }
}

#[test]
fn output_strings_go_down_with_the_direction_flag() {
    // rep outsb
    let mut cpu = long_system(&[0xF3, 0x6E]);
    cpu.ram_mut().write(DATA, b"ab");
    change(&mut cpu, |state| {
        state.rflags |= DF;
        state.general[1] = 2;
        state.general[2] = 0xE9;
        state.general[6] = DATA + 1;
    });
    assert_eq!(run(&mut cpu), port_write(0xE9, 1, u32::from(b'b')));
    cpu.reply(Reply::None);
    // A state saved between two elements goes on.
    let state = cpu.save();
    cpu.restore(&state).expect("this version's state");
    assert_eq!(run(&mut cpu), port_write(0xE9, 1, u32::from(b'a')));
    cpu.reply(Reply::None);
    let state = cpu.save();
    assert_eq!((state.general[1], state.general[6]), (0, DATA - 1));
    assert_eq!(state.rip, CODE + 2);
}

#[test]
fn no_answer_is_lost_to_a_page_fault() {
    let mut cpu = long_system(&[0x6D]);
    change(&mut cpu, |state| {
        state.general[2] = 0x1F0;
        state.general[7] = (1 << 30) - 2;
    });
    // The second page of the destination is not mapped: no exit comes first.
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 14);
    assert_eq!(state.cr2, 1 << 30);
    assert_eq!(words(&cpu, &state, 1), [2]);
}

#[test]
fn strings_can_go_from_a_device_to_a_port() {
    // outsd, from beyond memory
    let mut cpu = long_system(&[0x6F]);
    change(&mut cpu, |state| {
        state.general[2] = 0xE9;
        state.general[6] = 0x3000_0000;
    });
    assert_eq!(
        run(&mut cpu),
        Stop::Exit(Exit::MmioRead {
            address: 0x3000_0000,
            width: 4
        })
    );
    cpu.reply(Reply::Mmio([1, 2, 3, 4, 0, 0, 0, 0]));
    assert_eq!(run(&mut cpu), port_write(0xE9, 4, 0x0403_0201));
    cpu.reply(Reply::None);
    assert_eq!(cpu.save().rip, CODE + 1);
}

#[test]
fn a_port_access_is_stepped_and_watched() {
    let mut cpu = long_system(&[0xEC, 0x90]);
    change(&mut cpu, |state| {
        state.general[2] = 0x3F8;
        state.rflags |= TF;
        state.cr4 |= CR4_DE;
        state.debug[2] = 0x3F8;
        // I/O, one byte, DR2.
        state.debug[7] |= 1 << 4 | 2 << 24;
    });
    assert_eq!(run(&mut cpu), port_read(0x3F8, 1));
    cpu.reply(Reply::Port(0));
    let (state, vector) = run_to_handler(&mut cpu);
    assert_eq!(vector, 1);
    assert_eq!(state.debug[6], 0xFFFF_4FF4);
    assert_eq!(words(&cpu, &state, 1), [CODE + 1]);
}
