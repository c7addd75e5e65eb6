//! The handshake: which export, and by what right.
//!
//! ```text
//!   greet ─▶ options ─┬─ BIND, TAKE_OVER: remembered, if the arbiter's state is that ─▶ options
//!                     ├─ LIST, INFO, unknown ones: answered ─────────────────────────▶ options
//!                     ├─ GO, EXPORT_NAME ─ bound: attached at the gate, older ones drained ─▶ Session
//!                     └─ ABORT, the client's end, too slow, no option at all ─▶ the end
//! ```

use std::sync::Arc;

use arbiter::{Identity, Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{BINDING_LIMIT, ConnectionError, Export, HANDSHAKE_LIMIT, Notice, Shared};
use crate::{
    fence::{Attachment, OtherTerm},
    wire::{
        Ask, Binding, GREETING, MAX_OPTION_BYTES, OPTION_HEADER_BYTES, OptionHeader, OptionReply,
        export_name_answer, flag, kind, parse_client_flags,
    },
};

/// Options that one handshake may have.
const MAX_OPTIONS: usize = 256;

/// What the handshake agreed on.
#[derive(Debug)]
pub(super) struct Session {
    /// The export's number.
    pub(super) export: usize,
    /// Its transmission flags for this connection.
    pub(super) flags: u16,
    /// The right to write, and the term that it is of.
    pub(super) attachment: Option<(Attachment, Binding)>,
}

/// A handshake under way.
struct Handshake<'a> {
    stream: &'a mut TcpStream,
    shared: &'a Arc<Shared>,
    binding: Option<Binding>,
    /// Whether the client wants no zeroes after `EXPORT_NAME`.
    bare: bool,
}

/// Talks until transmission begins, or the client leaves: then there is no session.
pub(super) async fn negotiate(
    stream: &mut TcpStream,
    shared: &Arc<Shared>,
) -> Result<Option<Session>, ConnectionError> {
    let mut flags = [0; 4];
    timeout(HANDSHAKE_LIMIT, async {
        stream.write_all(&GREETING).await?;
        stream.read_exact(&mut flags).await
    })
    .await??;
    let mut handshake = Handshake {
        stream,
        shared,
        binding: None,
        bare: parse_client_flags(flags)?,
    };
    for _ in 0..MAX_OPTIONS {
        let (option, ask) = match handshake.read().await? {
            (option, Ok(ask)) => (option, ask),
            (option, Err(reply)) => {
                handshake.answer(option, &[reply]).await?;
                continue;
            }
        };
        match handshake.decide(ask).await? {
            Step::Answer(replies) => handshake.answer(option, &replies).await?,
            Step::Leave(replies) => {
                handshake.answer(option, &replies).await?;
                return Ok(None);
            }
            Step::Begin(replies, session) => {
                handshake.answer(option, &replies).await?;
                return Ok(Some(session));
            }
            Step::BeginRaw(bytes, session) => {
                handshake.send(&bytes).await?;
                return Ok(Some(session));
            }
        }
    }
    Err(ConnectionError::Hopeless)
}

/// What follows an option.
enum Step {
    Answer(Vec<OptionReply>),
    Leave(Vec<OptionReply>),
    Begin(Vec<OptionReply>, Session),
    BeginRaw(Vec<u8>, Session),
}

