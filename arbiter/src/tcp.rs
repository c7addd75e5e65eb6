//! `tcp:HOST:PORT`: the client of [`crate::serve`]. One connection for each question, so that a
//! server that was restarted, or moved behind its name, is found again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::Address;
use crate::core::{Identity, Outcome, State, TermExhausted};
use crate::error::ArbiterError;
use crate::wire::{ANSWER_BYTES, Answer, Question, Refusal, Reply, Request};

#[cfg(test)]
mod tests;

/// An arbiter server, by its address.
#[derive(Debug, Clone)]
pub struct TcpArbiter {
    host: String,
    port: u16,
    /// Shared by clones. 0 is the server's, for frames that it could not read.
    next_id: Arc<AtomicU64>,
}

impl TcpArbiter {
    pub(crate) fn new(host: String, port: u16) -> Self {
        let next_id = Arc::new(AtomicU64::new(1));
        Self {
            host,
            port,
            next_id,
        }
    }

    pub(crate) fn address(&self) -> Address {
        let (host, port) = (self.host.clone(), self.port);
        Address::Tcp { host, port }
    }

    pub(crate) async fn read(&self, timeout: Duration) -> Result<State, ArbiterError> {
        match self.ask(Question::Read, timeout).await? {
            Reply::State(state) => Ok(state),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) async fn claim(
        &self,
        expected_term: u64,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Outcome, ArbiterError> {
        let question = Question::Claim {
            expected_term,
            identity,
        };
        match self.ask(question, timeout).await? {
            // Going live hangs on this answer: it must fit the question.
            Reply::Decided(Outcome::Won { term }) if expected_term.checked_add(1) != Some(term) => {
                let reason = format!("it grants term {term} to a claim on term {expected_term}");
                Err(self.protocol(reason))
            }
            Reply::Decided(outcome) => Ok(outcome),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn ask(&self, question: Question, timeout: Duration) -> Result<Reply, ArbiterError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, question };
        let frame = match tokio::time::timeout(timeout, self.exchange(&request)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err((action, error))) => {
                return Err(self.unreachable(format!("cannot {action}: {error}")));
            }
            Err(_) => {
                let reason = format!("nothing came within {} ms", timeout.as_millis());
                return Err(self.unreachable(reason));
            }
        };
        let answer = Answer::decode(&frame).map_err(|fault| self.protocol(fault.to_string()))?;
        match answer.reply {
            Reply::Refused { refusal, text } => Err(self.refused(refusal, &text)),
            _ if answer.id != id => {
                Err(self.protocol(format!("it answers request {} and not {id}", answer.id)))
            }
            reply => Ok(reply),
        }
    }

    async fn exchange(
        &self,
        request: &Request,
    ) -> Result<[u8; ANSWER_BYTES], (&'static str, io::Error)> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| ("connect", e))?;
        stream.set_nodelay(true).map_err(|e| ("connect", e))?;
        stream
            .write_all(&request.encode())
            .await
            .map_err(|e| ("ask", e))?;
        let mut frame = [0; ANSWER_BYTES];
        stream
            .read_exact(&mut frame)
            .await
            .map_err(|e| ("read the answer", e))?;
        Ok(frame)
    }

    fn refused(&self, refusal: Refusal, text: &str) -> ArbiterError {
        // Somebody else's text, on its way to a terminal or a log.
        let detail: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let address = self.address().to_string();
        match refusal {
            Refusal::TooSlow | Refusal::Unavailable => self.unreachable(detail),
            Refusal::TermExhausted => TermExhausted.into(),
            Refusal::Malformed | Refusal::Broken => ArbiterError::Refused { address, detail },
        }
    }

    fn unreachable(&self, reason: String) -> ArbiterError {
        let address = self.address().to_string();
        ArbiterError::Unreachable { address, reason }
    }

    fn unexpected(&self, reply: &Reply) -> ArbiterError {
        self.protocol(format!("{reply:?} was not asked for"))
    }

    fn protocol(&self, reason: String) -> ArbiterError {
        let address = self.address().to_string();
        ArbiterError::Protocol { address, reason }
    }
}
