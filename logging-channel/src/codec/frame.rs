//! Header, checksums and limits around a payload.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CodecError;
use crate::identity::FORMAT_VERSION;
use crate::protocol::Message;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 20;
/// No frame is longer, header included.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// No payload is longer.
pub const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES - HEADER_BYTES;

pub(super) const MESSAGE_MAGIC: [u8; 4] = *b"LSTP";
pub(super) const HEARTBEAT_MAGIC: [u8; 4] = *b"LSHB";
pub(crate) const FILE_MAGIC: [u8; 4] = *b"LSLG";
const OURS: [[u8; 4]; 3] = [MESSAGE_MAGIC, HEARTBEAT_MAGIC, FILE_MAGIC];

const VERSION: u16 = {
    assert!(FORMAT_VERSION <= u16::MAX as u32);
    FORMAT_VERSION as u16
};
const NO_FLAGS: u16 = 0;

/// Little endian, variable-length integers. The limit counts what decoding allocates and reads at
/// full width, so a length in the payload cannot make it allocate more than a frame's worth.
const BINCODE: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<MAX_PAYLOAD_BYTES>,
> = bincode::config::standard().with_limit::<MAX_PAYLOAD_BYTES>();

pub(super) fn encode<T: Serialize>(magic: [u8; 4], value: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER_BYTES];
    encode_payload(value, &mut frame)?;
    seal(magic, 0, &mut frame)?;
    Ok(frame)
}

/// Adds the bytes of `value` to `bytes`.
pub(crate) fn encode_payload<T: Serialize>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, bytes, BINCODE)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok(())
}

/// Fills in the header of a frame whose payload stands behind [`HEADER_BYTES`] of room for it. The payload's checksum goes on
/// from `crc_before`, 0 where frames stand alone, and is returned.
pub(crate) fn seal(magic: [u8; 4], crc_before: u32, frame: &mut [u8]) -> Result<u32, CodecError> {
    let payload_bytes = frame.len() - HEADER_BYTES;
    let Some(length) = u32::try_from(payload_bytes)
        .ok()
        .filter(|_| payload_bytes <= MAX_PAYLOAD_BYTES)
    else {
        return Err(CodecError::Oversized {
            what: "A frame",
            bytes: payload_bytes as u64,
            limit: MAX_PAYLOAD_BYTES,
        });
    };
    let payload_crc = crc_after(crc_before, &frame[HEADER_BYTES..]);
    frame[0..4].copy_from_slice(&magic);
    frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
    frame[6..8].copy_from_slice(&NO_FLAGS.to_le_bytes());
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    frame[12..16].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32fast::hash(&frame[..16]);
    frame[16..20].copy_from_slice(&header_crc.to_le_bytes());
    Ok(payload_crc)
}

fn crc_after(crc_before: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc_before);
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) fn decode_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(payload, BINCODE)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used < payload.len() {
        let count = payload.len() - used;
        return Err(CodecError::TrailingBytes { count });
    }
    Ok(value)
}

/// A header that has passed every check.
pub(crate) struct Header {
    pub(crate) payload_bytes: usize,
    payload_crc: u32,
}

impl Header {
    pub(crate) fn parse(magic: [u8; 4], bytes: &[u8; HEADER_BYTES]) -> Result<Self, CodecError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let u32_at = |at: usize| u32::from_le_bytes(four(at));
        // Before version 3, files had the magic of messages: that they are old says more than that they are no files.
        if !OURS.contains(&four(0)) || four(0) != magic && u16_at(4) == VERSION {
            return Err(CodecError::Magic { found: four(0) });
        }
        if u16_at(4) != VERSION {
            return Err(CodecError::Version {
                found: u16_at(4),
                expected: VERSION,
            });
        }
        if u32_at(16) != crc32fast::hash(&bytes[..16]) {
            return Err(CodecError::HeaderChecksum);
        }
        if u16_at(6) != NO_FLAGS {
            return Err(CodecError::Flags { found: u16_at(6) });
        }
        let payload_bytes = u32_at(8) as usize;
        if payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(CodecError::TooLong {
                bytes: payload_bytes as u64,
                limit: MAX_PAYLOAD_BYTES,
            });
        }
        Ok(Self {
            payload_bytes,
            payload_crc: u32_at(12),
        })
    }

    /// Checks the payload and returns its checksum, which goes on from `crc_before`.
    pub(crate) fn check_payload(&self, crc_before: u32, payload: &[u8]) -> Result<u32, CodecError> {
        if crc_after(crc_before, payload) != self.payload_crc {
            return Err(CodecError::PayloadChecksum);
        }
        Ok(self.payload_crc)
    }
}

/// Turns a stream of bytes into messages. It holds no more than was pushed and not yet pulled: pull
/// until `None` after every push, and it never holds more than a frame and a push.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were pulled.
    pulled: usize,
    /// Bytes pulled since the beginning.
    position: u64,
    failed: Option<CodecError>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the stream's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.pulled > 0 {
            self.buffer.drain(..self.pulled);
            self.pulled = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if all of it is here.
    ///
    /// # Errors
    ///
    /// The stream is damaged. It stays so: every later call gives the same error.
    pub fn pull(&mut self) -> Result<Option<Message>, CodecError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.pull_frame()
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Offset in the stream of the next message.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that were pushed and not pulled: part of a frame, once [`pull`](Self::pull) has given
    /// `None`.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.buffer.len() - self.pulled
    }

    fn pull_frame(&mut self) -> Result<Option<Message>, CodecError> {
        let unread = &self.buffer[self.pulled..];
        let Some((header, rest)) = unread.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::parse(MESSAGE_MAGIC, header)?;
        let Some(payload) = rest.get(..header.payload_bytes) else {
            return Ok(None);
        };
        header.check_payload(0, payload)?;
        let message = super::decode_message(payload)?;
        let frame_bytes = HEADER_BYTES + header.payload_bytes;
        self.pulled += frame_bytes;
        self.position += frame_bytes as u64;
        Ok(Some(message))
    }
}

/// The bytes of a plain value, the same on every host: for digests of state, and for state that goes elsewhere
/// ([`from_canonical_bytes`]).
///
/// # Panics
/// If `value` cannot be serialised, which plain data always can.
#[must_use]
pub fn canonical_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("plain data is serialisable")
}

/// The value whose [`canonical_bytes`] these are.
///
/// # Errors
///
/// They are no such value's, or go on after it, or would make one that is larger than a frame.
pub fn from_canonical_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_payload(bytes)
}
