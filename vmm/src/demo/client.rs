//! A client of the guest's counter: requests in flight over one connection.
//!
//! Out: lines `incr`, never more than a window of them unanswered. In: numbers, each with the time at which it was read.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{DemoError, Tally};
use crate::host::clock::host_monotonic_ns;

/// The counter's port, in every guest.
pub const COUNTER_PORT: u16 = 7000;

const REQUEST: &[u8] = b"incr\n";
/// Longer than any number; a line that is longer is shown cut off.
const MAX_LINE_BYTES: usize = 256;
/// How long one attempt to connect may take: the network's own retries become rare after a while.
const CONNECT_ATTEMPT: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A number from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was read: `CLOCK_MONOTONIC`, nanoseconds.
    pub mono_ns: u64,
    /// What it says.
    pub number: u64,
}

/// One connection to the guest's counter.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    address: SocketAddr,
    window: u64,
    unsent: Vec<u8>,
    received: Vec<u8>,
    tally: Tally,
    answers: Vec<Answer>,
}

impl Client {
    /// Connects to the counter at `address`, and tries again until `limit` is over. Up to `window` requests will be in flight.
    ///
    /// # Errors
    /// [`DemoError::TimedOut`], or what else the network says.
    pub async fn connect(
        address: SocketAddr,
        window: u64,
        limit: Duration,
    ) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Client { address, source };
        let stream = timeout(limit, connect(address))
            .await
            .map_err(|_| DemoError::TimedOut {
                what: format!("a connection to the guest's service at {address}"),
                waited: limit,
            })?;
        stream.set_nodelay(true).map_err(failed)?;
        let (unsent, received, answers) = Default::default();
        Ok(Self {
            stream,
            address,
            window,
            unsent,
            received,
            tally: Tally::default(),
            answers,
        })
    }

    /// Sends requests until as many as the window holds are in flight.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn fill_window(&mut self) -> Result<(), DemoError> {
        while self.tally.in_flight() < self.window {
            self.unsent.extend_from_slice(REQUEST);
            self.tally.request();
        }
        self.flush()
    }

    /// Waits for the next answer; sends nothing new. Cancel-safe.
    ///
    /// # Errors
    /// If the connection ended or has failed, or the answer is no number.
    pub async fn next_answer(&mut self) -> Result<Answer, DemoError> {
        loop {
            if let Some(answer) = self.take_answer()? {
                return Ok(answer);
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
            self.read()?;
        }
    }

    /// The next answer, if it has arrived already. Asks the kernel, not tokio, which knows of what arrived only after a while.
    ///
    /// # Errors
    /// As [`Self::next_answer`].
    pub fn take_arrived(&mut self) -> Result<Option<Answer>, DemoError> {
        let mut buffer = [0; MAX_LINE_BYTES];
        let read = rustix::io::read(&self.stream, &mut buffer);
        self.keep_read(&buffer, read.map_err(io::Error::from))?;
        self.take_answer()
    }

    /// What became of the requests so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Every answer so far, in the order of arrival.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    fn flush(&mut self) -> Result<(), DemoError> {
        while !self.unsent.is_empty() {
            match self.stream.try_write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), DemoError> {
        let mut buffer = [0; MAX_LINE_BYTES];
        let read = self.stream.try_read(&mut buffer);
        self.keep_read(&buffer, read)
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

    fn take_answer(&mut self) -> Result<Option<Answer>, DemoError> {
        let Some(length) = self.received.iter().position(|byte| *byte == b'\n') else {
            let too_long = self.received.len() > MAX_LINE_BYTES;
            return if too_long {
                Err(no_number(&self.received))
            } else {
                Ok(None)
            };
        };
        let line: Vec<u8> = self.received.drain(..=length).collect();
        let number = std::str::from_utf8(&line)
            .ok()
            .and_then(|text| text.trim_end().parse().ok());
        let answer = Answer {
            mono_ns: host_monotonic_ns(),
            number: number.ok_or_else(|| no_number(&line))?,
        };
        self.tally.answer(answer.number);
        self.answers.push(answer);
        Ok(Some(answer))
    }

    fn failed(&self, source: io::Error) -> DemoError {
        DemoError::Client {
            address: self.address,
            source,
        }
    }
}

fn no_number(line: &[u8]) -> DemoError {
    DemoError::NoNumber {
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A client with a window of 3, and the other end of its connection.
    async fn pair() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) =
            tokio::join!(Client::connect(address, 3, LIMIT), listener.accept());
        (
            client.expect("a connection"),
            accepted.expect("a connection").0,
        )
    }

    #[tokio::test]
    async fn the_window_stays_full_and_answers_are_counted() {
        let (mut client, mut service) = pair().await;
        client.fill_window().expect("sent");
        let mut requests = [0; 15];
        service
            .read_exact(&mut requests)
            .await
            .expect("three requests");
        assert_eq!(&requests, b"incr\nincr\nincr\n");

        service.write_all(b"1\n2\r\n3").await.expect("written");
        assert_eq!(client.next_answer().await.expect("an answer").number, 1);
        assert_eq!(client.next_answer().await.expect("an answer").number, 2);
        assert_eq!(client.tally().in_flight(), 1);
        client.fill_window().expect("sent");
        assert_eq!(
            (client.tally().requests(), client.tally().in_flight()),
            (5, 3)
        );

        service.write_all(b"3\n").await.expect("written");
        assert_eq!(client.next_answer().await.expect("an answer").number, 33);
        assert_eq!(client.answers().len(), 3);
    }

    #[tokio::test]
    async fn what_has_arrived_is_taken_without_waiting() {
        let (mut client, mut service) = pair().await;
        assert_eq!(client.take_arrived().expect("no failure"), None);
        service.write_all(b"1\n2\n").await.expect("written");
        assert_eq!(client.next_answer().await.expect("an answer").number, 1);
        let second = client
            .take_arrived()
            .expect("no failure")
            .expect("it came with the first");
        assert_eq!(second.number, 2);
        assert_eq!(client.take_arrived().expect("no failure"), None);
    }

    #[tokio::test]
    async fn an_end_and_an_error_line_are_told() {
        let (mut client, mut service) = pair().await;
        service
            .write_all(b"error: unknown request\n")
            .await
            .expect("written");
        let error = client.next_answer().await.expect_err("no number");
        assert!(
            error.to_string().contains("error: unknown request"),
            "{error}"
        );
        drop(service);
        assert!(matches!(
            client.next_answer().await,
            Err(DemoError::Client { .. })
        ));
    }
}
