//! Requests and their answers, after the handshake. Answers come in any order, named by the
//! request's cookie.
//!
//! ```text
//!   request: magic (4) flags (2) command (2) cookie (8) offset (8) length (4), data of a write
//!   reply:   magic (4) error (4) cookie (8),                                   data of a read
//! ```

use super::{Fields, MAX_DATA_BYTES, WireFault};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Bytes of a [`Request`] on the wire, its data not counted.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of a [`Reply`] on the wire, its data not counted.
pub const REPLY_BYTES: usize = 16;

/// Transmission flags: what an export can do.
pub mod flag {
    /// There are flags.
    pub const HAS_FLAGS: u16 = 1;
    /// It cannot be written.
    pub const READ_ONLY: u16 = 1 << 1;
    /// It can be flushed.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// A write can ask to be on stable storage when it is answered.
    pub const SEND_FUA: u16 = 1 << 3;
    /// Ranges can be given back.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// Ranges can be made zero.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// Several connections of one client see each other's writes and flushes.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Flags of a request.
pub mod command_flag {
    /// On stable storage when answered.
    pub const FUA: u16 = 1;
    /// Zeroes are to have space of their own.
    pub const NO_HOLE: u16 = 1 << 1;
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read.
    Read,
    /// Write the data that follow.
    Write,
    /// Hang up, once all is answered. Has no answer itself.
    Disconnect,
    /// Have all that was answered on stable storage.
    Flush,
    /// The range is not needed any more.
    Trim,
    /// The range reads as zeroes.
    WriteZeroes,
    /// Something that this server does not know.
    Unknown(u16),
}

impl Command {
    const KNOWN: [(Self, u16); 6] = [
        (Self::Read, 0),
        (Self::Write, 1),
        (Self::Disconnect, 2),
        (Self::Flush, 3),
        (Self::Trim, 4),
        (Self::WriteZeroes, 6),
    ];

    pub(super) fn from_number(number: u16) -> Self {
        let known = Self::KNOWN.iter().find(|(_, known)| *known == number);
        known.map_or(Self::Unknown(number), |(command, _)| *command)
    }

    fn number(self) -> u16 {
        match self {
            Self::Unknown(number) => number,
            known => Self::KNOWN
                .iter()
                .find(|(command, _)| *command == known)
                .map_or(0, |(_, number)| *number),
        }
    }

    /// Whether it changes the export.
    #[must_use]
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// The flags that it may have.
    fn flags(self) -> u16 {
        match self {
            Self::WriteZeroes => command_flag::FUA | command_flag::NO_HOLE,
            // Clients are known to set FUA everywhere, and it is harmless.
            _ => command_flag::FUA,
        }
    }
}

/// A request, without the data of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// See [`command_flag`].
    pub flags: u16,
    /// What to do.
    pub command: Command,
    /// The client's name for it.
    pub cookie: u64,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

impl Request {
    /// From the wire.
    ///
    /// # Errors
    /// If it is no request, or a write of more than [`MAX_DATA_BYTES`]: whatever follows cannot be understood.
    pub fn decode(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, WireFault> {
        let mut fields = Fields::new(bytes, "request");
        if fields.u32()? != REQUEST_MAGIC {
            return Err(WireFault::Magic("request"));
        }
        let request = Self {
            flags: fields.u16()?,
            command: Command::from_number(fields.u16()?),
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        };
        if request.command == Command::Write && request.length > MAX_DATA_BYTES {
            return Err(WireFault::Length {
                what: "write",
                bytes: request.length,
                limit: MAX_DATA_BYTES,
            });
        }
        Ok(request)
    }

    /// To the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.number().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Bytes that follow the request.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        match self.command {
            Command::Write => self.length as usize,
            _ => 0,
        }
    }

    /// Whether an export of `size_bytes` that has these [flags](flag) can be asked this.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn check(&self, size_bytes: u64, flags: u16) -> Result<(), ErrorCode> {
        if matches!(self.command, Command::Unknown(_)) || self.flags & !self.command.flags() != 0 {
            return Err(ErrorCode::Invalid);
        }
        if matches!(self.command, Command::Flush | Command::Disconnect) {
            return Ok(());
        }
        if self.command.changes() && flags & flag::READ_ONLY != 0 {
            return Err(ErrorCode::NotPermitted);
        }
        let end = self.offset.checked_add(u64::from(self.length));
        if end.is_none_or(|end| end > size_bytes) {
            return Err(match self.command {
                Command::Write | Command::WriteZeroes => ErrorCode::NoSpace,
                _ => ErrorCode::Invalid,
            });
        }
        if self.command == Command::Read && self.length > MAX_DATA_BYTES {
            return Err(ErrorCode::Invalid);
        }
        Ok(())
    }
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The connection may not do that.
    NotPermitted,
    /// The storage failed.
    Io,
    /// The request makes no sense.
    Invalid,
    /// The storage, or the export, is full.
    NoSpace,
    /// Not here.
    NotSupported,
    /// The server is going away.
    Shutdown,
    /// Some other number.
    Other(u32),
}

impl ErrorCode {
    const KNOWN: [(Self, u32); 6] = [
        (Self::NotPermitted, 1),
        (Self::Io, 5),
        (Self::Invalid, 22),
        (Self::NoSpace, 28),
        (Self::NotSupported, 95),
        (Self::Shutdown, 108),
    ];

    fn from_number(number: u32) -> Self {
        let known = Self::KNOWN.iter().find(|(_, known)| *known == number);
        known.map_or(Self::Other(number), |(code, _)| *code)
    }

    fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            known => Self::KNOWN
                .iter()
                .find(|(code, _)| *code == known)
                .map_or(5, |(_, number)| *number),
        }
    }
}

/// An answer, without the data of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request's name.
    pub cookie: u64,
    /// How it ended. Data follow only a read that succeeded.
    pub result: Result<(), ErrorCode>,
}

impl Reply {
    /// From the wire.
    ///
    /// # Errors
    /// If it is no simple reply.
    pub fn decode(bytes: &[u8; REPLY_BYTES]) -> Result<Self, WireFault> {
        let mut fields = Fields::new(bytes, "reply");
        if fields.u32()? != REPLY_MAGIC {
            return Err(WireFault::Magic("reply"));
        }
        let result = match fields.u32()? {
            0 => Ok(()),
            number => Err(ErrorCode::from_number(number)),
        };
        let cookie = fields.u64()?;
        Ok(Self { cookie, result })
    }

    /// To the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let number = self.result.err().map_or(0, ErrorCode::number);
        let mut bytes = [0; REPLY_BYTES];
        bytes[0..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes
    }
}
