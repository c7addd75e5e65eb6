//! Requests of one connection, served at the same time, answered in whatever order they end.
//!
//! ```text
//!   socket ─▶ read_requests ─▶ perform: a turn at the storage, the gate, a thread ─▶ answers ─▶ write_answers ─▶ socket
//! ```
//!
//! What always holds: a request of a bound connection has entered the gate when its I/O begins, and
//! leaves it when that has ended, whatever became of the connection meanwhile. Its share of the
//! limits comes back when its answer has been sent.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};

use super::{ConnectionError, Notice, Shared, handshake::Session};
use crate::{
    Storage,
    wire::{Command, ErrorCode, REQUEST_BYTES, Reply, Request, command_flag},
};

/// Requests of one connection that are not answered yet.
const MAX_REQUESTS: u32 = 256;
/// Their data: what they write, and what they have read.
const MAX_BYTES: usize = 64 << 20;
/// Of each direction of the socket; what is larger goes past the buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// A request's share of its connection's limits.
type Share = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// An answer on its way out.
struct Answer {
    reply: Reply,
    data: Vec<u8>,
    _share: Share,
}

/// Serves requests until the client leaves, sends what is no request, or is cut off.
pub(super) async fn serve(
    stream: TcpStream,
    shared: Arc<Shared>,
    session: Session,
) -> Result<(), ConnectionError> {
    let (reader, writer) = stream.into_split();
    let (answers, queue) = mpsc::channel(MAX_REQUESTS as usize);
    let session = Arc::new(session);
    let requests = Requests {
        shared: Arc::clone(&shared),
        session: Arc::clone(&session),
        slots: Arc::new(Semaphore::new(MAX_REQUESTS as usize)),
        bytes: Arc::new(Semaphore::new(MAX_BYTES)),
        answers,
        under_way: JoinSet::new(),
    };
    tokio::select! {
        ended = requests.read(reader) => ended,
        ended = write_answers(writer, queue) => ended.map_err(ConnectionError::from),
        () = cut(&session) => {
            tell_cut(&shared, &session);
            Ok(())
        }
    }
}

async fn cut(session: &Session) {
    match &session.attachment {
        Some((attachment, _)) => attachment.cut().await,
        None => std::future::pending().await,
    }
}

fn tell_cut(shared: &Shared, session: &Session) {
    if let Some((attachment, binding)) = &session.attachment {
        shared.tell(Notice::CutOff {
            export: shared.exports[session.export].name.clone(),
            term: binding.term,
            now: attachment.state().term,
        });
    }
}

/// The side of a connection on which requests come in.
struct Requests {
    shared: Arc<Shared>,
    session: Arc<Session>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    answers: mpsc::Sender<Answer>,
    /// Aborted with the connection: what waits for a turn then never begins.
    under_way: JoinSet<()>,
}

