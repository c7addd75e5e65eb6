//! From the greeting to the moment at which requests flow.
//!
//! ```text
//!   server                                     client
//!   GREETING ────────────────────────────────▶
//!             ◀──────────────────────────────── client flags
//!             ◀──────────────────────────────── OptionHeader, data     again and again
//!   ReplyHeader, data (one or more) ─────────▶
//!             ◀──────────────────────────────── GO or EXPORT_NAME      transmission begins
//! ```
//!
//! Two options are lockstep's own; `docs/disk-server.md` describes them. Other servers answer them
//! with [`kind::UNSUPPORTED`], as the protocol asks of any server that does not know an option.

use arbiter::Identity;

use super::{Fields, MAX_OPTION_BYTES, WireFault};

const INITIAL_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Handshake flags: fixed newstyle, and no zeroes after [`option::EXPORT_NAME`] for who agrees.
const HANDSHAKE_FLAGS: u16 = 0b11;

/// Bytes of [`GREETING`].
pub const GREETING_BYTES: usize = 18;
/// Bytes of an [`OptionHeader`].
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of a [`ReplyHeader`].
pub const OPTION_REPLY_BYTES: usize = 20;

/// What a server says first.
pub const GREETING: [u8; GREETING_BYTES] = {
    let (initial, option) = (INITIAL_MAGIC.to_be_bytes(), OPTION_MAGIC.to_be_bytes());
    let flags = HANDSHAKE_FLAGS.to_be_bytes();
    let mut greeting = [0; GREETING_BYTES];
    let mut at = 0;
    while at < 8 {
        greeting[at] = initial[at];
        greeting[8 + at] = option[at];
        at += 1;
    }
    greeting[16] = flags[0];
    greeting[17] = flags[1];
    greeting
};

/// The numbers of options.
pub mod option {
    /// Names the export and begins transmission, with no way to say no but hanging up.
    pub const EXPORT_NAME: u32 = 1;
    /// Ends the handshake.
    pub const ABORT: u32 = 2;
    /// Asks for the names of the exports.
    pub const LIST: u32 = 3;
    /// Asks what [`GO`] would say.
    pub const INFO: u32 = 6;
    /// Names the export and begins transmission.
    pub const GO: u32 = 7;
    /// lockstep: binds the connection to a term and its holder. Data: term (64 bits), identity (16 bytes). The ACK carries the term.
    pub const BIND: u32 = 0x4c53_4e01;
    /// lockstep: makes an identity the holder of the term, and binds the connection. Data: identity (16 bytes). The ACK carries the term.
    pub const TAKE_OVER: u32 = 0x4c53_4e02;
}

/// The kinds of answers to options.
pub mod kind {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export's name.
    pub const SERVER: u32 = 2;
    /// Something about an export.
    pub const INFO: u32 = 3;
    /// From here on it is an error.
    pub const ERROR: u32 = 1 << 31;
    /// The option is not known.
    pub const UNSUPPORTED: u32 = ERROR + 1;
    /// The option's data make no sense.
    pub const INVALID: u32 = ERROR + 3;
    /// There is no such export.
    pub const UNKNOWN: u32 = ERROR + 6;
    /// The option has too much data.
    pub const TOO_BIG: u32 = ERROR + 9;
    /// lockstep: the term is another one, or somebody else's. Data: the server's term (64 bits), text.
    pub const OTHER_TERM: u32 = ERROR + 0x4c53_4e01;
    /// lockstep: the server cannot tell just now. Ask again.
    pub const UNAVAILABLE: u32 = ERROR + 0x4c53_4e02;
}

/// What may be told of an export: its size and flags; its block sizes.
pub(super) mod info {
    pub const EXPORT: u16 = 0;
    pub const BLOCK_SIZE: u16 = 3;
}

/// The right by which a connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The term that was won.
    pub term: u64,
    /// Who won it.
    pub identity: Identity,
}

/// What a client asks for in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// [`option::EXPORT_NAME`].
    ExportName(String),
    /// [`option::ABORT`].
    Abort,
    /// [`option::LIST`].
    List,
    /// [`option::INFO`], or [`option::GO`].
    Info {
        /// The export; empty for the one that the server has.
        name: String,
        /// Whether block sizes are asked for.
        block_size: bool,
        /// Whether transmission is to begin.
        go: bool,
    },
    /// [`option::BIND`].
    Bind(Binding),
    /// [`option::TAKE_OVER`].
    TakeOver(Identity),
    /// An option that this server does not have.
    Unknown,
}

