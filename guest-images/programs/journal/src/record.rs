//! A record's bytes, and the chain that records form.
//!
//! ```text
//!  0        8         16                          56         60         64
//!  │ magic  │ number  │ payload, zeroes behind it │ previous │ checksum │
//! ```
//!
//! Numbers are little-endian. `checksum` is the CRC-32 (IEEE 802.3) of the 60 bytes before it, `previous` that of the record
//! before this one, 0 in the first. Numbers begin at 1 and leave none out. A sector holds eight records.

use std::fmt;

/// A record's size on the disk.
pub const RECORD_BYTES: usize = 64;
/// What a client may put into a record.
pub const PAYLOAD_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"lsjrnl01";
const PAYLOAD_AT: usize = 16;
const PREVIOUS_AT: usize = PAYLOAD_AT + PAYLOAD_BYTES;
const CHECKSUM_AT: usize = PREVIOUS_AT + 4;

/// What a client put into a record: at most [`PAYLOAD_BYTES`], zeroes behind it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Payload([u8; PAYLOAD_BYTES]);

impl Payload {
    /// `bytes`, if they fit, end in no zero, which the padding would swallow, and have no line's end in them, since requests are
    /// lines.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.last() == Some(&0) || bytes.contains(&b'\n') {
            return None;
        }
        let mut payload = [0; PAYLOAD_BYTES];
        payload.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(payload))
    }

    /// What the client put in.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().rposition(|byte| *byte != 0);
        &self.0[..end.map_or(0, |last| last + 1)]
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

/// A record of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counted from 1.
    pub number: u64,
    /// The client's.
    pub payload: Payload,
    /// The checksum of the record before this one; 0 in the first.
    pub previous: u32,
}

impl Record {
    /// CRC-32 of all that is before it.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        crc32fast::hash(&self.without_checksum()[..CHECKSUM_AT])
    }

    /// What is written to the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = self.without_checksum();
        bytes[CHECKSUM_AT..].copy_from_slice(&self.checksum().to_le_bytes());
        bytes
    }

    fn without_checksum(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..PAYLOAD_AT].copy_from_slice(&self.number.to_le_bytes());
        bytes[PAYLOAD_AT..PREVIOUS_AT].copy_from_slice(&self.payload.0);
        bytes[PREVIOUS_AT..CHECKSUM_AT].copy_from_slice(&self.previous.to_le_bytes());
        bytes
    }

    /// What was read from the disk, whatever its place in a chain.
    ///
    /// # Errors
    /// [`Fault::Length`], [`Fault::Magic`] or [`Fault::Checksum`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().map_err(|_| Fault::Length)?;
        if bytes[..8] != MAGIC {
            return Err(Fault::Magic);
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if word(CHECKSUM_AT) != crc32fast::hash(&bytes[..CHECKSUM_AT]) {
            return Err(Fault::Checksum);
        }
        Ok(Self {
            number: u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i])),
            payload: Payload(std::array::from_fn(|i| bytes[PAYLOAD_AT + i])),
            previous: word(PREVIOUS_AT),
        })
    }
}

/// What is wrong with bytes that should be a journal's next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are not as many as a record has.
    Length,
    /// They do not begin as a record does.
    Magic,
    /// Their checksum is that of other bytes.
    Checksum,
    /// A record, but not the next one.
    Number {
        /// The record's.
        found: u64,
    },
    /// The next record, but of another journal.
    Previous,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("is cut short"),
            Self::Magic => f.write_str("does not begin as a record"),
            Self::Checksum => f.write_str("has a wrong checksum"),
            Self::Number { found } => write!(f, "is numbered {found}"),
            Self::Previous => f.write_str("follows another record than the one before it"),
        }
    }
}

impl std::error::Error for Fault {}

/// The end of a journal: what the next record must follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    records: u64,
    last: u32,
}

