//! A journal on a raw disk: records that are told to somebody only when they are durable, and that
//! are read back again and again. Pure: commands for the disk go out, what became of them comes in.
//!
//! ```text
//!  Reading ── the first sector that is no next record ──► Open ── a fault ──► Broken
//! ```
//!
//! Each record is five commands, several records' at a time:
//!
//! ```text
//!  read sector 0 ────────┐ both must be what was last written there
//!  read an earlier record┤
//!  write the record ─────┼─ all done ──► flush ── done, and all before it durable ──► durable
//!  write sector 0 ───────┘
//! ```
//!
//! What always holds: sector 0 is read and written again before earlier commands for it are done,
//! so the disk must keep their order. Records are durable in order.

pub mod callers;
pub mod record;
#[cfg(test)]
mod tests;

use crate::hash::xorshift;
use record::{Header, Record, SECTOR, Sector};

/// Records on their way at a time.
pub const DEPTH: usize = 8;
/// Records that a journal has at most.
pub const LIMIT: usize = 32_767;
/// Sectors that one command reads at most.
pub const READ_SECTORS: usize = 8;
/// Commands that may wait for the disk: all of those of all records on their way.
const COMMANDS: usize = 64;

/// The commands of a record; the last is given when the others are done.
const PARTS: u32 = 8;
const READ_HEADER: u32 = 0;
const READ_BACK: u32 = 1;
const WRITE_RECORD: u32 = 2;
const WRITE_HEADER: u32 = 3;
const FLUSH: u32 = 4;
/// Commands before the journal is open.
const FIRST: u32 = u32::MAX;

/// What the disk is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read so many sectors.
    Read {
        /// The first one.
        sector: u64,
        /// How many: 1 to [`READ_SECTORS`].
        sectors: usize,
    },
    /// Write a sector.
    Write {
        /// Which.
        sector: u64,
    },
    /// Make durable what is written.
    Flush,
}

/// A command for the disk. Commands that overlap are to be performed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Comes back with what became of it.
    pub tag: u32,
    /// What to do.
    pub operation: Operation,
}

/// What ended a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk could not do something.
    Disk,
    /// Sector 0 is not what was last written there.
    Header,
    /// This record is not what was written there.
    Record(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Open,
    Broken(Fault),
}

/// A record on its way.
#[derive(Clone, Copy)]
struct Append {
    sector: Sector,
    /// What sector 0 must say before this record changes it.
    before: Header,
    /// And after it.
    after: Header,
    /// The record that is read back, 0: none.
    back: u64,
    /// Commands that are not done, the flush not counted.
    left: u32,
    flushed: bool,
}

impl Append {
    const NONE: Self = Self {
        sector: [0; SECTOR],
        before: Header { count: 0, last: 0 },
        after: Header { count: 0, last: 0 },
        back: 0,
        left: 0,
        flushed: false,
    };
}

/// The journal.
pub struct Journal {
    state: State,
    /// Records that the disk has room for.
    limit: u64,
    /// The checksum of each record; at 0 what the first one follows.
    checksums: [u64; LIMIT + 1],
    /// Records begun.
    begun: u64,
    /// Of these, durable.
    durable: u64,
    /// What sector 0 says when all that was begun is done.
    header: Header,
    appends: [Append; DEPTH],
    /// Decides what is read back.
    random: u64,
    commands: [Option<Command>; COMMANDS],
    /// Commands ever queued and ever taken; wrap.
    queued: usize,
    taken: usize,
}

