//! Journals on a disk that performs what may be performed in any order.

use super::*;
use proptest::prelude::*;

/// Sectors of the test's disk.
const SECTORS: usize = 65;

struct Disk {
    sectors: Vec<Sector>,
    under_way: Vec<(Command, Sector)>,
    /// Decides what is performed next.
    random: u64,
    fails: bool,
}

impl Disk {
    fn new(seed: u64) -> Self {
        Self {
            sectors: vec![[0; SECTOR]; SECTORS],
            under_way: Vec::new(),
            random: seed | 1,
            fails: false,
        }
    }

    /// Performs one command that no earlier one overlaps; false: there is none.
    fn step(&mut self, journal: &mut Journal) -> bool {
        let mut data = [0; SECTOR];
        while let Some(command) = journal.next(&mut data) {
            self.under_way.push((command, data));
        }
        let free = |index: &usize| {
            let (earlier, rest) = self.under_way.split_at(*index);
            !earlier
                .iter()
                .any(|(earlier, _)| overlap(earlier, &rest[0].0))
        };
        let ready: Vec<usize> = (0..self.under_way.len()).filter(free).collect();
        if ready.is_empty() {
            return false;
        }
        self.random = xorshift(self.random);
        let (command, data) = self
            .under_way
            .remove(ready[self.random as usize % ready.len()]);
        if self.fails {
            journal.done(command.tag, None);
            return true;
        }
        match command.operation {
            Operation::Read { sector, sectors } => {
                let read = &self.sectors[sector as usize..][..sectors];
                journal.done(command.tag, Some(read.as_flattened()));
            }
            Operation::Write { sector } => {
                self.sectors[sector as usize] = data;
                journal.done(command.tag, Some(&[]));
            }
            Operation::Flush => journal.done(command.tag, Some(&[])),
        }
        true
    }
}

fn range(operation: Operation) -> (u64, u64, bool) {
    match operation {
        Operation::Read { sector, sectors } => (sector, sector + sectors as u64, false),
        Operation::Write { sector } => (sector, sector + 1, true),
        Operation::Flush => (0, 0, false),
    }
}

fn overlap(one: &Command, other: &Command) -> bool {
    let (one, other) = (range(one.operation), range(other.operation));
    (one.2 || other.2) && one.0 < other.1 && other.0 < one.1
}

fn opened(disk: &mut Disk) -> Box<Journal> {
    let mut journal = Box::new(Journal::new());
    journal.start(SECTORS as u64);
    while journal.state == State::Reading {
        assert!(disk.step(&mut journal));
    }
    journal
}

/// Appends until there are so many records, and returns what was durable, in order.
fn append(journal: &mut Journal, disk: &mut Disk, until: u64) -> Vec<u64> {
    let mut durable = Vec::new();
    loop {
        while journal.has_room() && journal.begun < until {
            journal.append(journal.begun * 7);
        }
        let stepped = disk.step(journal);
        while let Some(number) = journal.next_durable() {
            let header = Header::decode(&disk.sectors[0]).expect("a header");
            assert!(header.count >= number);
            let record = Record::decode(&disk.sectors[number as usize]).expect("a record");
            assert_eq!(record.number, number);
            durable.push(number);
        }
        if !stepped {
            return durable;
        }
    }
}

proptest! {
    #[test]
    fn records_are_durable_in_order_and_found_again(seed: u64, first in 0_u64..30, second in 0_u64..34) {
        let mut disk = Disk::new(seed);
        let mut journal = opened(&mut disk);
        let numbers: Vec<u64> = (1..=first).collect();
        prop_assert_eq!(append(&mut journal, &mut disk, first), numbers);
        let mut journal = opened(&mut disk);
        prop_assert_eq!(journal.records(), first);
        let numbers: Vec<u64> = (first + 1..=first + second).collect();
        prop_assert_eq!(append(&mut journal, &mut disk, first + second), numbers);
        prop_assert_eq!(journal.fault(), None);
    }

    #[test]
    fn a_changed_byte_is_found(seed: u64, at in 0..11 * SECTOR) {
        let mut disk = Disk::new(seed);
        let mut journal = opened(&mut disk);
        append(&mut journal, &mut disk, 10);
        disk.sectors[at / SECTOR][at % SECTOR] ^= 4;
        append(&mut journal, &mut disk, 64);
        let expected = match at / SECTOR {
            0 => Some(Fault::Header),
            number if journal.fault().is_some() => Some(Fault::Record(number as u64)),
            // Nobody happened to read it.
            _ => None,
        };
        prop_assert_eq!(journal.fault(), expected);
    }
}

#[test]
fn an_old_header_is_found_by_the_next_record() {
    let mut disk = Disk::new(1);
    let mut journal = opened(&mut disk);
    append(&mut journal, &mut disk, 3);
    let old = disk.sectors[0];
    append(&mut journal, &mut disk, 5);
    disk.sectors[0] = old;
    assert_eq!(append(&mut journal, &mut disk, 6), []);
    assert_eq!(journal.fault(), Some(Fault::Header));
}

#[test]
fn a_journal_that_lost_its_end_is_not_gone_on_with() {
    let mut disk = Disk::new(1);
    let mut journal = opened(&mut disk);
    append(&mut journal, &mut disk, 20);
    disk.sectors[4] = [0; SECTOR];
    assert_eq!(opened(&mut disk).fault(), Some(Fault::Record(4)));
}

#[test]
fn a_disk_that_fails_ends_the_journal() {
    let mut disk = Disk::new(1);
    let mut journal = opened(&mut disk);
    append(&mut journal, &mut disk, 3);
    disk.fails = true;
    assert_eq!(append(&mut journal, &mut disk, 20), []);
    assert_eq!(journal.fault(), Some(Fault::Disk));
    assert!(!journal.has_room());
}

#[test]
fn a_full_disk_is_full() {
    let mut disk = Disk::new(1);
    let mut journal = opened(&mut disk);
    assert_eq!(append(&mut journal, &mut disk, u64::MAX).len(), SECTORS - 1);
    assert!(journal.is_full());
    assert_eq!(opened(&mut disk).records(), SECTORS as u64 - 1);
}