impl Chain {
    /// Records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next record, which holds `payload`.
    pub fn append(&mut self, payload: Payload) -> Record {
        let record = Record {
            number: self.records + 1,
            payload,
            previous: self.last,
        };
        self.records += 1;
        self.last = record.checksum();
        record
    }

    /// The next record, read back. A fault leaves the chain as it was.
    ///
    /// # Errors
    /// If `bytes` are not the next record.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<Record, Fault> {
        let record = Record::decode(bytes)?;
        if record.number != self.records + 1 {
            return Err(Fault::Number {
                found: record.number,
            });
        }
        if record.previous != self.last {
            return Err(Fault::Previous);
        }
        self.records += 1;
        self.last = record.checksum();
        Ok(record)
    }
}

/// The records at the beginning of a journal, and what is wrong with the bytes behind them, if there are any.
#[must_use]
pub fn read_back(journal: &[u8]) -> (Vec<Record>, Option<Fault>) {
    let mut chain = Chain::default();
    let mut records = Vec::new();
    for bytes in journal.chunks(RECORD_BYTES) {
        match chain.accept(bytes) {
            Ok(record) => records.push(record),
            Err(fault) => return (records, Some(fault)),
        }
    }
    (records, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(payloads: &[&str]) -> Vec<u8> {
        let mut chain = Chain::default();
        payloads
            .iter()
            .flat_map(|text| {
                chain
                    .append(Payload::new(text.as_bytes()).expect("it fits"))
                    .encode()
            })
            .collect()
    }

    #[test]
    fn the_checksum_is_crc_32() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (records, fault) = read_back(&journal(&["one", "", "three"]));
        assert_eq!(fault, None);
        let texts: Vec<&[u8]> = records
            .iter()
            .map(|record| record.payload.bytes())
            .collect();
        assert_eq!(texts, [&b"one"[..], b"", b"three"]);
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(records[0].previous, 0);
        assert_eq!(records[2].previous, records[1].checksum());
    }

    #[test]
    fn a_payload_has_a_limit_no_zero_at_its_end_and_no_second_line() {
        assert_eq!(Payload::new(b"x\ny"), None);
        assert!(Payload::new(&[b'x'; PAYLOAD_BYTES]).is_some());
        assert_eq!(Payload::new(&[b'x'; PAYLOAD_BYTES + 1]), None);
        assert_eq!(Payload::new(b"x\0"), None);
        assert_eq!(Payload::new(b"\0x").expect("it fits").bytes(), b"\0x");
    }

    #[test]
    fn any_changed_byte_ends_what_is_read_back() {
        let whole = journal(&["one", "two", "three"]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let (records, fault) = read_back(&damaged);
            assert_eq!(records.len(), at / RECORD_BYTES, "byte {at}");
            assert!(fault.is_some(), "byte {at}");
        }
    }

    #[test]
    fn a_torn_tail_is_told() {
        let whole = journal(&["one", "two"]);
        for end in RECORD_BYTES + 1..whole.len() {
            let (records, fault) = read_back(&whole[..end]);
            assert_eq!((records.len(), fault), (1, Some(Fault::Length)));
        }
        assert_eq!(read_back(&whole[..RECORD_BYTES]).1, None);
    }

    #[test]
    fn records_that_are_missing_repeated_or_of_elsewhere_are_told() {
        let whole = journal(&["one", "two", "three"]);
        let record = |at: usize| whole[at * RECORD_BYTES..][..RECORD_BYTES].to_vec();
        let missing = [record(0), record(2)].concat();
        assert_eq!(read_back(&missing).1, Some(Fault::Number { found: 3 }));
        let repeated = [record(0), record(0)].concat();
        assert_eq!(read_back(&repeated).1, Some(Fault::Number { found: 1 }));
        let other = journal(&["uno", "two"]);
        let mixed = [record(0), other[RECORD_BYTES..].to_vec()].concat();
        assert_eq!(read_back(&mixed).1, Some(Fault::Previous));
    }
}