impl Journal {
    /// A journal that has not been read.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Reading,
            limit: 0,
            checksums: [0; LIMIT + 1],
            begun: 0,
            durable: 0,
            header: Header { count: 0, last: 0 },
            appends: [Append::NONE; DEPTH],
            random: 1,
            commands: [None; COMMANDS],
            queued: 0,
            taken: 0,
        }
    }

    /// Begins to read what is on a disk of so many sectors.
    pub fn start(&mut self, sectors: u64) {
        self.limit = sectors.saturating_sub(1).min(LIMIT as u64);
        self.read_on(0);
    }

    /// Whether it has been read, and is not broken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What has ended it, if anything has.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Broken(fault) => Some(fault),
            _ => None,
        }
    }

    /// Records that are durable.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.durable
    }

    /// Whether no more records fit on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_open() && self.begun == self.limit
    }

    /// Whether no record is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.begun == self.durable
    }

    /// Whether a record may be begun now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.is_open() && self.begun < self.limit && self.begun - self.durable < DEPTH as u64
    }

    /// Begins a record; `stamp` is to be another one in another history.
    ///
    /// # Panics
    /// If there is no room; see [`has_room`](Self::has_room).
    pub fn append(&mut self, stamp: u64) {
        assert!(self.has_room());
        let number = self.begun + 1;
        let (record, sector) = Record::encode(number, stamp, self.checksums[self.begun as usize]);
        self.checksums[number as usize] = record.checksum;
        self.random = xorshift(self.random);
        let back = match self.begun {
            0 => 0,
            earlier => 1 + self.random % earlier,
        };
        let after = Header {
            count: number,
            last: record.checksum,
        };
        self.appends[number as usize % DEPTH] = Append {
            sector,
            before: self.header,
            after,
            back,
            left: 3 + u32::from(back > 0),
            flushed: false,
        };
        (self.begun, self.header) = (number, after);
        let (one, read) = (1, |sector, sectors| Operation::Read { sector, sectors });
        self.command(number, READ_HEADER, read(0, one));
        if back > 0 {
            self.command(number, READ_BACK, read(back, one));
        }
        self.command(number, WRITE_RECORD, Operation::Write { sector: number });
        self.command(number, WRITE_HEADER, Operation::Write { sector: 0 });
    }

    /// The next command for the disk; what it writes is put into `data`.
    pub fn next(&mut self, data: &mut Sector) -> Option<Command> {
        if self.taken == self.queued {
            return None;
        }
        let command = self.commands[self.taken % COMMANDS].take()?;
        self.taken = self.taken.wrapping_add(1);
        let append = &self.appends[(command.tag / PARTS) as usize % DEPTH];
        match command.tag % PARTS {
            WRITE_RECORD => *data = append.sector,
            WRITE_HEADER => *data = append.after.encode(),
            _ => {}
        }
        Some(command)
    }

    /// A command is done; `None`: the disk could not do it.
    pub fn done(&mut self, tag: u32, read: Option<&[u8]>) {
        let Some(read) = read else {
            self.fail(Fault::Disk);
            return;
        };
        match self.state {
            State::Reading => self.keep_read(read),
            State::Open => self.part_done((tag / PARTS) as usize % DEPTH, tag % PARTS, read),
            State::Broken(_) => {}
        }
    }

    /// The number of the next record that has become durable.
    pub fn next_durable(&mut self) -> Option<u64> {
        let next = self.durable + 1;
        let is_durable =
            self.is_open() && next <= self.begun && self.appends[next as usize % DEPTH].flushed;
        is_durable.then(|| {
            self.durable = next;
            next
        })
    }

    fn part_done(&mut self, index: usize, part: u32, read: &[u8]) {
        let append = &mut self.appends[index];
        let sector = read.first_chunk();
        let fault = match part {
            READ_HEADER if sector.and_then(Header::decode) != Some(append.before) => {
                Some(Fault::Header)
            }
            READ_BACK => {
                let found = sector
                    .and_then(Record::decode)
                    .map(|record| record.checksum);
                let expected = self.checksums[append.back as usize];
                (found != Some(expected)).then_some(Fault::Record(append.back))
            }
            _ => None,
        };
        if let Some(fault) = fault {
            self.fail(fault);
            return;
        }
        if part == FLUSH {
            append.flushed = true;
            return;
        }
        append.left -= 1;
        if append.left == 0 {
            let number = append.after.count;
            self.command(number, FLUSH, Operation::Flush);
        }
    }

    /// Sectors that were read before the journal is open: the header first, then records in order.
    fn keep_read(&mut self, read: &[u8]) {
        let (mut sectors, _) = read.as_chunks::<SECTOR>();
        if self.taken == 1 {
            let header = sectors.split_off_first().and_then(Header::decode);
            match header {
                Some(header) => self.header = header,
                None => return self.fail(Fault::Header),
            }
        }
        for sector in sectors {
            let number = self.begun + 1;
            match Record::decode(sector) {
                Some(record) if record.number == number && self.follows(record) => {
                    self.checksums[number as usize] = record.checksum;
                    self.begun = number;
                }
                _ => return self.open(),
            }
        }
        if self.begun == self.limit {
            self.open();
        } else {
            self.read_on(self.begun + 1);
        }
    }

    fn follows(&self, record: Record) -> bool {
        record.previous == self.checksums[self.begun as usize]
    }

    fn open(&mut self) {
        self.durable = self.begun;
        self.random = self.header.last | 1;
        self.state = State::Open;
        // The header may be ahead of records that were on their way, and of no others.
        if self.header.count > self.begun + DEPTH as u64 {
            self.fail(Fault::Record(self.begun + 1));
        }
    }

    fn read_on(&mut self, sector: u64) {
        let sectors = (self.limit + 1 - sector).min(READ_SECTORS as u64) as usize;
        self.push(Command {
            tag: FIRST,
            operation: Operation::Read { sector, sectors },
        });
    }

    fn fail(&mut self, fault: Fault) {
        if !matches!(self.state, State::Broken(_)) {
            self.state = State::Broken(fault);
            self.taken = self.queued;
        }
    }

    fn command(&mut self, number: u64, part: u32, operation: Operation) {
        let tag = (number as usize % DEPTH) as u32 * PARTS + part;
        self.push(Command { tag, operation });
    }

    fn push(&mut self, command: Command) {
        let slot = &mut self.commands[self.queued % COMMANDS];
        assert!(slot.is_none());
        *slot = Some(command);
        self.queued = self.queued.wrapping_add(1);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}
