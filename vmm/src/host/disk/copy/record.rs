//! What a sidecar says: pure.
//!
//! In: bytes of a sidecar, and what happens to a machine. Out: bytes of the next one. What always holds: bytes that are not exactly a record's are none, so a torn or
//! altered sidecar is noticed; a clean record's generation stands for one content of the image.
//!
//! ```text
//!   lockstep private copy 1
//!   image 1073741824 bytes
//!   generation 5f70bf18a086007016e948b04aed3b82
//!   state clean                                      or: together PAIR, alone
//!   checksum 9d2bbd3f3ac8d3ad2b2fd7fbd1d7f0e5        of all before
//! ```

use logging_channel::Digest;

/// Its first word is the program's, its last the format's version.
const TITLE: &str = "lockstep private copy ";
const VERSION: &str = "1";

/// What a sidecar says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The image's size.
    pub(super) bytes: u64,
    /// Names the image's content as it was when the state was last clean, or since when it goes on alone.
    pub(super) generation: Digest,
    pub(super) state: State,
}

/// Who may be changing the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody.
    Clean,
    /// A replica of this pair: the other's copy changes in the same way.
    Together { pair: u64 },
    /// A machine alone: no other copy changes with it.
    Alone,
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordFault {
    /// Another version's.
    Version(String),
    /// Torn, altered, or something else.
    Damaged,
}

impl Record {
    /// Of an image without a sidecar: `digest` is its content's.
    pub(super) fn first(bytes: u64, digest: Digest) -> Self {
        Self {
            bytes,
            generation: digest,
            state: State::Clean,
        }
    }

    /// A replica of `pair` may change the image from now on.
    ///
    /// # Panics
    ///
    /// Where the image is in use.
    pub(super) fn begin(self, pair: u64) -> Self {
        assert_eq!(self.state, State::Clean, "a copy begins when it is clean");
        let state = State::Together { pair };
        Self { state, ..self }
    }

    /// The guest ended behind entry `end_seq`, and both replicas were there.
    ///
    /// # Panics
    ///
    /// Where it is not in use by this pair.
    pub(super) fn end_together(self, pair: u64, end_seq: u64) -> Self {
        let together = State::Together { pair };
        assert_eq!(self.state, together, "a pair ends that has begun");
        let what = [pair.to_le_bytes(), end_seq.to_le_bytes()].concat();
        Self {
            generation: self.next("ended together", &what),
            state: State::Clean,
            ..self
        }
    }

    /// No other copy changes with this one from now on.
    ///
    /// # Panics
    ///
    /// Where it is alone already.
    pub(super) fn go_on_alone(self, identity: [u8; 16]) -> Self {
        assert_ne!(self.state, State::Alone, "it goes on alone once");
        Self {
            generation: self.next("goes on alone", &identity),
            state: State::Alone,
            ..self
        }
    }

    /// The guest ended.
    ///
    /// # Panics
    ///
    /// Where it was not alone: its generation would stand for two contents.
    pub(super) fn end_alone(self) -> Self {
        assert_eq!(self.state, State::Alone, "it ends alone that went on alone");
        let state = State::Clean;
        Self { state, ..self }
    }

    /// The generation that follows this one by `event`, with what tells this event from others of its kind.
    fn next(&self, event: &str, what: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("lockstep private copy generation 1");
        hasher.update(&self.generation.0);
        hasher.update(event.as_bytes());
        hasher.update(what);
        Digest::from_hash(&hasher.finalize())
    }

    pub(super) fn encode(&self) -> String {
        let Self {
            bytes, generation, ..
        } = self;
        let state = match self.state {
            State::Clean => "clean".into(),
            State::Together { pair } => format!("together {pair}"),
            State::Alone => "alone".into(),
        };
        let text = format!(
            "{TITLE}{VERSION}\nimage {bytes} bytes\ngeneration {generation}\nstate {state}\n"
        );
        let checksum = Digest::of(text.as_bytes());
        format!("{text}checksum {checksum}\n")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| RecordFault::Damaged)?;
        let first = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(TITLE));
        if let Some(version) = first
            && version != VERSION
            && has_checksum(text)
        {
            return Err(RecordFault::Version(version.into()));
        }
        let record = parse(text).ok_or(RecordFault::Damaged)?;
        // To the byte: the checksum too.
        match record.encode() == text {
            true => Ok(record),
            false => Err(RecordFault::Damaged),
        }
    }
}

