//! Requests and answers: lines of text, one answer to each request, in order.
//!
//! ```text
//! append TEXT        ──►  NUMBER CHECKSUM                when the record is durable
//! read FROM COUNT    ──►  records N, then N lines record HEX; fewer than COUNT at the journal's end
//! shutdown           ──►  bye RECORDS                    the file system is unmounted; the guest ends
//! anything           ──►  error: …                       nothing was done, or nobody knows whether it was
//! ```
//!
//! A read brings what is durable when it is answered, records that were asked for after it included.

use std::fmt;

use crate::record::{Payload, RECORD_BYTES};

/// The TCP port in the guest.
pub const PORT: u16 = 7003;
/// Records that one `read` brings at most.
pub const READ_LIMIT: u64 = 256;
/// Bytes of a line, its end not counted, that somebody who reads lines must have room for.
pub const LINE_LIMIT: usize = 256;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A record that holds this.
    Append(Payload),
    /// Records, from a number on.
    Read {
        /// The first one's number.
        from: u64,
        /// How many, up to [`READ_LIMIT`].
        count: u64,
    },
    /// Unmount the disk, end the guest.
    Shutdown,
}

impl Request {
    /// What `line`, without its end, asks.
    ///
    /// # Errors
    /// What is wrong with it, for an answer's `error: `.
    pub fn parse(line: &[u8]) -> Result<Self, &'static str> {
        if let Some(text) = line.strip_prefix(b"append ") {
            return Payload::new(text)
                .map(Self::Append)
                .ok_or("a payload is at most 40 bytes and does not end in a zero");
        }
        let words: Option<Vec<&str>> = std::str::from_utf8(line)
            .ok()
            .map(|text| text.split(' ').collect());
        match words.as_deref() {
            Some(["read", from, count]) => match (from.parse(), count.parse()) {
                (Ok(from), Ok(count)) if from > 0 && count <= READ_LIMIT => {
                    Ok(Self::Read { from, count })
                }
                _ => Err("records begin at 1, and one read brings at most 256"),
            },
            Some(["shutdown"]) => Ok(Self::Shutdown),
            _ => Err("unknown request, say append TEXT, read FROM COUNT or shutdown"),
        }
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        match self {
            Self::Append(payload) => [b"append ", payload.bytes(), b"\n"].concat(),
            Self::Read { from, count } => format!("read {from} {count}\n").into_bytes(),
            Self::Shutdown => b"shutdown\n".to_vec(),
        }
    }
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A record is durable.
    Appended {
        /// The record's.
        number: u64,
        /// The record's.
        checksum: u32,
    },
    /// So many lines [`Self::Record`] follow.
    Records(u64),
    /// A record's bytes, as they are on the disk.
    Record(Box<[u8; RECORD_BYTES]>),
    /// The disk is unmounted.
    Bye {
        /// Records on it.
        records: u64,
    },
    /// It was not done; or nobody knows, after a failure of the disk.
    Error(String),
}

impl Answer {
    /// What `line`, without its end, says; `None` if it is no answer.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        if let Some(text) = line.strip_prefix("error: ") {
            return Some(Self::Error(text.to_owned()));
        }
        let (first, second) = line.split_once(' ')?;
        match first {
            "records" => second.parse().ok().map(Self::Records),
            "record" => from_hexadecimal(second).map(Self::Record),
            "bye" => second.parse().ok().map(|records| Self::Bye { records }),
            number => Some(Self::Appended {
                number: number.parse().ok()?,
                checksum: u32::from_str_radix(second, 16).ok()?,
            }),
        }
    }
}

/// The line, without its end.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appended { number, checksum } => write!(f, "{number} {checksum:08x}"),
            Self::Records(count) => write!(f, "records {count}"),
            Self::Record(bytes) => {
                f.write_str("record ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Bye { records } => write!(f, "bye {records}"),
            Self::Error(text) => write!(f, "error: {text}"),
        }
    }
}

fn from_hexadecimal(text: &str) -> Option<Box<[u8; RECORD_BYTES]>> {
    let digits = text.as_bytes();
    if digits.len() != 2 * RECORD_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Box::new([0; RECORD_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Chain;

    #[test]
    fn requests_are_read_as_they_are_written() {
        let payload = Payload::new(b"a payload \xff with blanks").expect("it fits");
        for request in [
            Request::Append(payload),
            Request::Append(Payload::new(b"").expect("it fits")),
            Request::Read {
                from: 7,
                count: READ_LIMIT,
            },
            Request::Shutdown,
        ] {
            let line = request.line();
            let line = line.strip_suffix(b"\n").expect("a line's end");
            assert!(line.len() <= LINE_LIMIT);
            assert_eq!(Request::parse(line), Ok(request));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            &b""[..],
            b"append",
            b"read 0 1",
            b"read 1 257",
            b"read 1",
            b"read -1 1",
            b"shutdown now",
            b"\xff",
            &[&b"append "[..], &[b'x'; 41]].concat(),
        ] {
            assert!(
                Request::parse(line).is_err(),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let record = Chain::default().append(Payload::new(b"text").expect("it fits"));
        for answer in [
            Answer::Appended {
                number: 12,
                checksum: 0xA0B,
            },
            Answer::Records(3),
            Answer::Record(Box::new(record.encode())),
            Answer::Bye { records: 12 },
            Answer::Error("no space left".to_owned()),
        ] {
            let line = answer.to_string();
            assert!(line.len() <= LINE_LIMIT);
            assert_eq!(Answer::parse(&line), Some(answer));
        }
        for line in ["", "12", "12 xyz", "record 00", "records", "bye bye"] {
            assert_eq!(Answer::parse(line), None, "{line}");
        }
    }
}
