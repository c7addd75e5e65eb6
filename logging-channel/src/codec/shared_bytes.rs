//! Bytes that several share, in the form of bytes that one has. For `#[serde(with)]`.

use std::sync::Arc;

use serde::{Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(
    bytes: &Arc<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<Vec<u8>>, D::Error> {
    serde_bytes::deserialize(deserializer).map(Arc::new)
}
