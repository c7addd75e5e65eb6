//! The two directions of a connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::TransportError;
use crate::codec::{Decoder, encode_message};
use crate::protocol::{Limits, Message};

/// Bytes that may wait in a [`MessageWriter`]. The core bounds what a primary has under way by
/// [`Limits::backlog_bytes`], so that only a peer that has stopped reading fills it.
pub const OUTBOX_BYTES: usize = 64 << 20;

const READ_BYTES: usize = 64 << 10;

/// Reads messages.
#[derive(Debug)]
pub struct MessageReader {
    stream: OwnedReadHalf,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl MessageReader {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            chunk: vec![0; READ_BYTES],
        }
    }

    /// The next message; `None` when the peer has closed its end. Cancel-safe: dropping the future
    /// loses no byte.
    ///
    /// # Errors
    ///
    /// The connection failed, or what came over it is no message. It is of no use any more.
    pub async fn next(&mut self) -> Result<Option<Message>, TransportError> {
        loop {
            if let Some(message) = self.decoder.pull()? {
                return Ok(Some(message));
            }
            let count = self.stream.read(&mut self.chunk).await?;
            match (count, self.decoder.unread_bytes()) {
                (0, 0) => return Ok(None),
                (0, bytes) => return Err(TransportError::Torn { bytes }),
                _ => self.decoder.push(&self.chunk[..count]),
            }
        }
    }
}

/// Writes messages. [`write`](Self::write) puts them in an outbox, [`flush`](Self::flush) moves the
/// outbox to the socket as the peer takes it.
#[derive(Debug)]
pub struct MessageWriter {
    stream: OwnedWriteHalf,
    outbox: Vec<u8>,
    /// Bytes at the front of `outbox` that were sent.
    sent: usize,
}

impl MessageWriter {
    pub(super) fn new(stream: OwnedWriteHalf) -> Self {
        Self {
            stream,
            outbox: Vec::new(),
            sent: 0,
        }
    }

    /// Queues `message` and tries to send what waits, without ever waiting.
    ///
    /// # Errors
    ///
    /// The message is too large, the outbox is full or the connection failed.
    pub fn write(&mut self, message: &Message) -> Result<(), TransportError> {
        let frame = encode_message(message)?;
        if self.unsent_bytes() + frame.len() > OUTBOX_BYTES {
            return Err(TransportError::OutboxFull {
                unsent_bytes: self.unsent_bytes(),
                limit: OUTBOX_BYTES,
            });
        }
        if self.has_unsent() {
            self.outbox.extend_from_slice(&frame);
        } else {
            // Not copied: a batch of what a disk has read is long.
            self.outbox = frame;
        }
        self.send_now()
    }

    /// True while [`flush`](Self::flush) has something to do.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.unsent_bytes() > 0
    }

    /// Bytes in the outbox.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Sends everything that waits. Cancel-safe: what was sent by then is not sent again.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub async fn flush(&mut self) -> Result<(), TransportError> {
        while self.has_unsent() {
            let count = self.stream.write(&self.outbox[self.sent..]).await?;
            self.advance(count)?;
        }
        Ok(())
    }

    /// Sends everything that waits and closes this direction: the peer reads all of it and then the
    /// end. For a last message; keep the reader until it has come to its end, or the system may
    /// throw away what the peer has not read.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub async fn finish(mut self) -> Result<(), TransportError> {
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }

    fn send_now(&mut self) -> Result<(), TransportError> {
        while self.has_unsent() {
            match self.stream.try_write(&self.outbox[self.sent..]) {
                Ok(count) => self.advance(count)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<(), TransportError> {
        if count == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
        }
        self.sent += count;
        if !self.has_unsent() {
            self.outbox.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_BYTES {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// Sent bytes are dropped from the outbox in pieces of this size, at least.
const COMPACT_BYTES: usize = 1 << 20;

const _: () = assert!(OUTBOX_BYTES as u64 >= 4 * Limits::DEFAULT_BACKLOG_BYTES);