impl Requests {
    async fn read(mut self, reader: OwnedReadHalf) -> Result<(), ConnectionError> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        loop {
            let mut header = [0; REQUEST_BYTES];
            reader.read_exact(&mut header).await?;
            let request = Request::decode(&header)?;
            if request.command == Command::Disconnect {
                return self.finish().await;
            }
            let export = &self.shared.exports[self.session.export];
            let checked = request.check(export.storage.size_bytes(), self.session.flags);
            let share = self.share(request, checked.is_ok()).await;
            let mut data = vec![0; request.data_bytes()];
            reader.read_exact(&mut data).await?;
            while self.under_way.try_join_next().is_some() {}
            self.begin(request, checked, data, share);
        }
    }

    /// Waits until the connection's limits have room for the request.
    async fn share(&self, request: Request, allowed: bool) -> Share {
        let bytes = match request.command {
            Command::Write => request.length,
            Command::Read if allowed => request.length,
            _ => 0,
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        (
            slot.expect("this semaphore is never closed"),
            bytes.expect("this semaphore is never closed"),
        )
    }

    fn begin(
        &mut self,
        request: Request,
        checked: Result<(), ErrorCode>,
        data: Vec<u8>,
        share: Share,
    ) {
        let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
        let answers = self.answers.clone();
        self.under_way.spawn(async move {
            let (result, data) = match checked {
                Err(code) => (Err(code), Vec::new()),
                Ok(()) => match perform(&shared, &session, request, data).await {
                    Some(Ok(data)) => (Ok(()), data),
                    Some(Err(code)) => (Err(code), Vec::new()),
                    // Cut off: the connection is about to end.
                    None => return,
                },
            };
            let reply = Reply {
                cookie: request.cookie,
                result,
            };
            let answer = Answer {
                reply,
                data,
                _share: share,
            };
            // Without a writer there is no connection any more.
            let _ = answers.send(answer).await;
        });
    }

    /// The client says goodbye: what it has asked for is answered first.
    async fn finish(self) -> Result<(), ConnectionError> {
        let all = self.slots.acquire_many(MAX_REQUESTS).await;
        all.map(drop).map_err(|_| ConnectionError::Hopeless)
    }
}

/// Does what is asked at the storage; `None` if the connection was cut off before it began.
async fn perform(
    shared: &Arc<Shared>,
    session: &Session,
    request: Request,
    data: Vec<u8>,
) -> Option<Result<Vec<u8>, ErrorCode>> {
    let turn = Arc::clone(&shared.turns).acquire_owned().await;
    let turn = turn.expect("this semaphore is never closed");
    let pass = match &session.attachment {
        Some((attachment, _)) => Some(attachment.enter().ok()?),
        None => None,
    };
    let storage = Arc::clone(&shared.exports[session.export].storage);
    let done = spawn_blocking(move || {
        let done = execute(&*storage, request, data);
        // Not before: whoever waits for the pass relies on the storage being at rest.
        drop((pass, turn));
        done
    });
    // Failing that, this program is shutting down.
    let done = done
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    Some(done.map_err(|error| {
        shared.tell(Notice::Failed {
            export: shared.exports[session.export].name.clone(),
            what: describe(request),
            error: error.to_string(),
        });
        error_code(&error)
    }))
}

/// Blocks.
fn execute(storage: &dyn Storage, request: Request, mut data: Vec<u8>) -> io::Result<Vec<u8>> {
    let (offset, length) = (request.offset, u64::from(request.length));
    match request.command {
        Command::Read => {
            data.resize(request.length as usize, 0);
            storage.read_at(offset, &mut data)?;
            return Ok(data);
        }
        Command::Write => storage.write_at(offset, &data)?,
        Command::Trim => storage.zero(offset, length, false)?,
        Command::WriteZeroes => {
            let keep_space = request.flags & command_flag::NO_HOLE != 0;
            storage.zero(offset, length, keep_space)?;
        }
        Command::Flush => storage.flush()?,
        Command::Disconnect | Command::Unknown(_) => {}
    }
    if request.command.changes() && request.flags & command_flag::FUA != 0 {
        storage.flush()?;
    }
    Ok(Vec::new())
}

fn describe(request: Request) -> String {
    let (offset, length) = (request.offset, request.length);
    let what = match request.command {
        Command::Read => "a read",
        Command::Write => "a write",
        Command::Trim => "a discard",
        Command::WriteZeroes => "a write of zeroes",
        _ => return "a flush".to_owned(),
    };
    format!("{what} of {length} bytes at byte {offset}")
}

fn error_code(error: &io::Error) -> ErrorCode {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorCode::NoSpace,
        _ => ErrorCode::Io,
    }
}

async fn write_answers(
    writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, writer);
    while let Some(answer) = queue.recv().await {
        writer.write_all(&answer.reply.encode()).await?;
        writer.write_all(&answer.data).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    // All senders are gone with the side that reads, which ends the connection.
    std::future::pending().await
}
