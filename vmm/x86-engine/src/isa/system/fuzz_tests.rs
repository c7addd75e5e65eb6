//! Whatever the tables, the registers and the operands are: no panic, no hang, and what was done is a function of the state.

use proptest::prelude::*;

use crate::{
    Exit, Goal, Reply, Stop,
    isa::system::test_support::*,
    run::Cpu,
    state::State,
    test_support::{CODE, DATA},
};

/// Opcodes of this family; a ModRM byte and operands follow.
const OPCODES: [&[u8]; 44] = [
    &[0x0F, 0x00],
    &[0x0F, 0x01],
    &[0x0F, 0x02],
    &[0x0F, 0x03],
    &[0x0F, 0x05],
    &[0x0F, 0x06],
    &[0x0F, 0x07],
    &[0x48, 0x0F, 0x07],
    &[0x0F, 0x20],
    &[0x0F, 0x21],
    &[0x0F, 0x22],
    &[0x0F, 0x23],
    &[0x0F, 0x30],
    &[0x0F, 0x32],
    &[0x0F, 0x33],
    &[0x0F, 0x34],
    &[0x0F, 0x35],
    &[0x0F, 0xA1],
    &[0x0F, 0xA2],
    &[0x0F, 0xB2],
    &[0x0F, 0xB4],
    &[0x17],
    &[0x1F],
    &[0x6C],
    &[0xF3, 0x6D],
    &[0xF3, 0x6F],
    &[0x8C],
    &[0x8E],
    &[0x9A],
    &[0x9C],
    &[0x9D],
    &[0xC5],
    &[0xCA],
    &[0xCB],
    &[0xCC],
    &[0xCD],
    &[0xCF],
    &[0x48, 0xCF],
    &[0x66, 0xCF],
    &[0xE5],
    &[0xEA],
    &[0xED],
    &[0xEF],
    &[0xFF],
];

/// Values that mean something to somebody.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..0x100,
        (0_u64..0x100).prop_map(|page| CODE + page * 8),
        (0_u64..0x100).prop_map(|page| DATA + page * 8),
        (0_u32..64).prop_map(|bit| 1 << bit),
        Just(0x3000_0000),
        0xC000_0080_u64..0xC000_0108,
    ]
}

#[derive(Clone, Debug)]
struct Case {
    mode: u8,
    code: Vec<u8>,
    general: [u64; 16],
    stack: [u64; 6],
    tables: Vec<(u64, u64)>,
    flags: u64,
    control: [u64; 2],
}

fn case() -> impl Strategy<Value = Case> {
    let tables = prop_oneof![
        (0..20_u64).prop_map(|slot| GDT + slot * 8),
        (0..64_u64).prop_map(|slot| IDT + slot * 8),
        (0..16_u64).prop_map(|slot| TSS + slot * 8),
    ];
    (
        0..4_u8,
        (0..OPCODES.len(), any::<[u8; 9]>()),
        proptest::array::uniform16(value()),
        proptest::array::uniform6(value()),
        proptest::collection::vec((tables, any::<u64>()), 0..4),
        any::<u64>(),
        any::<[u64; 2]>(),
    )
        .prop_map(
            |(mode, (opcode, rest), general, stack, tables, flags, control)| Case {
                mode,
                code: [OPCODES[opcode], &rest].concat(),
                general,
                stack,
                tables,
                flags,
                control,
            },
        )
}

fn prepare(case: &Case) -> Cpu {
    let mut cpu = if case.mode == 2 {
        protected_system(&case.code)
    } else {
        long_system(&case.code)
    };
    match case.mode {
        0 => enter_user(&mut cpu),
        1 => enter_compatibility(&mut cpu),
        _ => {}
    }
    for (address, value) in &case.tables {
        write_u64(&mut cpu, *address, *value);
    }
    change(&mut cpu, |state| {
        let stack = state.general[4];
        state.general = case.general;
        state.general[4] = stack;
        state.rflags = case.flags & 0x3C_7FD7 | 2;
        // Write protection, alignment; SMAP, SMEP, DE, TSD, OSXSAVE.
        state.cr0 ^= case.control[0] & 0x5_0000;
        state.cr4 ^= case.control[1] & 0x34_000C;
    });
    let top = cpu.save().general[4];
    for (index, value) in case.stack.iter().enumerate() {
        write_u64(&mut cpu, top + index as u64 * 8, *value);
    }
    cpu
}

/// Runs a few instructions, answering exits; how it stopped and the state at the end.
fn run(mut cpu: Cpu) -> (Vec<Stop>, State) {
    let mut stops = Vec::new();
    for _ in 0..20 {
        let stop = cpu.run(Goal::Instructions(20));
        stops.push(stop);
        match stop {
            Stop::Reached | Stop::Exit(Exit::Shutdown) => break,
            Stop::Exit(Exit::PortRead { .. }) => cpu.reply(Reply::Port(0x1234_5678)),
            Stop::Exit(Exit::MmioRead { .. }) => cpu.reply(Reply::Mmio([0xAB; 8])),
            Stop::Exit(Exit::TscRead { .. }) => cpu.reply(Reply::Tsc { value: 7 }),
            Stop::Exit(_) => cpu.reply(Reply::None),
        }
        if cpu.accepts_interrupts() {
            cpu.interrupt(0x20);
        }
    }
    (stops, cpu.save())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_state_has_one_future(case in case()) {
        let first = run(prepare(&case));
        let mut again = prepare(&case);
        let state = again.save();
        again.restore(&state).expect("this version's state");
        prop_assert_eq!(first, run(again));
    }
}
