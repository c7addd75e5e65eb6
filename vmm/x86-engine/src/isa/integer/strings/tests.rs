//! Runs against single elements: stopped anywhere, overlapping anyhow, across pages, over code and page tables; faults and devices in the middle.

use proptest::prelude::*;

use crate::{
    cpu::{Halt, SegmentName},
    decode::translate::{Decoded, decode},
    exception::Exception,
    exit::{Exit, Goal, Reply, Stop},
    run::Cpu,
    state::State,
    test_support::{CODE, DATA, long_mode_cpu},
};

const PDPT: u64 = 0x2000;
/// Outside of memory.
const DEVICE: u64 = 0x100_0000;
const REGION_BYTES: usize = 4 * 4096;

/// REPE or REP.
const REPE: u8 = 0xF3;
const REPNE: u8 = 0xF2;

/// `rep` and an opcode of 1 to 8 bytes an element, with an address-size prefix if asked for.
fn repeated(opcode: u8, width: usize, narrow: bool) -> Vec<u8> {
    prefixed(REPE, opcode, width, narrow)
}

fn prefixed(prefix: u8, opcode: u8, width: usize, narrow: bool) -> Vec<u8> {
    let mut code = if narrow { vec![0x67] } else { vec![] };
    code.push(prefix);
    match width {
        1 => code.push(opcode),
        2 => code.extend([0x66, opcode | 1]),
        4 => code.push(opcode | 1),
        _ => code.extend([0x48, opcode | 1]),
    }
    code
}

#[derive(Clone, Debug)]
struct Case {
    code: Vec<u8>,
    from: u64,
    to: u64,
    count: u64,
    value: u64,
    down: bool,
    content: Vec<u8>,
}

/// What comparisons go on for long over: few different bytes, or hardly any equal ones.
fn monotonous() -> impl Strategy<Value = Vec<u8>> {
    let spots = prop::collection::vec((0..REGION_BYTES, any::<u8>()), 0..8);
    (any::<bool>(), spots).prop_map(|(counting, spots)| {
        let mut content: Vec<u8> = (0..REGION_BYTES)
            .map(|index| if counting { index as u8 } else { 0 })
            .collect();
        for (index, byte) in spots {
            content[index] = byte;
        }
        content
    })
}

fn cases(
    prefix: impl Strategy<Value = u8>,
    opcode: impl Strategy<Value = u8>,
    value: impl Strategy<Value = u64>,
    content: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = Case> {
    let places = (
        0..REGION_BYTES as u64,
        -70..70_i64,
        any::<bool>(),
        any::<u64>(),
    );
    let code = (
        prefix,
        opcode,
        prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)],
        any::<bool>(),
    );
    let down = prop::bool::weighted(0.2);
    (code, places, 0..3000_u64, value, down, content).prop_map(
        |((prefix, opcode, width, narrow), places, count, value, down, content)| {
            let (from, distance, near, far) = places;
            let to = if near {
                from.wrapping_add_signed(distance)
            } else {
                far
            };
            let region = REGION_BYTES as u64;
            Case {
                code: prefixed(prefix, opcode, width, narrow),
                from: DATA + region + from,
                to: DATA + region + to % region,
                count: count / width as u64,
                value,
                down,
                content,
            }
        },
    )
}

fn prepared(case: &Case) -> Cpu {
    let mut code = case.code.clone();
    // Two no-operations and a jump to itself.
    code.extend([0x90, 0x90, 0xEB, 0xFE]);
    let mut cpu = long_mode_cpu(&code);
    // Below and above, so that no case leaves it.
    for copy in 0..3 {
        cpu.ram_mut()
            .write(DATA + copy * REGION_BYTES as u64, &case.content);
    }
    let core = &mut cpu.core;
    core.general[0] = case.value;
    core.general[1] = case.count;
    core.general[6] = case.from;
    core.general[7] = case.to;
    core.flags.set(if case.down { 1 << 10 } else { 0 } | 0x8D7);
    cpu
}

fn memory(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; 3 * REGION_BYTES];
    cpu.ram().read(DATA, &mut bytes);
    bytes
}

