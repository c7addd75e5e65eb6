//! A client of the guest's counter: requests in flight over one connection.
//!
//! Out: lines `incr`, never more than a window of them unanswered. In: numbers, each with the time at which it was read.

use std::{net::SocketAddr, time::Duration};

use super::{DemoError, Tally, lines::Lines};
use crate::host::clock::host_monotonic_ns;

/// The counter's port, in every guest.
pub const COUNTER_PORT: u16 = 7000;

const REQUEST: &[u8] = b"incr\n";

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
    lines: Lines,
    window: u64,
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
        Ok(Self {
            lines: Lines::connect(address, limit).await?,
            window,
            tally: Tally::default(),
            answers: Vec::new(),
        })
    }

    /// Sends requests until as many as the window holds are in flight.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn fill_window(&mut self) -> Result<(), DemoError> {
        while self.tally.in_flight() < self.window {
            self.lines.queue(REQUEST);
            self.tally.request();
        }
        self.lines.flush()
    }

    /// Waits for the next answer; sends nothing new. Cancel-safe.
    ///
    /// # Errors
    /// If the connection ended or has failed, or the answer is no number.
    pub async fn next_answer(&mut self) -> Result<Answer, DemoError> {
        let line = self.lines.next().await?;
        self.take(&line)
    }

    /// The next answer, if it has arrived already.
    ///
    /// # Errors
    /// As [`Self::next_answer`].
    pub fn take_arrived(&mut self) -> Result<Option<Answer>, DemoError> {
        let line = self.lines.take_arrived()?;
        line.map(|line| self.take(&line)).transpose()
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

    fn take(&mut self, line: &str) -> Result<Answer, DemoError> {
        let no_number = |_| DemoError::NoNumber {
            said: line.to_owned(),
        };
        let answer = Answer {
            mono_ns: host_monotonic_ns(),
            number: line.parse().map_err(no_number)?,
        };
        self.tally.answer(answer.number);
        self.answers.push(answer);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
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
