//! Every combination of rights against SDM 3A 4.6.1 written down once more, and the cases that have their own rules.

use crate::{
    cpu::{
        CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_LMA, EFER_LME, EFER_NXE, Segment,
    },
    flags::AC,
    memory::{Access, walk::Translation},
    run::Cpu,
    state::State,
    test_support::long_mode_cpu,
};

const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const ALL: u64 = 1 | W | U;

/// Tables of the tests, one a level: 0xA000 is the top one.
const TABLES: [u64; 4] = [0xA000, 0xB000, 0xC000, 0xD000];
/// Its indices are 1, 2, 3 and 4.
const LINEAR: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
const TARGET: u64 = 0x12_4000_0000;

fn cpu(edit: impl FnOnce(&mut State)) -> Cpu {
    let mut cpu = long_mode_cpu(&[]);
    let mut state = cpu.save();
    state.cr3 = TABLES[0];
    state.efer |= EFER_NXE;
    edit(&mut state);
    cpu.restore(&state).expect("this version's state");
    cpu
}

fn entry_address(level: usize) -> u64 {
    TABLES[level] + (level as u64 + 1) * 8
}

/// Maps LINEAR with a leaf at `level` (1 to 3), `upper` in the other entries.
fn map(cpu: &mut Cpu, level: usize, leaf: u64, upper: u64) {
    for above in 0..level {
        let value = TABLES[above + 1] | upper;
        cpu.core.ram.store(entry_address(above), value);
    }
    cpu.core.ram.store(entry_address(level), leaf);
}

fn leaf(level: usize) -> u64 {
    TARGET | if level < 3 { LARGE } else { 0 }
}

/// The translation, or the page fault's error code.
fn translate(cpu: &mut Cpu, linear: u64, access: Access) -> Result<Translation, u32> {
    cpu.core.translate(linear, access).map_err(|_| {
        let exception = cpu.core.pending.take().expect("a page fault");
        assert_eq!(
            (exception.vector, exception.fault_address),
            (14, Some(linear))
        );
        exception.error_code.expect("page faults have one")
    })
}

fn become_user(state: &mut State) {
    state.segments[2] = Segment {
        access: 0xC0F3,
        ..state.segments[2]
    };
}

/// What decides, besides the entries.
#[derive(Clone, Copy, Debug)]
struct Situation {
    user: bool,
    write_protect: bool,
    smep: bool,
    smap: bool,
    ac: bool,
}

impl Situation {
    fn all() -> impl Iterator<Item = Self> {
        (0..32).map(|bits| Self {
            user: bits & 1 != 0,
            write_protect: bits & 2 != 0,
            smep: bits & 4 != 0,
            smap: bits & 8 != 0,
            ac: bits & 16 != 0,
        })
    }

    fn cpu(self) -> Cpu {
        cpu(|state| {
            if self.user {
                become_user(state);
            }
            let set = |on: bool, bits: u64| if on { bits } else { 0 };
            state.cr0 |= set(self.write_protect, CR0_WP);
            state.cr4 |= set(self.smep, CR4_SMEP) | set(self.smap, CR4_SMAP);
            state.rflags |= set(self.ac, AC);
        })
    }

    fn allows(self, writable: bool, user_page: bool, no_execute: bool, access: Access) -> bool {
        let reachable = if self.user {
            user_page
        } else {
            !user_page || !self.smap || self.ac
        };
        match access {
            Access::Read => reachable,
            Access::Write => reachable && (writable || (!self.user && !self.write_protect)),
            Access::Fetch if self.user => user_page && !no_execute,
            Access::Fetch => !(no_execute || user_page && self.smep),
        }
    }
}

fn code(access: Access, user: bool) -> u32 {
    let kind = match access {
        Access::Read => 0,
        Access::Write => 2,
        Access::Fetch => 16,
    };
    kind | u32::from(user) << 2
}