/// Runs to each stop at once and unit by unit, and compares; returns the state at the end, at least two instructions after the string.
fn compare_with_single_units(case: &Case, stops: &[u64]) -> Cpu {
    let total = case.count.max(1) + 2;
    let mut stepped = prepared(case);
    let mut stopped = prepared(case);
    let mut stop = 0;
    for distance in stops.iter().copied().chain([total]) {
        stop = total.min(stop + distance);
        for count in stepped.instructions() + 1..=stop {
            assert_eq!(stepped.run(Goal::Instructions(count)), Stop::Reached);
        }
        assert_eq!(stopped.run(Goal::Instructions(stop)), Stop::Reached);
        assert_eq!(stopped.save(), stepped.save());
        assert!(memory(&stopped) == memory(&stepped));
    }
    stopped
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn however_far_it_runs_at_a_time_it_is_the_same(
        case in cases(
            Just(REPE),
            prop_oneof![Just(0xA4_u8), Just(0xAA), Just(0xAC)],
            any::<u64>(),
            prop::collection::vec(any::<u8>(), REGION_BYTES),
        ),
        stops in prop::collection::vec(1..2000_u64, 1..6),
    ) {
        let end = compare_with_single_units(&case, &stops);
        prop_assert_eq!(end.core.general[1], 0);
        prop_assert_eq!(end.core.rip, CODE + case.code.len() as u64 + 2);
    }

    #[test]
    fn however_far_it_compares_at_a_time_it_is_the_same(
        case in cases(
            prop_oneof![Just(REPE), Just(REPNE)],
            prop_oneof![Just(0xA6_u8), Just(0xAE)],
            prop_oneof![Just(0), 0..256_u64, Just(u64::MAX)],
            monotonous(),
        ),
        stops in prop::collection::vec(1..2000_u64, 1..6),
    ) {
        let end = compare_with_single_units(&case, &stops);
        prop_assert!(end.core.rip >= CODE + case.code.len() as u64 + 2);
    }
}

/// Copies 12 bytes of `content` to `offset` bytes after the beginning of the code that does that, stepped and at once.
fn copy_over_code(content: &[u8], offset: u64) -> Cpu {
    let code = [repeated(0xA4, 1, false), vec![0x90; 40]].concat();
    let prepare = || {
        let mut cpu = long_mode_cpu(&code);
        cpu.ram_mut().write(DATA, content);
        let core = &mut cpu.core;
        core.general[1] = 12;
        core.general[6] = DATA;
        core.general[7] = CODE + offset;
        cpu
    };
    let (mut stepped, mut whole) = (prepare(), prepare());
    for count in 1..=30 {
        assert_eq!(stepped.run(Goal::Instructions(count)), Stop::Reached);
    }
    assert_eq!(whole.run(Goal::Instructions(30)), Stop::Reached);
    assert_eq!(whole.save(), stepped.save(), "from byte {offset} on");
    whole
}

#[test]
fn code_that_a_string_was_copied_over_runs_as_it_is_then() {
    let increments = [0xFF, 0xC0].repeat(6);
    for offset in 2..12 {
        let cpu = copy_over_code(&increments, offset);
        assert_eq!(cpu.core.general[0], 6);
    }
}

#[test]
fn a_string_over_its_own_instruction_ends_it() {
    // F3 A4 becomes 90 A4: after one iteration, a no-operation and a single MOVSB, which makes itself a no-operation as well.
    let cpu = copy_over_code(&[0x90; 12], 0);
    assert_eq!(cpu.core.general[1], 11);
    assert_eq!(cpu.core.general[6], DATA + 2);
    // The opcode alone: it becomes a PAUSE.
    let cpu = copy_over_code(&[0x90; 12], 1);
    assert_eq!(cpu.core.general[1], 11);
    assert_eq!(cpu.core.general[6], DATA + 1);
}

#[test]
fn a_string_over_page_tables_changes_translations_at_once() {
    // The first gigabyte's entry becomes not present after 5 others were written below it; the sixth store cannot be undone,
    // and the fetch that follows faults.
    let code = repeated(0xAA, 8, false);
    let mut cpu = long_mode_cpu(&code);
    let core = &mut cpu.core;
    core.general[1] = 8;
    core.general[7] = PDPT - 5 * 8;
    let _ = cpu.run(Goal::Instructions(6));
    assert_eq!(cpu.core.general[1], 2);
    let mut entry = [1; 8];
    cpu.ram().read(PDPT, &mut entry);
    assert_eq!(entry, [0; 8]);
    assert!(cpu.core.tlb.physical(CODE, false).is_none());
    assert!(cpu.core.tlb.fetchable(CODE).is_none());
}

