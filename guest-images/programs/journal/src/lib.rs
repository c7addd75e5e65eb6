//! What `journald` writes to its disk and says over TCP: pure, for the program in the guest and for its clients.
//!
//! [`record`]: a record's bytes, and the chain that records form. [`lines`]: requests and answers, each a line of text.
//!
//! What always holds: a record names its number and the checksum of the one before it, so that a journal that was read back
//! whole tells one history: nothing is missing from it, torn, repeated or from elsewhere.

pub mod lines;
pub mod record;

pub use lines::{Answer, PORT, READ_LIMIT, Request};
pub use record::{Chain, Fault, PAYLOAD_BYTES, Payload, RECORD_BYTES, Record, read_back};
