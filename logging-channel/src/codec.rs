//! The bytes of messages, heartbeats and log files. The only place that knows bincode.
//!
//! In: values of the protocol. Out: frames, and back. A frame is a header and a payload, all
//! integers little endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic: `LSTP` for a message, `LSHB` for a heartbeat datagram, `LSLG` in a log file |
//! | 4 | 2 | format version, [`FORMAT_VERSION`](crate::identity::FORMAT_VERSION) |
//! | 6 | 2 | flags, 0 |
//! | 8 | 4 | length of the payload, at most [`MAX_PAYLOAD_BYTES`] |
//! | 12 | 4 | CRC-32 (IEEE) of the payload |
//! | 16 | 4 | CRC-32 (IEEE) of the 16 bytes before |
//! | 20 | … | payload: the value in bincode 2's standard configuration (variable-length integers), in files compressed |
//!
//! The header has a checksum of its own because a damaged length would otherwise leave the
//! receiver waiting for bytes that nobody sends. What always holds: a decoded batch has entries in
//! sequence, every bit of a frame is covered by a check, and no length is believed before its limit
//! is checked: whatever the bytes, decoding a message needs at most 4 MiB besides the frame itself.

pub(crate) mod batch;
pub(crate) mod frame;
mod heartbeat;
pub(crate) mod shared_bytes;
#[cfg(test)]
mod tests;
pub(crate) mod varint;

use crate::Entry;
use crate::protocol::Message;

pub use batch::EntrySizes;
pub use frame::{
    Decoder, HEADER_BYTES, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES, canonical_bytes,
    from_canonical_bytes,
};
pub use heartbeat::{HEARTBEAT_MAX_BYTES, decode_heartbeat, encode_heartbeat};

/// Messages other than entries are short; this is their payload's limit, bytes.
pub const MAX_CONTROL_BYTES: usize = 64 << 10;

/// Why bytes are not a frame, or a value cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Something else than lockstep is at the other end, or bytes were lost.
    #[error("Bytes {found:02x?} where a frame should begin: this is not a lockstep log")]
    Magic {
        /// The bytes there.
        found: [u8; 4],
    },
    /// The other side is another release.
    #[error(
        "Log format version {found}, but this program speaks version {expected}: run the same release on both hosts"
    )]
    Version {
        /// The frame's version.
        found: u16,
        /// Ours.
        expected: u16,
    },
    /// Flags that this version does not define.
    #[error("Frame has unknown flags {found:#06x}")]
    Flags {
        /// The frame's flags.
        found: u16,
    },
    /// The header was damaged.
    #[error("Checksum of a frame's header is wrong: the bytes were damaged")]
    HeaderChecksum,
    /// The payload was damaged.
    #[error("Checksum of a frame's payload is wrong: the bytes were damaged")]
    PayloadChecksum,
    /// A frame above the limit.
    #[error("Frame announces a payload of {bytes} bytes, above the limit of {limit}")]
    TooLong {
        /// The announced length.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// The payload has the right checksum and is no such value: another program made it.
    #[error("Payload does not decode: {0}")]
    Malformed(String),
    /// The payload is longer than its value.
    #[error("Payload has {count} bytes left after its value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A batch with a hole in it.
    #[error("Entry {found} follows entry {previous} in a batch")]
    Gap {
        /// An entry's number.
        previous: u64,
        /// The next entry's number.
        found: u64,
    },
    /// A datagram with fewer or more bytes than a heartbeat.
    #[error("Datagram of {bytes} bytes is not a heartbeat")]
    DatagramLength {
        /// Its length.
        bytes: usize,
    },
    /// The payload of a file's frame is not what a compressor made.
    #[error("Payload does not decompress: {0}")]
    Compression(String),
    /// A value too large to be sent or kept.
    #[error("{what} takes {bytes} bytes, above the limit of {limit}")]
    Oversized {
        /// The message's name.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
}

/// The frame of `message`.
///
/// # Errors
///
/// [`CodecError::Oversized`] if the receiver would refuse the frame, [`CodecError::Gap`] if the
/// entries of a batch do not follow each other.
pub fn encode_message(message: &Message) -> Result<Vec<u8>, CodecError> {
    if let Message::Entries { entries, .. } = message {
        check_sequence(entries)?;
        check_size(
            message,
            entries.iter().map(Entry::size_bytes).sum(),
            MAX_BATCH_BYTES,
        )?;
        return frame::encode(frame::MESSAGE_MAGIC, message);
    }
    let bytes = frame::encode(frame::MESSAGE_MAGIC, message)?;
    check_size(message, bytes.len() as u64, MAX_CONTROL_BYTES)?;
    Ok(bytes)
}

/// The entries of one message: [`Entry::size_bytes`] summed up, which leaves room for the rest of
/// the frame.
pub const MAX_BATCH_BYTES: usize = MAX_PAYLOAD_BYTES - 64;

fn check_size(message: &Message, bytes: u64, limit: usize) -> Result<(), CodecError> {
    if bytes > limit as u64 {
        let what = message.name();
        return Err(CodecError::Oversized { what, bytes, limit });
    }
    Ok(())
}

fn check_sequence(entries: &[Entry]) -> Result<(), CodecError> {
    for pair in entries.windows(2) {
        if pair[1].seq.checked_sub(1) != Some(pair[0].seq) {
            return Err(CodecError::Gap {
                previous: pair[0].seq,
                found: pair[1].seq,
            });
        }
    }
    Ok(())
}

/// How the payload of a [`Message::Entries`] begins: with its place among the messages.
const ENTRIES_TAG: u8 = 3;

fn decode_message(payload: &[u8]) -> Result<Message, CodecError> {
    if payload.len() > MAX_CONTROL_BYTES && payload[0] != ENTRIES_TAG {
        return Err(CodecError::TooLong {
            bytes: payload.len() as u64,
            limit: MAX_CONTROL_BYTES,
        });
    }
    frame::decode_payload(payload)
}