/// Executes the handler of `code` once, with a budget.
fn execute(cpu: &mut Cpu, code: &[u8], budget: u64) -> (Result<(), Halt>, u64) {
    let core = &mut cpu.core;
    let Decoded::Op(op, _) = decode(code, CODE, 0, core.code_size) else {
        panic!("{code:x?} is a whole instruction");
    };
    core.budget = budget;
    core.block_end = 1;
    let result = (op.run)(core, &op);
    (result, std::mem::take(&mut core.iterations))
}

#[test]
fn a_fault_in_the_middle_leaves_what_was_done() {
    let code = repeated(0xA4, 2, false);
    let mut cpu = long_mode_cpu(&code);
    // At 1 GB: one page of memory, and nothing after it.
    let ram = cpu.ram_mut();
    ram.write(PDPT + 8, &0x3007_u64.to_le_bytes());
    ram.write(0x3000, &0x4007_u64.to_le_bytes());
    ram.write(0x4000, &(DATA | 7).to_le_bytes());
    let page = 1 << 30;
    let core = &mut cpu.core;
    core.general[1] = 100;
    core.general[6] = DATA + 0x1000;
    core.general[7] = page + 0x1000 - 21;
    let (result, iterations) = execute(&mut cpu, &code, 1000);
    assert_eq!(result, Err(Halt::Exception));
    // Ten whole elements; the eleventh crosses into what is not there.
    assert_eq!(iterations, 10);
    let core = &cpu.core;
    assert_eq!(core.pending, Some(Exception::page_fault(2, page + 0x1000)));
    assert_eq!(core.general[1], 90);
    assert_eq!(core.general[6], DATA + 0x1000 + 20);
    assert_eq!(core.general[7], page + 0x1000 - 1);
}

#[test]
fn a_budget_ends_it_and_a_count_of_zero_does_nothing() {
    let code = repeated(0xAA, 4, false);
    let mut cpu = long_mode_cpu(&code);
    cpu.core.general[1] = 100;
    cpu.core.general[7] = DATA;
    assert_eq!(execute(&mut cpu, &code, 40), (Err(Halt::Repeat), 40));
    assert_eq!(execute(&mut cpu, &code, 60), (Ok(()), 60));
    assert_eq!(execute(&mut cpu, &code, 60), (Ok(()), 0));
    assert_eq!(cpu.core.general[7], DATA + 400);
    assert_eq!(cpu.core.pending, None);
}

#[test]
fn a_nothing_that_is_repeated_counts_one() {
    let code = [repeated(0xA4, 8, false), vec![0x90]].concat();
    let mut cpu = long_mode_cpu(&code);
    assert_eq!(cpu.run(Goal::Instructions(1)), Stop::Reached);
    assert_eq!(cpu.instructions(), 1);
    assert_eq!(cpu.core.rip, CODE + 3);
}

