//! Entries as lines: of text for people, or JSON objects for programs.
//!
//! In: an entry, and which ones are wanted. Out: a line.

use logging_channel::{Entry, EventKind, Position};
use serde_json::{Value, json};

/// Which entries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// None before this position.
    pub from: Option<Position>,
    /// None after this position.
    pub to: Option<Position>,
    /// Only of these kinds; all, if there are none.
    pub kinds: Vec<EventKind>,
}

impl Selection {
    /// Whether this entry is wanted.
    #[must_use]
    pub fn has(&self, entry: &Entry) -> bool {
        self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at <= to)
            && (self.kinds.is_empty() || self.kinds.contains(&entry.event.kind()))
    }

    /// Whether no entry from here on can be wanted: positions never decrease.
    #[must_use]
    pub fn is_past(&self, entry: &Entry) -> bool {
        self.to.is_some_and(|to| entry.at > to)
    }
}

/// A line for people.
#[must_use]
pub fn line(entry: &Entry) -> String {
    let Entry { seq, at, event } = entry;
    format!("{seq:>9}  {:<18} {event}", at.to_string())
}

/// A JSON object: number, position, kind, and the event's own fields.
#[must_use]
pub fn object(entry: &Entry) -> Value {
    let mut object = json!({
        "seq": entry.seq,
        "exits": entry.at.exits,
        "instructions": entry.at.instructions,
        "kind": entry.event.kind().name(),
    });
    let fields = serde_json::to_value(&entry.event).expect("plain data");
    // An enum with named fields is an object with one member, the variant.
    if let Value::Object(variant) = fields
        && let Some((_, Value::Object(fields))) = variant.into_iter().next()
    {
        for (name, value) in fields {
            object[name] = in_hexadecimal(value);
        }
    }
    object
}

/// Bytes and digests are arrays of numbers to serde; people and programs want hexadecimal digits.
fn in_hexadecimal(value: Value) -> Value {
    match value {
        Value::Array(bytes) => {
            let digits = bytes.iter().map(|byte| match byte.as_u64() {
                Some(byte) => format!("{byte:02x}"),
                None => "??".to_owned(),
            });
            Value::String(digits.collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use logging_channel::{Digest, Event, OutputKind};

    use super::*;

    fn entry(seq: u64, event: Event) -> Entry {
        Entry {
            seq,
            at: Position {
                exits: seq,
                instructions: 2,
            },
            event,
        }
    }

    #[test]
    fn entries_are_lines_and_objects() {
        let frame = entry(
            7,
            Event::Frame {
                bytes: vec![1, 255],
            },
        );
        assert_eq!(
            line(&frame),
            "        7  7+2                frame of 2 bytes"
        );
        assert_eq!(
            object(&frame),
            json!({"seq": 7, "exits": 7, "instructions": 2, "kind": "frame", "bytes": "01ff"})
        );
        let output = entry(
            8,
            Event::Output {
                kind: OutputKind::Console,
                digest: Digest([0xAB; 16]),
            },
        );
        let object = object(&output);
        assert_eq!(object["digest"], "ab".repeat(16));
    }

    #[test]
    fn a_selection_is_by_position_and_kind() {
        let selection = Selection {
            from: Some("3".parse().expect("a position")),
            to: Some("5+2".parse().expect("a position")),
            kinds: vec![EventKind::Tick],
        };
        let tick = |seq| entry(seq, Event::Tick { guest_ns: 1 });
        let taken: Vec<u64> = (1..9).filter(|seq| selection.has(&tick(*seq))).collect();
        assert_eq!(taken, [3, 4, 5]);
        assert!(!selection.has(&entry(4, Event::Interrupt { vector: 32 })));
        assert!(selection.is_past(&tick(6)) && !selection.is_past(&tick(5)));
    }
}