/// What stands before an option's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Which: see [`option`].
    pub option: u32,
    /// Bytes of data that follow. Not limited yet.
    pub length: u32,
}

/// What stands before the data of an answer to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The option that is answered.
    pub option: u32,
    /// See [`kind`].
    pub kind: u32,
    /// Bytes of data that follow, [`MAX_OPTION_BYTES`] at most.
    pub length: u32,
}

/// An answer to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionReply {
    /// See [`kind`].
    pub kind: u32,
    /// Whatever belongs to the kind.
    pub data: Vec<u8>,
}

/// The client's flags in answer to [`GREETING`].
#[must_use]
pub fn client_flags() -> [u8; 4] {
    u32::from(HANDSHAKE_FLAGS).to_be_bytes()
}

/// Whether the client wants no zeroes after [`option::EXPORT_NAME`].
///
/// # Errors
/// If it sets a flag that it was not offered, or does not speak fixed newstyle.
pub fn parse_client_flags(bytes: [u8; 4]) -> Result<bool, WireFault> {
    match u32::from_be_bytes(bytes) {
        0b01 => Ok(false),
        0b11 => Ok(true),
        _ => Err(WireFault::Field("client flags")),
    }
}

/// Checks what a server says first.
///
/// # Errors
/// If it speaks something else than fixed newstyle.
pub fn check_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<(), WireFault> {
    let mut fields = Fields::new(bytes, "greeting");
    if (fields.u64()?, fields.u64()?) != (INITIAL_MAGIC, OPTION_MAGIC) {
        return Err(WireFault::Magic("greeting"));
    }
    // Without the zeroes of old, which nothing here could tell from an answer.
    match fields.u16()? & HANDSHAKE_FLAGS {
        HANDSHAKE_FLAGS => Ok(()),
        _ => Err(WireFault::Field("greeting")),
    }
}

impl OptionHeader {
    /// From the wire.
    ///
    /// # Errors
    /// If it is no option.
    pub fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> Result<Self, WireFault> {
        let mut fields = Fields::new(bytes, "option");
        if fields.u64()? != OPTION_MAGIC {
            return Err(WireFault::Magic("option"));
        }
        let (option, length) = (fields.u32()?, fields.u32()?);
        Ok(Self { option, length })
    }
}

impl Ask {
    /// What an option with this data asks for.
    ///
    /// # Errors
    /// If the data make no sense: answered with [`kind::INVALID`].
    pub fn decode(option: u32, data: &[u8]) -> Result<Self, WireFault> {
        let mut fields = Fields::new(data, "option's data");
        let ask = match option {
            option::EXPORT_NAME => Self::ExportName(fields.string(data.len())?),
            option::ABORT => return Ok(Self::Abort),
            option::LIST => Self::List,
            option::INFO | option::GO => Self::info(option == option::GO, &mut fields)?,
            option::BIND => Self::Bind(Binding {
                term: fields.u64()?,
                identity: Identity::from_bytes(fields.array()?),
            }),
            option::TAKE_OVER => Self::TakeOver(Identity::from_bytes(fields.array()?)),
            _ => return Ok(Self::Unknown),
        };
        fields.end()?;
        Ok(ask)
    }

    fn info(go: bool, fields: &mut Fields<'_>) -> Result<Self, WireFault> {
        let length = fields.u32()?;
        let name = fields.string(length as usize)?;
        let mut block_size = false;
        for _ in 0..fields.u16()? {
            block_size |= fields.u16()? == info::BLOCK_SIZE;
        }
        Ok(Self::Info {
            name,
            block_size,
            go,
        })
    }

    /// The option's number and data, as a client sends them.
    #[must_use]
    pub fn encode(&self) -> (u32, Vec<u8>) {
        match self {
            Self::ExportName(name) => (option::EXPORT_NAME, name.as_bytes().to_vec()),
            Self::Abort => (option::ABORT, Vec::new()),
            Self::List => (option::LIST, Vec::new()),
            Self::Info {
                name,
                block_size,
                go,
            } => {
                let mut data = (name.len() as u32).to_be_bytes().to_vec();
                data.extend_from_slice(name.as_bytes());
                data.extend_from_slice(&u16::from(*block_size).to_be_bytes());
                if *block_size {
                    data.extend_from_slice(&info::BLOCK_SIZE.to_be_bytes());
                }
                (if *go { option::GO } else { option::INFO }, data)
            }
            Self::Bind(Binding { term, identity }) => {
                let mut data = term.to_be_bytes().to_vec();
                data.extend_from_slice(&identity.to_bytes());
                (option::BIND, data)
            }
            Self::TakeOver(identity) => (option::TAKE_OVER, identity.to_bytes().to_vec()),
            Self::Unknown => (0, Vec::new()),
        }
    }
}

