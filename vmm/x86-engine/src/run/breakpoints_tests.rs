use iced_x86::code_asm::*;
use proptest::prelude::*;

use super::*;
use crate::test_support::{CODE, DATA, assemble, long_mode_cpu};

/// Loops, a repeated string instruction, a jump to itself that ends, calls, and a place between instructions' beginnings.
fn program() -> Vec<u8> {
    assemble(|a| {
        let (mut outer, mut function, mut spin, mut end) = (
            a.create_label(),
            a.create_label(),
            a.create_label(),
            a.create_label(),
        );
        a.mov(ebx, 5)?;
        a.set_label(&mut outer)?;
        a.mov(edi, DATA as u32)?;
        a.mov(ecx, 7)?;
        a.rep().stosb()?;
        a.call(function)?;
        a.mov(ecx, 3)?;
        a.set_label(&mut spin)?;
        a.loop_(spin)?;
        a.dec(ebx)?;
        a.jnz(outer)?;
        a.jmp(end)?;
        a.set_label(&mut function)?;
        a.inc(eax)?;
        a.ret()?;
        a.set_label(&mut end)?;
        a.nop()?;
        a.nop()
    })
}

const INSTRUCTIONS: u64 = 85;

/// Instruction by instruction: after how many an address was arrived at, and where.
fn one_by_one(addresses: &[u64]) -> Vec<(u64, u64)> {
    let mut cpu = long_mode_cpu(&program());
    let mut hits = Vec::new();
    while cpu.instructions() < INSTRUCTIONS {
        let before = cpu.save().rip;
        assert_eq!(
            cpu.run(Goal::Instructions(cpu.instructions() + 1)),
            Stop::Reached
        );
        let after = cpu.save().rip;
        if after != before && addresses.contains(&after) {
            hits.push((cpu.instructions(), after));
        }
    }
    hits
}

/// The same in pieces of these lengths.
fn in_pieces(addresses: &[u64], pieces: &[u64]) -> Vec<(u64, u64)> {
    let mut cpu = long_mode_cpu(&program());
    let mut pieces = pieces.iter().cycle();
    let mut hits = Vec::new();
    while cpu.instructions() < INSTRUCTIONS {
        let piece = pieces.next().expect("it goes round");
        let goal = (cpu.instructions() + piece).min(INSTRUCTIONS);
        assert_eq!(
            cpu.run_to_addresses(Goal::Instructions(goal), addresses),
            Stop::Reached
        );
        if cpu.arrived_at(addresses) {
            hits.push((cpu.instructions(), cpu.save().rip));
        } else {
            assert_eq!(cpu.instructions(), goal);
        }
    }
    hits
}

#[test]
fn a_loop_stops_at_its_instructions_every_time() {
    let function = one_by_one(&[CODE + 5]);
    assert_eq!(function.len(), 5, "{function:?}");
    assert_eq!(in_pieces(&[CODE + 5], &[u64::MAX / 2]), function);
}

proptest! {
    #[test]
    fn addresses_are_arrived_at_whatever_the_pieces(
        offsets in prop::collection::btree_set(0..program().len() as u64, 0..6),
        pieces in prop::collection::vec(1_u64..40, 1..6),
    ) {
        let addresses: Vec<u64> = offsets.into_iter().map(|offset| CODE + offset).collect();
        prop_assert_eq!(in_pieces(&addresses, &pieces), one_by_one(&addresses));
    }
}
