//! A client of the guest's journal: records in flight over one connection, and all that was answered.
//!
//! Out: lines `append TEXT`, never more than a window of them unanswered; each text is sent once. In: a record's number and checksum,
//! each when the guest says that it is durable. Read back at the end, over the connection or from the disk's image, they are judged
//! by [`JournalVerdict`].

mod verdict;

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use guest_journal::{Answer, Chain, READ_LIMIT, Request};
pub use guest_journal::{Fault, PORT as JOURNAL_PORT, Payload, RECORD_BYTES, Record, read_back};
pub use verdict::JournalVerdict;

use super::{DemoError, lines::Lines};
use crate::host::clock::host_monotonic_ns;

/// Bytes of a client's name: what it counts behind the name must fit into a record, too.
const NAME_BYTES: usize = 16;

/// A record that the guest said was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// When the answer was read: `CLOCK_MONOTONIC`, nanoseconds.
    pub mono_ns: u64,
    /// The record's number in the journal.
    pub number: u64,
    /// The record's checksum.
    pub checksum: u32,
    /// What this client had put into it.
    pub payload: Payload,
}

/// One connection to the guest's journal.
#[derive(Debug)]
pub struct JournalClient {
    lines: Lines,
    name: String,
    window: usize,
    sent: u64,
    /// Sent and not answered, in order.
    in_flight: VecDeque<Payload>,
    durable: Vec<Durable>,
    refused: u64,
}

impl JournalClient {
    /// Connects to the journal at `address`, and tries again until `limit` is over. Up to `window` records will be in flight. `name`,
    /// of which the first 16 bytes count, tells this client's records from those of others, and is to be used once in a journal's life.
    ///
    /// # Errors
    /// [`DemoError::TimedOut`], or what else the network says.
    pub async fn connect(
        address: SocketAddr,
        name: &str,
        window: usize,
        limit: Duration,
    ) -> Result<Self, DemoError> {
        Ok(Self {
            lines: Lines::connect(address, limit).await?,
            name: name_in_a_line(name),
            window,
            sent: 0,
            in_flight: VecDeque::new(),
            durable: Vec::new(),
            refused: 0,
        })
    }

    /// Sends records until as many as the window holds are in flight.
    ///
    /// # Errors
    /// If the connection has failed.
    pub fn fill_window(&mut self) -> Result<(), DemoError> {
        while self.in_flight.len() < self.window {
            self.sent += 1;
            let text = format!("{} {}", self.name, self.sent);
            let payload = Payload::new(text.as_bytes()).expect("16 bytes and a number fit");
            self.lines.queue(&Request::Append(payload).line());
            self.in_flight.push_back(payload);
        }
        self.lines.flush()
    }

    /// Waits until the next record is durable; sends nothing new. Cancel-safe.
    ///
    /// # Errors
    /// If the connection ended or has failed, or the answer is none. [`DemoError::Refused`] answers one record: the guest could not
    /// write it, and the connection is as good as before.
    pub async fn next_durable(&mut self) -> Result<Durable, DemoError> {
        let line = self.lines.next().await?;
        self.take(&line)
    }

    /// The next answer, if it has arrived already.
    ///
    /// # Errors
    /// As [`Self::next_durable`].
    pub fn take_arrived(&mut self) -> Result<Option<Durable>, DemoError> {
        let line = self.lines.take_arrived()?;
        line.map(|line| self.take(&line)).transpose()
    }

    /// Records sent, whatever became of them.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Records that wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Records that the guest could not write.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Every record that was answered, in the order of arrival.
    #[must_use]
    pub fn durable(&self) -> &[Durable] {
        &self.durable
    }

    /// Ends the connection; returns the same as [`Self::durable`].
    #[must_use]
    pub fn hang_up(self) -> Vec<Durable> {
        self.durable
    }

    /// The whole journal, other clients' records included, over the connection: nothing may be in flight.
    ///
    /// # Errors
    /// As [`Self::next_durable`]; [`DemoError::Record`] if a record is not the one that follows the one before it.
    pub async fn read_all(&mut self) -> Result<Vec<Record>, DemoError> {
        let mut chain = Chain::default();
        let mut records = Vec::new();
        loop {
            let from = chain.records() + 1;
            let count = READ_LIMIT;
            let answer = self.ask(Request::Read { from, count }).await?;
            let Answer::Records(count) = answer else {
                return Err(nonsense(&answer));
            };
            for _ in 0..count {
                let answer = self.next_answer().await?;
                let Answer::Record(bytes) = answer else {
                    return Err(nonsense(&answer));
                };
                let number = chain.records() + 1;
                let record = chain.accept(&bytes[..]);
                records.push(record.map_err(|fault| DemoError::Record { number, fault })?);
            }
            if count < READ_LIMIT {
                return Ok(records);
            }
        }
    }

    /// Has the guest unmount its disk and end; nothing may be in flight. Returns how many records are on the disk. The guest ends when
    /// this client is dropped, or ten seconds later.
    ///
    /// # Errors
    /// As [`Self::next_durable`]; after [`DemoError::Refused`] the guest goes on.
    pub async fn shut_down(&mut self) -> Result<u64, DemoError> {
        match self.ask(Request::Shutdown).await? {
            Answer::Bye { records } => Ok(records),
            other => Err(nonsense(&other)),
        }
    }

    fn take(&mut self, line: &str) -> Result<Durable, DemoError> {
        let answer = parse(line)?;
        let payload = self.in_flight.pop_front();
        match (answer, payload) {
            (Answer::Appended { number, checksum }, Some(payload)) => {
                let durable = Durable {
                    mono_ns: host_monotonic_ns(),
                    number,
                    checksum,
                    payload,
                };
                self.durable.push(durable);
                Ok(durable)
            }
            (Answer::Error(said), _) => {
                self.refused += 1;
                Err(DemoError::Refused { said })
            }
            (other, _) => Err(nonsense(&other)),
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Answer, DemoError> {
        self.lines.queue(&request.line());
        self.lines.flush()?;
        match self.next_answer().await? {
            Answer::Error(said) => Err(DemoError::Refused { said }),
            answer => Ok(answer),
        }
    }

    async fn next_answer(&mut self) -> Result<Answer, DemoError> {
        parse(&self.lines.next().await?)
    }
}

fn name_in_a_line(name: &str) -> String {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].replace('\n', " ")
}

fn parse(line: &str) -> Result<Answer, DemoError> {
    Answer::parse(line).ok_or_else(|| DemoError::NoAnswer {
        said: line.to_owned(),
    })
}

fn nonsense(answer: &Answer) -> DemoError {
    DemoError::NoAnswer {
        said: answer.to_string(),
    }
}

#[cfg(test)]
mod tests;