/// An option as a client sends it.
#[must_use]
pub fn encode_option(ask: &Ask) -> Vec<u8> {
    let (option, data) = ask.encode();
    let mut bytes = OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&data);
    bytes
}

impl ReplyHeader {
    /// From the wire.
    ///
    /// # Errors
    /// If it is no answer to an option, or one with too much data.
    pub fn decode(bytes: &[u8; OPTION_REPLY_BYTES]) -> Result<Self, WireFault> {
        let mut fields = Fields::new(bytes, "answer to an option");
        if fields.u64()? != REPLY_MAGIC {
            return Err(WireFault::Magic("answer to an option"));
        }
        let (option, kind, length) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if length > MAX_OPTION_BYTES {
            return Err(WireFault::Length {
                what: "answer to an option",
                bytes: length,
                limit: MAX_OPTION_BYTES,
            });
        }
        Ok(Self {
            option,
            kind,
            length,
        })
    }
}

impl OptionReply {
    /// Done.
    #[must_use]
    pub fn ack() -> Self {
        Self::new(kind::ACK, Vec::new())
    }

    /// Done, in this term.
    #[must_use]
    pub fn ack_in(term: u64) -> Self {
        Self::new(kind::ACK, term.to_be_bytes().to_vec())
    }

    /// There is an export of this name.
    #[must_use]
    pub fn server(name: &str) -> Self {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        Self::new(kind::SERVER, data)
    }

    /// The export has this many bytes and these [transmission flags](super::flag).
    #[must_use]
    pub fn export(size_bytes: u64, flags: u16) -> Self {
        let mut data = info::EXPORT.to_be_bytes().to_vec();
        data.extend_from_slice(&size_bytes.to_be_bytes());
        data.extend_from_slice(&flags.to_be_bytes());
        Self::new(kind::INFO, data)
    }

    /// Any byte can be had by itself, pages are better, and so much at once.
    #[must_use]
    pub fn block_sizes() -> Self {
        const PREFERRED_BYTES: u32 = 4096;
        let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
        for bytes in [1, PREFERRED_BYTES, super::MAX_DATA_BYTES] {
            data.extend_from_slice(&bytes.to_be_bytes());
        }
        Self::new(kind::INFO, data)
    }

    /// An error of this [`kind`], in words.
    #[must_use]
    pub fn error(kind: u32, text: &str) -> Self {
        Self::new(kind, text.as_bytes().to_vec())
    }

    /// The server is in another term.
    #[must_use]
    pub fn other_term(term: u64) -> Self {
        let mut data = term.to_be_bytes().to_vec();
        data.extend_from_slice(format!("This server is in term {term}").as_bytes());
        Self::new(kind::OTHER_TERM, data)
    }

    fn new(kind: u32, mut data: Vec<u8>) -> Self {
        data.truncate(MAX_OPTION_BYTES as usize);
        Self { kind, data }
    }

    /// As the answer to `option`.
    #[must_use]
    pub fn encode(&self, option: u32) -> Vec<u8> {
        let mut bytes = REPLY_MAGIC.to_be_bytes().to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&(self.data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Size and flags, where this tells them.
    ///
    /// # Errors
    /// If it should and does not.
    pub fn read_export(&self) -> Result<Option<(u64, u16)>, WireFault> {
        let mut fields = Fields::new(&self.data, "description of an export");
        if self.kind != kind::INFO || fields.u16()? != info::EXPORT {
            return Ok(None);
        }
        let found = (fields.u64()?, fields.u16()?);
        fields.end()?;
        Ok(Some(found))
    }

    /// An error's words, fit for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.data);
        text.chars().filter(|letter| !letter.is_control()).collect()
    }
}

/// The term at the front of an answer to [`option::BIND`] or [`option::TAKE_OVER`].
///
/// # Errors
/// If it is too short.
pub fn read_term(data: &[u8]) -> Result<u64, WireFault> {
    Fields::new(data, "term").u64()
}

/// What answers [`option::EXPORT_NAME`]; `bare` without the zeroes of old.
#[must_use]
pub fn export_name_answer(size_bytes: u64, flags: u16, bare: bool) -> Vec<u8> {
    const ZEROES: usize = 124;
    let mut bytes = size_bytes.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    if !bare {
        bytes.resize(bytes.len() + ZEROES, 0);
    }
    bytes
}
