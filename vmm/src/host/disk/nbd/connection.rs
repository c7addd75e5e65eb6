//! One connection: requests out, answers in, each way in a task of its own, so that neither a server
//! that reads slowly nor one that answers slowly can bring the two to wait for each other.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use disk_server::{
    client::{Claim, HandshakeError, Opened, negotiate, tune},
    wire::{Command, ErrorCode, REPLY_BYTES, Reply},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{NbdAddress, table::Piece};

/// For a connection to be made: longer than a server takes to find older connections' requests ended, or to say that it does not.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(12);
/// For a connection to be made at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Of each direction of the socket; what is larger goes past the buffer.
const BUFFER_BYTES: usize = 64 << 10;
/// Answers that wait to be looked at.
const MAX_ANSWERS: usize = 64;

/// An answer: the cookie, and what was read or why not.
pub(super) type Answer = (u64, Result<Vec<u8>, ErrorCode>);

/// How many bytes of data each answer will have, by cookie.
type Expected = Arc<Mutex<BTreeMap<u64, u32>>>;

/// A connection on which requests flow. Ends when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    opened: Opened,
    pieces: mpsc::UnboundedSender<Piece>,
    answers: mpsc::Receiver<io::Result<Answer>>,
    expected: Expected,
    _tasks: JoinSet<()>,
}

/// Makes a connection with this claim.
pub(super) async fn open(address: &NbdAddress, claim: Claim) -> Result<Connection, HandshakeError> {
    let attempt = async {
        let place = (address.host.as_str(), address.port);
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(place)).await;
        let mut stream = stream.map_err(|_| no_answer(CONNECT_LIMIT))??;
        tune(&stream)?;
        let opened = negotiate(&mut stream, &address.name, claim).await?;
        Ok(Connection::new(stream, opened))
    };
    let made = timeout(ATTEMPT_LIMIT, attempt).await;
    made.unwrap_or_else(|_| Err(no_answer(ATTEMPT_LIMIT).into()))
}

/// The server is there, perhaps, and says nothing.
pub(super) fn no_answer(time: Duration) -> io::Error {
    let text = format!("no answer for {} s", time.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl Connection {
    fn new(stream: TcpStream, opened: Opened) -> Self {
        let (reader, writer) = stream.into_split();
        let (pieces, outgoing) = mpsc::unbounded_channel();
        let (tell, answers) = mpsc::channel(MAX_ANSWERS);
        let expected = Expected::default();
        let mut tasks = JoinSet::new();
        let ended = tell.clone();
        tasks.spawn(async move {
            let error = write_pieces(writer, outgoing).await;
            // Nobody listens any more if this fails.
            let _ = ended.send(Err(error)).await;
        });
        let awaited = Arc::clone(&expected);
        tasks.spawn(async move {
            let error = read_answers(reader, &awaited, &tell).await;
            let _ = tell.send(Err(error)).await;
        });
        Self {
            opened,
            pieces,
            answers,
            expected,
            _tasks: tasks,
        }
    }

    /// What the handshake agreed on.
    pub(super) fn opened(&self) -> Opened {
        self.opened
    }

    /// Sends a request, as soon as the server takes it. At most what is in the table waits here, and its data are the table's.
    pub(super) fn send(&self, piece: Piece) {
        if piece.request.command == Command::Read {
            let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
            expected.insert(piece.request.cookie, piece.request.length);
        }
        // A connection that has ended says so with its next answer.
        let _ = self.pieces.send(piece);
    }

    /// The next answer. Cancel-safe.
    ///
    /// # Errors
    /// If the connection has ended.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let answer = self.answers.recv().await;
        answer.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

async fn write_pieces(
    writer: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Piece>,
) -> io::Error {
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, writer);
    while let Some(piece) = outgoing.recv().await {
        let sent = async {
            writer.write_all(&piece.request.encode()).await?;
            if let Some((data, range)) = &piece.data {
                writer.write_all(&data[range.clone()]).await?;
            }
            if outgoing.is_empty() {
                writer.flush().await?;
            }
            Ok(())
        };
        if let Err(error) = sent.await {
            return error;
        }
    }
    io::ErrorKind::ConnectionAborted.into()
}

async fn read_answers(
    reader: OwnedReadHalf,
    expected: &Expected,
    tell: &mpsc::Sender<io::Result<Answer>>,
) -> io::Error {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    loop {
        let answer = match read_answer(&mut reader, expected).await {
            Ok(answer) => answer,
            Err(error) => return error,
        };
        if tell.send(Ok(answer)).await.is_err() {
            return io::ErrorKind::ConnectionAborted.into();
        }
    }
}

async fn read_answer(
    reader: &mut BufReader<OwnedReadHalf>,
    expected: &Expected,
) -> io::Result<Answer> {
    let mut header = [0; REPLY_BYTES];
    reader
        .read_exact(&mut header)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it closed the connection"),
            _ => error,
        })?;
    let Reply { cookie, result } = Reply::decode(&header).map_err(io::Error::other)?;
    let awaited = expected
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&cookie);
    if let Err(code) = result {
        return Ok((cookie, Err(code)));
    }
    let mut data = vec![0; awaited.unwrap_or(0) as usize];
    reader.read_exact(&mut data).await?;
    Ok((cookie, Ok(data)))
}
