//! The NBD protocol, fixed newstyle, as values: bytes in, values out, and back. Pure.
//!
//! The protocol is described in `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>. All
//! numbers are big-endian. What always holds: no length in a frame is believed before it was
//! compared with a limit of this module.

mod handshake;
mod transmission;

#[cfg(test)]
mod tests;

pub use self::handshake::{
    Ask, Binding, GREETING, GREETING_BYTES, OPTION_HEADER_BYTES, OPTION_REPLY_BYTES, OptionHeader,
    OptionReply, ReplyHeader, check_greeting, client_flags, encode_option, export_name_answer,
    kind, option, parse_client_flags, read_term,
};
pub use self::transmission::{
    Command, ErrorCode, REPLY_BYTES, REQUEST_BYTES, Reply, Request, command_flag, flag,
};

/// The most bytes that one request may read or write: 32 MiB, what clients expect of any server.
pub const MAX_DATA_BYTES: u32 = 32 << 20;

/// The most bytes of an option's data that are taken in.
pub const MAX_OPTION_BYTES: u32 = 16 << 10;

/// The most bytes of a name or a message, by the protocol's rules for strings.
pub const MAX_STRING_BYTES: usize = 4096;

/// Why bytes are not of the protocol. The connection has no future then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// A magic number is another one.
    #[error("the {0} begins with the wrong magic number: this is not NBD, fixed newstyle")]
    Magic(&'static str),
    /// A length is beyond the limit.
    #[error("the {what} has {bytes} bytes, more than {limit}")]
    Length {
        /// Of what.
        what: &'static str,
        /// That long.
        bytes: u32,
        /// At most.
        limit: u32,
    },
    /// A field has a value that the protocol does not know or allow.
    #[error("the {0} is not valid")]
    Field(&'static str),
    /// A field says that more follows than there is, or less.
    #[error("the {0} ends too early or too late")]
    Ragged(&'static str),
}

/// Takes numbers and strings from the front of what is left.
struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireFault> {
        let taken = self.rest.split_at_checked(length);
        let (taken, rest) = taken.ok_or(WireFault::Ragged(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, WireFault> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, WireFault> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireFault> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn string(&mut self, length: usize) -> Result<String, WireFault> {
        let bytes = self.bytes(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| WireFault::Field(self.what))?;
        if text.len() > MAX_STRING_BYTES || text.contains('\0') {
            return Err(WireFault::Field(self.what));
        }
        Ok(text.to_owned())
    }

    fn end(self) -> Result<(), WireFault> {
        match self.rest {
            [] => Ok(()),
            _ => Err(WireFault::Ragged(self.what)),
        }
    }
}