#[test]
fn elements_in_devices_are_exits_of_their_own() {
    let code = [repeated(0xA4, 4, false), vec![0x90; 4]].concat();
    let mut cpu = long_mode_cpu(&code);
    cpu.ram_mut().write(DATA, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let core = &mut cpu.core;
    core.general[1] = 2;
    core.general[6] = DATA;
    core.general[7] = DEVICE;
    for (index, data) in [[1, 2, 3, 4, 0, 0, 0, 0], [5, 6, 7, 8, 0, 0, 0, 0]]
        .into_iter()
        .enumerate()
    {
        let exit = Exit::MmioWrite {
            address: DEVICE + 4 * index as u64,
            width: 4,
            data,
        };
        assert_eq!(cpu.run(Goal::Exit), Stop::Exit(exit));
        cpu.reply(Reply::None);
        assert_eq!(cpu.core.general[1], 1 - index as u64);
    }
    assert_eq!(cpu.core.rip, CODE + 2);
    assert_eq!(cpu.retired(), 2);
}

#[test]
fn elements_from_a_device_to_a_device_are_two_exits_each() {
    let code = [repeated(0xA4, 1, false), vec![0x90; 4]].concat();
    let mut cpu = long_mode_cpu(&code);
    let core = &mut cpu.core;
    core.general[1] = 5;
    core.general[6] = DEVICE;
    core.general[7] = DEVICE + 0x100;
    for index in 0..5_u8 {
        let address = DEVICE + u64::from(index);
        let read = Exit::MmioRead { address, width: 1 };
        assert_eq!(cpu.run(Goal::Exit), Stop::Exit(read));
        cpu.reply(Reply::Mmio([index ^ 0x55; 8]));
        let write = Exit::MmioWrite {
            address: address + 0x100,
            width: 1,
            data: [index ^ 0x55, 0, 0, 0, 0, 0, 0, 0],
        };
        assert_eq!(cpu.run(Goal::Exit), Stop::Exit(write));
        // A processor that is saved in the middle of it goes on as well.
        let state = cpu.save();
        cpu.restore(&state).expect("this version's state");
        cpu.reply(Reply::None);
        assert_eq!(cpu.core.general[1], 4 - u64::from(index));
    }
    assert_eq!(cpu.retired(), 5);
    assert_eq!(cpu.core.rip, CODE + 2);
}

#[test]
fn a_copy_that_runs_into_a_device_counts_what_was_done_before() {
    let code = [repeated(0xA4, 1, false), vec![0x90; 4]].concat();
    let mut cpu = long_mode_cpu(&code);
    let end = cpu.ram().bytes();
    let core = &mut cpu.core;
    core.general[1] = 101;
    core.general[6] = end - 100;
    core.general[7] = DATA;
    let exit = Exit::MmioRead {
        address: end,
        width: 1,
    };
    assert_eq!(cpu.run(Goal::Exit), Stop::Exit(exit));
    assert_eq!(cpu.retired(), 100);
    cpu.reply(Reply::Mmio([7; 8]));
    assert_eq!(cpu.retired(), 101);
    assert_eq!(cpu.core.general[1], 0);
    assert_eq!(cpu.core.rip, CODE + 2);
}

/// A processor in 32-bit mode whose ES begins at [`DATA`] and ends after `limit` more bytes.
fn segmented_cpu(limit: u32) -> Cpu {
    let mut cpu = long_mode_cpu(&[]);
    let mut state = State::default();
    state.segments[SegmentName::Es as usize].base = DATA;
    state.segments[SegmentName::Es as usize].limit = limit;
    cpu.restore(&state).expect("this version's state");
    cpu
}

#[test]
fn a_run_ends_where_its_segment_does() {
    let code = repeated(0xAA, 4, false);
    // The last whole element begins at 996.
    let mut cpu = segmented_cpu(1001);
    cpu.core.general[0] = 0xFFFF_FFFF;
    cpu.core.general[1] = 300;
    assert_eq!(execute(&mut cpu, &code, 1000), (Err(Halt::Exception), 250));
    assert_eq!(cpu.core.pending, Some(Exception::general_protection(0)));
    assert_eq!((cpu.core.general[1], cpu.core.general[7]), (50, 1000));
    let mut bytes = [0; 1008];
    cpu.ram().read(DATA, &mut bytes);
    assert!(bytes[..1000].iter().all(|byte| *byte == 0xFF));
    assert_eq!(bytes[1000..], [0; 8]);
}

#[test]
fn sixteen_bit_offsets_wrap() {
    let code = repeated(0xAA, 1, true);
    let mut cpu = segmented_cpu(u32::MAX);
    let core = &mut cpu.core;
    core.general[0] = 7;
    // Only the low halves count, and only they change.
    core.general[1] = 0x5555_0000 | 0x200;
    core.general[7] = 0x1234_FF80;
    assert_eq!(execute(&mut cpu, &code, 1000), (Ok(()), 0x200));
    assert_eq!(cpu.core.general[1], 0x5555_0000);
    assert_eq!(cpu.core.general[7], 0x1234_0180);
    let mut bytes = vec![0; 0x1_0001];
    cpu.ram().read(DATA, &mut bytes);
    for (offset, byte) in bytes.into_iter().enumerate() {
        let stored = offset < 0x180 || (0xFF80..0x1_0000).contains(&offset);
        assert_eq!(byte, if stored { 7 } else { 0 }, "at {offset:#x}");
    }
}
