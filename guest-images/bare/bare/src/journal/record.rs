//! The journal's sectors: pure, for the guest that writes them and for whoever checks them.
//!
//! ```text
//!  sector 0      1         2         3
//!  ┌──────────┬─────────┬─────────┬─────────┬──
//!  │ header   │ record 1│ record 2│ record 3│ …
//!  │ count    │         │◄─checksum of──────┤
//!  └──────────┴─────────┴─────────┴─────────┴──
//! ```
//!
//! A record names the checksum of the one before it, and when it was made; so records tell one
//! history: another history's record of the same number has another checksum.

use crate::hash::{Hash, xorshift};

/// Bytes of a sector, and of a record.
pub const SECTOR: usize = 512;
/// A sector's bytes.
pub type Sector = [u8; SECTOR];

const RECORD_MAGIC: u64 = u64::from_le_bytes(*b"LSrecord");
const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"LSheader");
/// Words of a sector, the last of which is the checksum of all before it.
const WORDS: usize = SECTOR / 8;
/// Words before a record's filler.
const FIXED: usize = 4;

/// A record of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Counted from 1: the record is in the sector of its number.
    pub number: u64,
    /// Tells it from the same number's record in another history.
    pub stamp: u64,
    /// The checksum of the record before it; 0 in the first.
    pub previous: u64,
    /// Its own.
    pub checksum: u64,
}

/// What sector 0 says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Records in the journal.
    pub count: u64,
    /// The checksum of the last of them.
    pub last: u64,
}

impl Record {
    /// The record of this number, and its bytes.
    #[must_use]
    pub fn encode(number: u64, stamp: u64, previous: u64) -> (Self, Sector) {
        let mut sector = [0; SECTOR];
        let (words, _) = sector.as_chunks_mut::<8>();
        let mut filler = (number << 32 ^ stamp) | 1;
        for (word, value) in
            words
                .iter_mut()
                .zip([RECORD_MAGIC, number, stamp, previous].into_iter().chain(
                    core::iter::from_fn(|| {
                        filler = xorshift(filler);
                        Some(filler)
                    }),
                ))
        {
            *word = value.to_le_bytes();
        }
        let checksum = seal(&mut sector);
        let record = Self {
            number,
            stamp,
            previous,
            checksum,
        };
        (record, sector)
    }

    /// The record in a sector; `None`: there is none, or a damaged one.
    #[must_use]
    pub fn decode(sector: &Sector) -> Option<Self> {
        let record = Self {
            number: word(sector, 1),
            stamp: word(sector, 2),
            previous: word(sector, 3),
            checksum: word(sector, WORDS - 1),
        };
        (word(sector, 0) == RECORD_MAGIC && is_sealed(sector)).then_some(record)
    }
}

impl Header {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR];
        let (words, _) = sector.as_chunks_mut::<8>();
        for (word, value) in words.iter_mut().zip([HEADER_MAGIC, self.count, self.last]) {
            *word = value.to_le_bytes();
        }
        seal(&mut sector);
        sector
    }

    /// The header in a sector: a sector of zeros is that of an empty journal. `None`: there is
    /// none, or a damaged one.
    #[must_use]
    pub fn decode(sector: &Sector) -> Option<Self> {
        if (0..FIXED).all(|index| word(sector, index) == 0) && word(sector, WORDS - 1) == 0 {
            return Some(Self::default());
        }
        let header = Self {
            count: word(sector, 1),
            last: word(sector, 2),
        };
        (word(sector, 0) == HEADER_MAGIC && is_sealed(sector)).then_some(header)
    }
}

fn word(sector: &Sector, index: usize) -> u64 {
    let (words, _) = sector.as_chunks::<8>();
    u64::from_le_bytes(words[index])
}

fn sum(sector: &Sector) -> u64 {
    let mut hash = Hash::new();
    hash.bytes(&sector[..SECTOR - 8]);
    hash.value()
}

fn seal(sector: &mut Sector) -> u64 {
    let sum = sum(sector);
    sector[SECTOR - 8..].copy_from_slice(&sum.to_le_bytes());
    sum
}

fn is_sealed(sector: &Sector) -> bool {
    sum(sector) == word(sector, WORDS - 1)
}
