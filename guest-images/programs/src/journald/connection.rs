//! One client's connection: requests out of what it sends, answers to it, and a bound to both.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;

use guest_journal::{Answer, READ_LIMIT, RECORD_BYTES, Request, lines::LINE_LIMIT};

/// Bytes that one `read` asks for. One turn has as many requests of one client, at most, as lines fit.
const READ_BYTES: usize = 4096;
/// While more than this is unsent, the client's requests wait.
const UNSENT_BYTES: usize = 64 * 1024;
/// What a record takes as a line: hexadecimal, and `record `.
const RECORD_LINE_BYTES: u64 = 2 * RECORD_BYTES as u64 + 8;

/// A connection. It does not block.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// The client will send no more, or cannot be talked to.
    ended: bool,
}

impl Connection {
    /// Takes over `stream`.
    pub fn new(stream: TcpStream) -> Result<Self, Error> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            ended: false,
        })
    }

    /// The socket, to wait for.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether more could be read now, if it were there.
    pub fn wants_to_read(&self) -> bool {
        !self.ended && self.unsent.len() <= UNSENT_BYTES && self.line_end().is_none()
    }

    /// Whether answers wait to be sent.
    pub fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether there are requests that can be served without reading more.
    pub fn has_requests(&self) -> bool {
        self.unsent.len() <= UNSENT_BYTES && self.line_end().is_some()
    }

    /// Whether nothing more is to be done for this client.
    pub fn is_over(&self) -> bool {
        self.ended && self.unsent.is_empty() && self.line_end().is_none()
    }

    /// Bytes that wait to be sent.
    #[cfg(test)]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Reads what has arrived.
    pub fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.drop_all(),
        }
        if self.line_end().is_none() && self.received.len() > LINE_LIMIT {
            self.answer(&Answer::Error("line longer than 256 bytes".to_owned()));
            self.received.clear();
            self.ended = true;
        }
    }

    /// The requests that have arrived whole, or what is wrong with each; not more than there is room for the answers.
    pub fn requests(&mut self) -> Vec<Result<Request, &'static str>> {
        let mut requests = Vec::new();
        let mut answers = self.unsent.len() as u64;
        let mut begin = 0;
        while answers <= UNSENT_BYTES as u64
            && let Some(length) = self.received[begin..]
                .iter()
                .position(|byte| *byte == b'\n')
        {
            let line = &self.received[begin..begin + length];
            let request = Request::parse(line.strip_suffix(b"\r").unwrap_or(line));
            begin += length + 1;
            answers += match request {
                Ok(Request::Read { count, .. }) => count.min(READ_LIMIT) * RECORD_LINE_BYTES,
                _ => LINE_LIMIT as u64,
            };
            requests.push(request);
        }
        self.received.drain(..begin);
        requests
    }

    /// Appends a line to what is to be sent.
    pub fn answer(&mut self, answer: &Answer) {
        writeln!(self.unsent, "{answer}").expect("writing to a Vec cannot fail");
    }

    /// Sends as much as the network takes now.
    pub fn write(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if is_transient(&error) => return,
                Err(_) => self.drop_all(),
            }
        }
    }

    fn line_end(&self) -> Option<usize> {
        self.received.iter().position(|byte| *byte == b'\n')
    }

    /// The client is gone; there is nobody to tell.
    fn drop_all(&mut self) {
        self.ended = true;
        self.received.clear();
        self.unsent.clear();
    }
}

fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