#[test]
fn rights_are_those_of_all_levels_together() {
    let rights: Vec<u64> = (0..8)
        .map(|bits| 1 | (bits & 3) << 1 | (bits >> 2) << 63)
        .collect();
    for situation in Situation::all() {
        let mut cpu = situation.cpu();
        for (level, at_leaf, above) in (1..4).flat_map(|level| {
            let rights = &rights;
            rights
                .iter()
                .flat_map(move |a| rights.iter().map(move |b| (level, *a, *b)))
        }) {
            for access in [Access::Read, Access::Write, Access::Fetch] {
                map(&mut cpu, level, leaf(level) | at_leaf, above);
                let found = translate(&mut cpu, LINEAR, access);
                let both = at_leaf & above;
                let no_execute = (at_leaf | above) & NX != 0;
                let allowed = situation.allows(both & W != 0, both & U != 0, no_execute, access);
                let case = (situation, level, at_leaf, above, access);
                assert_eq!(found.is_ok(), allowed, "{case:x?}");
                if let Err(found) = found {
                    assert_eq!(found, 1 | code(access, situation.user), "{case:x?}");
                }
            }
        }
    }
}

#[test]
fn the_offset_is_as_wide_as_the_page() {
    for (level, within) in [(1, 0x3FFF_FFFF), (2, 0x1F_FFFF), (3, 0xFFF)] {
        let mut cpu = cpu(|_| {});
        // PAT, which is bit 12 of a large page, is no address bit.
        let pat = if level < 3 { 1 << 12 } else { 0 };
        map(&mut cpu, level, leaf(level) | pat | ALL, ALL);
        let found = translate(&mut cpu, LINEAR, Access::Read);
        let expected = TARGET | LINEAR & within;
        assert_eq!(found.map(|it| it.physical), Ok(expected));
    }
}

#[test]
fn accessed_and_dirty_are_set_by_what_is_allowed() {
    for level in 1..4 {
        for (access, at_leaf) in [
            (Access::Read, A),
            (Access::Fetch, A),
            (Access::Write, A | D),
        ] {
            let mut cpu = cpu(|_| {});
            map(&mut cpu, level, leaf(level) | ALL, ALL);
            let found = translate(&mut cpu, LINEAR, access).expect("it is mapped");
            assert_eq!(found.writable, access == Access::Write);
            let bits = |level| cpu.core.ram.load::<u64>(entry_address(level)) & (A | D);
            assert_eq!(bits(level), at_leaf);
            assert!((0..level).all(|above| bits(above) == A));
        }
        let mut cpu = cpu(become_user);
        map(&mut cpu, level, leaf(level) | 1 | U, ALL);
        assert_eq!(translate(&mut cpu, LINEAR, Access::Write), Err(7));
        for level in 0..=level {
            let entry: u64 = cpu.core.ram.load(entry_address(level));
            assert_eq!(entry & (A | D), 0);
        }
    }
}

#[test]
fn a_page_that_is_dirty_can_be_written_after_a_read() {
    let mut cpu = cpu(|_| {});
    map(&mut cpu, 3, leaf(3) | ALL | D, ALL);
    let found = translate(&mut cpu, LINEAR, Access::Read);
    assert!(found.is_ok_and(|it| it.writable && it.executable));
}

#[test]
fn missing_entries_and_reserved_bits_are_told_apart() {
    for level in 0..4 {
        let mut cpu = cpu(become_user);
        map(&mut cpu, 3, leaf(3) | ALL, ALL);
        let address = entry_address(level);
        let good: u64 = cpu.core.ram.load(address);
        cpu.core.ram.store(address, good & !1);
        assert_eq!(translate(&mut cpu, LINEAR, Access::Write), Err(6));
        for bit in 40..52 {
            cpu.core.ram.store(address, good | 1 << bit);
            assert_eq!(translate(&mut cpu, LINEAR, Access::Read), Err(0xD));
        }
        cpu.core.ram.store(address, good | 0x7FF << 52);
        assert!(translate(&mut cpu, LINEAR, Access::Read).is_ok());
    }
    // Large where no page is that large, or in the middle of one.
    let mut cpu = cpu(|_| {});
    map(&mut cpu, 3, leaf(3) | ALL, ALL | LARGE);
    assert_eq!(translate(&mut cpu, LINEAR, Access::Read), Err(9));
    for (level, bits) in [(1, 13..30), (2, 13..21)] {
        for bit in bits {
            map(&mut cpu, level, leaf(level) | 1 << bit | ALL, ALL);
            assert_eq!(translate(&mut cpu, LINEAR, Access::Read), Err(9));
        }
    }
}

