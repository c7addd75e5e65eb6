//! Heartbeats: one frame, one datagram.

use super::CodecError;
use super::frame::{self, HEADER_BYTES, HEARTBEAT_MAGIC, Header};
use crate::protocol::Heartbeat;

/// No heartbeat's datagram is longer.
pub const HEARTBEAT_MAX_BYTES: usize = 128;

/// The datagram of `heartbeat`.
#[must_use]
pub fn encode_heartbeat(heartbeat: &Heartbeat) -> Vec<u8> {
    let datagram = frame::encode(HEARTBEAT_MAGIC, heartbeat).expect("a heartbeat is five numbers");
    assert!(datagram.len() <= HEARTBEAT_MAX_BYTES);
    datagram
}

/// The heartbeat in `datagram`.
///
/// # Errors
///
/// It is not one, or was damaged.
pub fn decode_heartbeat(datagram: &[u8]) -> Result<Heartbeat, CodecError> {
    let bytes = datagram.len();
    let Some((header, payload)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::DatagramLength { bytes });
    };
    let header = Header::parse(HEARTBEAT_MAGIC, header)?;
    if bytes > HEARTBEAT_MAX_BYTES || payload.len() != header.payload_bytes {
        return Err(CodecError::DatagramLength { bytes });
    }
    header.check_payload(0, payload)?;
    frame::decode_payload(payload)
}
