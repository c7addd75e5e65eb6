//! Numbers in as many bytes as they need: LEB128, seven bits a byte, the lowest first, the top bit set on all but the last.
//!
//! In: a `u64`, or a difference of two of them. Out: one to ten bytes. Small differences dominate a log, and up to
//! 2,097,151 takes three bytes here where bincode's own form takes five. Every number has exactly one form, every other
//! sequence of bytes is an error.
//!
//! A value is handed to serde as a tuple of bytes, which bincode writes as they are. [`serialize`] and [`deserialize`] serve
//! `#[serde(with)]`.

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 64 bits in groups of seven.
const MAX_BYTES: usize = 10;

/// A number in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Varint(#[serde(with = "self")] pub(super) u64);

impl Varint {
    /// What leads from `base` to `value`, modulo 2⁶⁴. The sign is the lowest bit, so that short ways are short both ways.
    pub(super) fn difference(base: u64, value: u64) -> Self {
        let difference = value.wrapping_sub(base).cast_signed();
        Self(((difference << 1) ^ (difference >> 63)).cast_unsigned())
    }

    /// Where this difference leads from `base`: the inverse of [`difference`](Self::difference), for every base.
    pub(super) fn from(self, base: u64) -> u64 {
        let sign = (self.0 & 1).wrapping_neg();
        base.wrapping_add((self.0 >> 1) ^ sign)
    }
}

pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let bits = (64 - value.leading_zeros()).max(1) as usize;
    let count = bits.div_ceil(7);
    let mut tuple = serializer.serialize_tuple(count)?;
    for place in 0..count {
        let group = (value >> (7 * place)) as u8 & 0x7f;
        let more = if place + 1 < count { 0x80 } else { 0 };
        tuple.serialize_element(&(group | more))?;
    }
    tuple.end()
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_tuple(MAX_BYTES, Groups)
}

struct Groups;

impl<'de> Visitor<'de> for Groups {
    type Value = u64;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a number of at most 64 bits in groups of seven")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<u64, A::Error> {
        let mut value = 0;
        for place in 0..MAX_BYTES {
            let Some(byte) = bytes.next_element::<u8>()? else {
                break;
            };
            value |= u64::from(byte & 0x7f) << (7 * place);
            // The tenth byte has room for the 64th bit alone, and a last byte of zero says nothing.
            let beyond = place + 1 == MAX_BYTES && byte > 1;
            let idle = place > 0 && byte == 0;
            if beyond || idle {
                break;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(A::Error::custom("a number is not in its shortest form"))
    }
}
