//! The compact form of a batch of entries: what an entry shares with the one before is not repeated.
//!
//! In: entries in sequence. Out, for each of them: exits as the difference to the entry before; instructions as the difference
//! if the exits are the same, else as they are; the event, its guest time as the difference to the latest time before. The
//! sequence number of the first entry is given once, the others are implied. A batch decodes by itself: position and time
//! begin at zero.
//!
//! What always holds: any entries in sequence can be encoded and decode to the same, as differences are modulo 2⁶⁴; whether positions
//! and times may go back is for who reads the entries. A batch above [`MAX_BATCH_BYTES`] decodes no more than it encodes, so a batch
//! in memory is bounded like one on the wire.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MAX_BATCH_BYTES;
use super::varint::Varint;
use crate::{Entry, Event, Position};

/// The time that an event tells, if it tells one.
fn guest_time(event: &mut Event) -> Option<&mut u64> {
    match event {
        Event::Time { guest_ns } | Event::Tick { guest_ns } | Event::Clock { guest_ns, .. } => {
            Some(guest_ns)
        }
        _ => None,
    }
}

#[derive(Serialize, Deserialize)]
struct CompactEntry<'a> {
    /// Difference to the entry before.
    exits: Varint,
    /// Difference to the entry before if `exits` is 0, else the number itself.
    instructions: Varint,
    /// Its time is a difference, in the bits of a [`Varint`].
    /// Borrowed as long as nothing of it is changed: frames and pages are not copied.
    event: Cow<'a, Event>,
}

/// What the next entry's differences refer to.
#[derive(Default)]
struct Base {
    at: Position,
    guest_ns: u64,
}

impl Base {
    fn compact<'a>(&mut self, entry: &'a Entry) -> CompactEntry<'a> {
        let base = std::mem::replace(&mut self.at, entry.at);
        let mut event = Cow::Borrowed(&entry.event);
        if entry.event.guest_ns().is_some()
            && let Some(time) = guest_time(event.to_mut())
        {
            let base = std::mem::replace(&mut self.guest_ns, *time);
            *time = Varint::difference(base, *time).0;
        }
        CompactEntry {
            exits: Varint::difference(base.exits, entry.at.exits),
            instructions: if base.exits == entry.at.exits {
                Varint::difference(base.instructions, entry.at.instructions)
            } else {
                Varint(entry.at.instructions)
            },
            event,
        }
    }

    fn expand(&mut self, compact: CompactEntry<'_>, seq: u64) -> Entry {
        let exits = compact.exits.from(self.at.exits);
        let instructions = if exits == self.at.exits {
            compact.instructions.from(self.at.instructions)
        } else {
            compact.instructions.0
        };
        self.at = Position {
            exits,
            instructions,
        };
        let mut event = compact.event.into_owned();
        if let Some(time) = guest_time(&mut event) {
            *time = Varint(*time).from(self.guest_ns);
            self.guest_ns = *time;
        }
        Entry {
            seq,
            at: self.at,
            event,
        }
    }
}

/// What each entry of a batch takes, before compression.
#[derive(Default)]
pub struct EntrySizes {
    base: Base,
}

impl EntrySizes {
    /// Bytes of the batch's next entry. For the first one of a batch, begin with a new [`EntrySizes`].
    pub fn next(&mut self, entry: &Entry) -> u64 {
        super::frame::canonical_bytes(&self.base.compact(entry)).len() as u64
    }
}

pub(crate) fn serialize<S: Serializer>(
    entries: &[Entry],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut batch = serializer.serialize_tuple(2)?;
    batch.serialize_element(&entries.first().map_or(0, |first| first.seq))?;
    batch.serialize_element(&CompactEntries(entries))?;
    batch.end()
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Entry>, D::Error> {
    deserializer.deserialize_tuple(2, BatchVisitor)
}

struct CompactEntries<'a>(&'a [Entry]);

impl Serialize for CompactEntries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut base = Base::default();
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for entry in self.0 {
            list.serialize_element(&base.compact(entry))?;
        }
        list.end()
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Vec<Entry>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a batch of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut batch: A) -> Result<Self::Value, A::Error> {
        let first_seq = batch.next_element()?.unwrap_or(0);
        let entries = batch.next_element_seed(EntriesFrom(first_seq))?;
        Ok(entries.unwrap_or_default())
    }
}

/// Decodes the list of entries, the first of which has this sequence number.
struct EntriesFrom(u64);

impl<'de> DeserializeSeed<'de> for EntriesFrom {
    type Value = Vec<Entry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesFrom {
    type Value = Vec<Entry>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("compact entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut base = Base::default();
        let mut next_seq = Some(self.0);
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(compact) = list.next_element()? {
            let seq =
                next_seq.ok_or_else(|| A::Error::custom("sequence numbers beyond 64 bits"))?;
            let entry = base.expand(compact, seq);
            bytes += entry.size_bytes();
            if bytes > MAX_BATCH_BYTES as u64 {
                return Err(A::Error::custom("a batch of too many entries"));
            }
            entries.push(entry);
            next_seq = seq.checked_add(1);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
