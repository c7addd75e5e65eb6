//! One connection to a service of the guest that speaks in lines; it is to survive every failover, and is never made anew.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::DemoError;

/// Longer than any answer; a line that is longer is shown cut off.
const MAX_LINE_BYTES: usize = 256;
/// Bytes that one read asks for.
const READ_BYTES: usize = 4096;
/// How long one attempt to connect may take: the network's own retries become rare after a while.
const CONNECT_ATTEMPT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A connection, what is still to be sent on it, and the line that has come half.
#[derive(Debug)]
pub struct Lines {
    stream: TcpStream,
    address: SocketAddr,
    unsent: Vec<u8>,
    received: Vec<u8>,
}

impl Lines {
    /// Connects to `address`, and tries again until `limit` is over.
    ///
    /// # Errors
    /// [`DemoError::TimedOut`], or what else the network says.
    pub async fn connect(address: SocketAddr, limit: Duration) -> Result<Self, DemoError> {
        let stream = timeout(limit, connect(address))
            .await
            .map_err(|_| DemoError::TimedOut {
                what: format!("a connection to the guest's service at {address}"),
                waited: limit,
            })?;
        stream
            .set_nodelay(true)
            .map_err(|source| DemoError::Client { address, source })?;
        Ok(Self {
            stream,
            address,
            unsent: Vec::new(),
            received: Vec::new(),
        })
    }

    /// Appends `request`, with its line's end, to what [`Self::flush`] sends.
    pub fn queue(&mut self, request: &[u8]) {
        self.unsent.extend_from_slice(request);
    }

    /// Sends as much as the network takes now; the rest goes with the next answers.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn flush(&mut self) -> Result<(), DemoError> {
        while !self.unsent.is_empty() {
            match self.stream.try_write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Waits for the next line, and returns it without its end. Cancel-safe.
    ///
    /// # Errors
    /// If the connection ended or has failed, or the line is too long or no text.
    pub async fn next(&mut self) -> Result<String, DemoError> {
        loop {
            if let Some(line) = self.take()? {
                return Ok(line);
            }
            self.flush()?;
            if self.unsent.is_empty() {
                self.stream
                    .readable()
                    .await
                    .map_err(|source| self.failed(source))?;
            } else {
                sleep(RETRY_INTERVAL).await;
            }
            let mut buffer = [0; READ_BYTES];
            let read = self.stream.try_read(&mut buffer);
            self.keep_read(&buffer, read)?;
        }
    }

    /// The next line, if it has arrived already. Asks the kernel, not tokio, which knows of what arrived only after a while.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn take_arrived(&mut self) -> Result<Option<String>, DemoError> {
        let mut buffer = [0; READ_BYTES];
        let read = rustix::io::read(&self.stream, &mut buffer);
        self.keep_read(&buffer, read.map_err(io::Error::from))?;
        self.take()
    }

    fn keep_read(&mut self, buffer: &[u8], read: io::Result<usize>) -> Result<(), DemoError> {
        match read {
            Ok(0) => Err(self.failed(ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn take(&mut self) -> Result<Option<String>, DemoError> {
        let Some(length) = self.received.iter().position(|byte| *byte == b'\n') else {
            return if self.received.len() > MAX_LINE_BYTES {
                Err(no_answer(&self.received[..MAX_LINE_BYTES]))
            } else {
                Ok(None)
            };
        };
        let line: Vec<u8> = self.received.drain(..=length).collect();
        let text = String::from_utf8(line).map_err(|error| no_answer(error.as_bytes()))?;
        Ok(Some(text.trim_end().to_owned()))
    }

    fn failed(&self, source: io::Error) -> DemoError {
        DemoError::Client {
            address: self.address,
            source,
        }
    }
}

fn no_answer(line: &[u8]) -> DemoError {
    DemoError::NoAnswer {
        said: String::from_utf8_lossy(line).trim_end().to_owned(),
    }
}

/// Tries until it succeeds: a guest that is just starting may refuse, or not be there.
async fn connect(address: SocketAddr) -> TcpStream {
    loop {
        match timeout(CONNECT_ATTEMPT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return stream,
            Ok(Err(_)) => sleep(RETRY_INTERVAL).await,
            Err(_) => {}
        }
    }
}
