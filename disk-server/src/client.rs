//! A client's side of the handshake, and what both sides ask of their sockets.

use std::{io, time::Duration};

use arbiter::Identity;
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::wire::{
    Ask, Binding, GREETING_BYTES, OPTION_REPLY_BYTES, OptionReply, ReplyHeader, WireFault,
    check_greeting, client_flags, encode_option, kind, read_term,
};

/// Answers to one option that are read before it is given up.
const MAX_REPLIES: usize = 256;

/// By what right a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To read.
    Reader,
    /// As the winner of a term.
    Bound(Binding),
    /// As whoever runs alone, in a term of its own.
    TakeOver(Identity),
}

/// A connection on which requests can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The export's size.
    pub size_bytes: u64,
    /// What it can do: see [`crate::wire::flag`].
    pub flags: u16,
    /// The binding, of a connection that may write.
    pub binding: Option<Binding>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server speaks something else.
    #[error(transparent)]
    Wire(#[from] WireFault),
    /// The server is in another term, or it is somebody else's.
    #[error("the server is in term {term}, and not in ours")]
    OtherTerm {
        /// The server's.
        term: u64,
    },
    /// The server knows no terms.
    #[error(
        "the server cannot keep an older primary from writing: it does not know lockstep's option. `lockstep disk-server` does"
    )]
    NoFence,
    /// The server has no such export.
    #[error("the server has no disk of this name")]
    NoExport,
    /// The server says no, or not now.
    #[error("the server refuses: {0}")]
    Refused(String),
}

/// Shakes hands on a new connection to a server.
///
/// # Errors
/// See [`HandshakeError`].
pub async fn negotiate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    export: &str,
    claim: Claim,
) -> Result<Opened, HandshakeError> {
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).await?;
    check_greeting(&greeting)?;
    stream.write_all(&client_flags()).await?;
    let binding = bind(stream, claim).await?;
    let name = export.to_owned();
    let (size_bytes, flags) = go(stream, name).await?;
    Ok(Opened {
        size_bytes,
        flags,
        binding,
    })
}

async fn bind(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    claim: Claim,
) -> Result<Option<Binding>, HandshakeError> {
    let (ask, identity) = match claim {
        Claim::Reader => return Ok(None),
        Claim::Bound(binding) => (Ask::Bind(binding), binding.identity),
        Claim::TakeOver(identity) => (Ask::TakeOver(identity), identity),
    };
    let reply = ask_once(stream, &ask).await?;
    match reply.kind {
        kind::ACK => {
            let term = read_term(&reply.data)?;
            // Later, if the same identity has won a later term since.
            if matches!(claim, Claim::Bound(binding) if binding.term > term) {
                return Err(WireFault::Field("term").into());
            }
            Ok(Some(Binding { term, identity }))
        }
        kind::UNSUPPORTED => Err(HandshakeError::NoFence),
        _ => Err(refusal(&reply)),
    }
}

async fn go(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: String,
) -> Result<(u64, u16), HandshakeError> {
    let ask = Ask::Info {
        name,
        block_size: false,
        go: true,
    };
    stream.write_all(&encode_option(&ask)).await?;
    let mut found = None;
    for _ in 0..MAX_REPLIES {
        let reply = read_reply(stream, &ask).await?;
        match reply.kind {
            kind::INFO => found = reply.read_export()?.or(found),
            kind::ACK => return Ok(found.ok_or(WireFault::Field("description of the export"))?),
            _ => return Err(refusal(&reply)),
        }
    }
    Err(WireFault::Field("number of answers").into())
}

async fn ask_once(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ask: &Ask,
) -> Result<OptionReply, HandshakeError> {
    stream.write_all(&encode_option(ask)).await?;
    read_reply(stream, ask).await
}

async fn read_reply(
    stream: &mut (impl AsyncRead + Unpin),
    ask: &Ask,
) -> Result<OptionReply, HandshakeError> {
    let mut header = [0; OPTION_REPLY_BYTES];
    stream.read_exact(&mut header).await?;
    let header = ReplyHeader::decode(&header)?;
    if header.option != ask.encode().0 {
        return Err(WireFault::Field("option that is answered").into());
    }
    let mut data = vec![0; header.length as usize];
    stream.read_exact(&mut data).await?;
    let kind = header.kind;
    Ok(OptionReply { kind, data })
}

fn refusal(reply: &OptionReply) -> HandshakeError {
    match reply.kind {
        kind::OTHER_TERM => match read_term(&reply.data) {
            Ok(term) => HandshakeError::OtherTerm { term },
            Err(fault) => fault.into(),
        },
        kind::UNKNOWN => HandshakeError::NoExport,
        other => HandshakeError::Refused(match reply.text() {
            text if text.is_empty() => format!("it answers {other:#x}"),
            text => text,
        }),
    }
}

/// Small frames leave at once, and a peer whose host is gone is noticed: by keepalives when nothing
/// is on its way, else by what is not acknowledged.
///
/// # Errors
/// The host's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    const IDLE: Duration = Duration::from_secs(5);
    const INTERVAL: Duration = Duration::from_secs(1);
    const PROBES: u32 = 5;
    const UNACKNOWLEDGED_MS: u32 = 10_000;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    Ok(())
}