/// Whether `text` is whole, whatever its version: the last line is kept by all.
fn has_checksum(text: &str) -> bool {
    text.rfind("checksum ").is_some_and(|end| {
        let checksum = Digest::of(&text.as_bytes()[..end]);
        text[end..] == format!("checksum {checksum}\n")
    })
}

/// The record that `text` looks like.
fn parse(text: &str) -> Option<Record> {
    let mut lines = text.lines().skip(1);
    let image = lines.next()?.strip_prefix("image ")?;
    let bytes = image.strip_suffix(" bytes")?.parse().ok()?;
    let generation = digest(lines.next()?.strip_prefix("generation ")?)?;
    let state = match lines.next()?.strip_prefix("state ")? {
        "clean" => State::Clean,
        "alone" => State::Alone,
        state => State::Together {
            pair: state.strip_prefix("together ")?.parse().ok()?,
        },
    };
    Some(Record {
        bytes,
        generation,
        state,
    })
}

fn digest(text: &str) -> Option<Digest> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    u128::from_str_radix(text, 16)
        .ok()
        .map(|number| Digest(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Record> {
        let state = prop_oneof![
            Just(State::Clean),
            Just(State::Alone),
            any::<u64>().prop_map(|pair| State::Together { pair }),
        ];
        (any::<u64>(), any::<[u8; 16]>(), state).prop_map(|(bytes, generation, state)| Record {
            bytes,
            generation: Digest(generation),
            state,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(record in records()) {
            prop_assert_eq!(Record::decode(record.encode().as_bytes()), Ok(record));
        }

        #[test]
        fn bytes_that_are_no_record_are_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Record::decode(&bytes), Err(RecordFault::Damaged));
        }
    }

    #[test]
    fn a_record_that_is_torn_or_altered_anywhere_is_damaged() {
        let record = Record::first(512, Digest([0xAB; 16])).begin(7);
        let whole = record.encode().into_bytes();
        for length in 0..whole.len() {
            assert_eq!(Record::decode(&whole[..length]), Err(RecordFault::Damaged));
        }
        for index in 0..whole.len() {
            for change in [1, 0x20, 0x80] {
                let mut bytes = whole.clone();
                bytes[index] ^= change;
                assert_eq!(Record::decode(&bytes), Err(RecordFault::Damaged), "{index}");
            }
        }
        assert_eq!(
            Record::decode(&[&whole[..], b"\n"].concat()),
            Err(RecordFault::Damaged)
        );
    }

    #[test]
    fn a_later_version_is_named() {
        let text = "lockstep private copy 2\nsomething else\n";
        let whole = format!("{text}checksum {}\n", Digest::of(text.as_bytes()));
        assert_eq!(
            Record::decode(whole.as_bytes()),
            Err(RecordFault::Version("2".into()))
        );
    }

    #[test]
    fn the_format_is_fixed() {
        let record = Record::first(1024, Digest([0x5A; 16])).begin(3);
        let text = "lockstep private copy 1\nimage 1024 bytes\ngeneration 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\nstate together 3\n";
        let checksum = Digest::of(text.as_bytes());
        assert_eq!(record.encode(), format!("{text}checksum {checksum}\n"));
    }

    #[test]
    fn generations_that_differ_in_anything_differ() {
        let first = Record::first(512, Digest([1; 16]));
        let another = Record::first(512, Digest([2; 16]));
        let ends = [
            first,
            another,
            first.begin(1).end_together(1, 5),
            first.begin(1).end_together(1, 6),
            first.begin(2).end_together(2, 5),
            another.begin(1).end_together(1, 5),
            first.begin(1).go_on_alone([3; 16]).end_alone(),
            first.begin(1).go_on_alone([4; 16]).end_alone(),
            first.go_on_alone([0; 16]).end_alone(),
        ];
        for (index, one) in ends.iter().enumerate() {
            assert_eq!(one.state, State::Clean);
            for another in &ends[..index] {
                assert_ne!(one.generation, another.generation);
            }
        }
    }

    #[test]
    #[should_panic(expected = "it ends alone that went on alone")]
    fn a_copy_does_not_end_alone_without_a_generation_of_its_own() {
        Record::first(512, Digest([1; 16])).begin(1).end_alone();
    }
}