impl Handshake<'_> {
    /// The next option: its number, and what it asks for or why that makes no sense.
    async fn read(&mut self) -> Result<(u32, Result<Ask, OptionReply>), ConnectionError> {
        let mut header = [0; OPTION_HEADER_BYTES];
        timeout(HANDSHAKE_LIMIT, self.stream.read_exact(&mut header)).await??;
        let OptionHeader { option, length } = OptionHeader::decode(&header)?;
        if length > MAX_OPTION_BYTES {
            let mut data = (&mut *self.stream).take(u64::from(length));
            let mut nowhere = tokio::io::sink();
            let skipped = tokio::io::copy(&mut data, &mut nowhere);
            timeout(HANDSHAKE_LIMIT, skipped).await??;
            let reply = OptionReply::error(kind::TOO_BIG, "The option has too much data");
            return Ok((option, Err(reply)));
        }
        let mut data = vec![0; length as usize];
        timeout(HANDSHAKE_LIMIT, self.stream.read_exact(&mut data)).await??;
        let ask = Ask::decode(option, &data)
            .map_err(|fault| OptionReply::error(kind::INVALID, &fault.to_string()));
        Ok((option, ask))
    }

    async fn answer(
        &mut self,
        option: u32,
        replies: &[OptionReply],
    ) -> Result<(), ConnectionError> {
        let frames = replies.iter().map(|reply| reply.encode(option));
        let bytes: Vec<u8> = frames.flatten().collect();
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        Ok(timeout(HANDSHAKE_LIMIT, self.stream.write_all(bytes)).await??)
    }

    async fn decide(&mut self, ask: Ask) -> Result<Step, ConnectionError> {
        let unknown = || OptionReply::error(kind::UNKNOWN, "There is no such export");
        Ok(match ask {
            Ask::Abort => Step::Leave(vec![OptionReply::ack()]),
            Ask::List => {
                let names = self.shared.exports.iter();
                let mut replies: Vec<_> = names.map(|e| OptionReply::server(&e.name)).collect();
                replies.push(OptionReply::ack());
                Step::Answer(replies)
            }
            Ask::Unknown => {
                let text = "This server does not know the option";
                Step::Answer(vec![OptionReply::error(kind::UNSUPPORTED, text)])
            }
            Ask::Bind(binding) => Step::Answer(vec![self.bind(binding).await]),
            Ask::TakeOver(identity) => Step::Answer(vec![self.take_over(identity).await]),
            Ask::Info {
                name,
                block_size,
                go,
            } => match self.shared.find(&name) {
                None => Step::Answer(vec![unknown()]),
                Some(export) if go => match self.begin(export).await {
                    Ok(session) => Step::Begin(self.describe(export, block_size), session),
                    Err(OtherTerm { term }) => Step::Answer(vec![OptionReply::other_term(term)]),
                },
                Some(export) => Step::Answer(self.describe(export, block_size)),
            },
            Ask::ExportName(name) => {
                let export = self.shared.find(&name).ok_or(ConnectionError::Hopeless)?;
                let session = self.begin(export).await;
                let session = session.map_err(|_| ConnectionError::Hopeless)?;
                let size_bytes = self.shared.exports[export].storage.size_bytes();
                let bytes = export_name_answer(size_bytes, session.flags, self.bare);
                Step::BeginRaw(bytes, session)
            }
        })
    }

    /// Remembers the binding, if the arbiter's state is just that: what is on the disk, should
    /// somebody have moved it who knows nothing of this server.
    async fn bind(&mut self, binding: Binding) -> OptionReply {
        let binding = match self.latest(binding).await {
            Ok(binding) => binding,
            Err(reply) => return reply,
        };
        match self.shared.gate.check(binding) {
            Ok(()) => {
                self.binding = Some(binding);
                OptionReply::ack_in(binding.term)
            }
            Err(OtherTerm { term }) => {
                self.shared.tell(Notice::Refused {
                    identity: binding.identity,
                    asked: binding.term,
                    term,
                });
                OptionReply::other_term(term)
            }
        }
    }

    /// The same client's binding to the term that it has won since, if it has: it may not have heard of that yet, and its own win cuts it off from
    /// nothing.
    async fn latest(&self, binding: Binding) -> Result<Binding, OptionReply> {
        let state = self.shared.store.settled(BINDING_LIMIT).await;
        let state =
            state.map_err(|error| OptionReply::error(kind::UNAVAILABLE, &error.to_string()))?;
        let term = match state.holder == Some(binding.identity) {
            true => binding.term.max(state.term),
            false => binding.term,
        };
        Ok(Binding { term, ..binding })
    }

    async fn take_over(&mut self, identity: Identity) -> OptionReply {
        match self.shared.store.take_over(identity, BINDING_LIMIT).await {
            Ok(Outcome::Won { term }) => {
                self.binding = Some(Binding { term, identity });
                OptionReply::ack_in(term)
            }
            Ok(Outcome::Lost { term, .. }) => OptionReply::other_term(term),
            Err(error) => OptionReply::error(kind::UNAVAILABLE, &error.to_string()),
        }
    }

    /// Makes the connection one of this export; a bound one when nothing of its client's older ones
    /// is under way any more.
    async fn begin(&mut self, export: usize) -> Result<Session, OtherTerm> {
        let attachment = match self.binding {
            Some(mut binding) => {
                let attached = loop {
                    let refused = match self.shared.gate.attach(binding, export).await {
                        Ok(attached) => break attached,
                        Err(refused) => refused,
                    };
                    // The term moved since it was bound: by its own win?
                    match self.latest(binding).await {
                        Ok(latest) if latest != binding => binding = latest,
                        _ => return Err(refused),
                    }
                };
                self.binding = Some(binding);
                self.shared.tell(Notice::Bound {
                    export: self.shared.exports[export].name.clone(),
                    term: binding.term,
                    identity: binding.identity,
                });
                Some((attached, binding))
            }
            None => None,
        };
        let flags = self.flags(export);
        Ok(Session {
            export,
            flags,
            attachment,
        })
    }

    fn describe(&self, export: usize, block_size: bool) -> Vec<OptionReply> {
        let size_bytes = self.shared.exports[export].storage.size_bytes();
        let mut replies = vec![OptionReply::export(size_bytes, self.flags(export))];
        if block_size {
            replies.push(OptionReply::block_sizes());
        }
        replies.push(OptionReply::ack());
        replies
    }

    fn flags(&self, export: usize) -> u16 {
        flags(&self.shared.exports[export], self.binding.is_some())
    }
}

/// What a connection can do with an export. A bound connection is its client's only one.
fn flags(export: &Export, bound: bool) -> u16 {
    let always = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA;
    let changes = match bound && !export.read_only {
        true => flag::SEND_TRIM | flag::SEND_WRITE_ZEROES,
        false => flag::READ_ONLY,
    };
    let shared = if bound { 0 } else { flag::CAN_MULTI_CONN };
    always | changes | shared
}