#[test]
fn without_nxe_its_bit_is_reserved_and_fetches_are_not_told() {
    let mut cpu = cpu(|state| state.efer &= !EFER_NXE);
    map(&mut cpu, 3, leaf(3) | ALL | NX, ALL);
    assert_eq!(translate(&mut cpu, LINEAR, Access::Read), Err(9));
    map(&mut cpu, 3, 0, ALL);
    assert_eq!(translate(&mut cpu, LINEAR, Access::Fetch), Err(0));
}

#[test]
fn tables_outside_of_memory_lead_nowhere() {
    let mut cpu = cpu(|state| state.cr3 = 1 << 32);
    assert_eq!(translate(&mut cpu, LINEAR, Access::Read), Err(9));
}

/// 32-bit code with paging on.
fn narrow(cr4: u64, edit: impl FnOnce(&mut State)) -> Cpu {
    cpu(|state| {
        state.efer &= !(EFER_LME | EFER_LMA);
        state.segments[1].access = 0xC09B;
        state.cr0 |= CR0_PG | CR0_WP;
        state.cr4 = cr4;
        edit(state);
    })
}

#[test]
fn tables_of_32_bits() {
    let mut cpu = narrow(CR4_PSE, |_| {});
    let linear = 5 << 22 | 6 << 12 | 0x789;
    let (directory, table) = (TABLES[0] + 20, TABLES[1] + 24);
    cpu.core.ram.store(directory, TABLES[1] as u32 | 7);
    cpu.core.ram.store(table, 0x8765_4000_u32 | 3);
    let found = translate(&mut cpu, linear, Access::Write);
    assert_eq!(found.map(|it| it.physical), Ok(0x8765_4789));
    assert_eq!(cpu.core.ram.load::<u32>(table), 0x8765_4063);
    assert_eq!(cpu.core.ram.load::<u32>(directory), TABLES[1] as u32 | 0x27);
    // 4 MiB, with address bits 32 to 39 in bits 13 to 20 (PSE-36).
    cpu.core
        .ram
        .store(directory, 0x8740_0000_u32 | 0xAB << 13 | 0x83);
    let found = translate(&mut cpu, linear, Access::Read);
    assert_eq!(found.map(|it| it.physical), Ok(0xAB_8740_6789));
    cpu.core
        .ram
        .store(directory, 0x8740_0000_u32 | 1 << 21 | 0x83);
    assert_eq!(translate(&mut cpu, linear, Access::Read), Err(9));
    // Without CR4.PSE the bit means nothing.
    let mut cpu = narrow(0, |_| {});
    cpu.core.ram.store(directory, TABLES[1] as u32 | 0x87);
    cpu.core.ram.store(table, 0x8765_4000_u32 | 1);
    let found = translate(&mut cpu, linear, Access::Read);
    assert_eq!(found.map(|it| it.physical), Ok(0x8765_4789));
    assert_eq!(translate(&mut cpu, linear, Access::Write), Err(3));
}

#[test]
fn tables_of_pae() {
    let mut cpu = narrow(CR4_PAE, |state| {
        become_user(state);
        state.pdpte = [0, 0, TABLES[1] | 1, 0];
    });
    let linear = 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
    let (directory, table) = (TABLES[1] + 24, TABLES[2] + 32);
    cpu.core.ram.store(directory, TABLES[2] | ALL);
    cpu.core.ram.store(table, TARGET | ALL | NX);
    let found = translate(&mut cpu, linear, Access::Write);
    assert_eq!(found.map(|it| it.physical), Ok(TARGET | 0x567));
    assert_eq!(translate(&mut cpu, linear, Access::Fetch), Err(0x15));
    cpu.core.ram.store(directory, TARGET | LARGE | ALL);
    let found = translate(&mut cpu, linear, Access::Fetch);
    assert_eq!(found.map(|it| it.physical), Ok(TARGET | 0x4567));
    assert_eq!(translate(&mut cpu, 1 << 30, Access::Read), Err(4));
}

#[test]
fn without_paging_addresses_are_physical() {
    let mut cpu = narrow(0, |state| state.cr0 &= !CR0_PG);
    let found = translate(&mut cpu, 0x1_2345_6789, Access::Write);
    assert_eq!(found.map(|it| it.physical), Ok(0x2345_6789));
}
