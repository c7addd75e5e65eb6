//! Asking the arbiter, without making anybody wait for it.
//!
//! In: [`Claims::claim`]. Out: [`Claims::answer`], later. Each claim runs as a task of its own; asking again with the same
//! identity is harmless, so that an answer that was lost may be asked for again.

use std::{sync::Arc, time::Duration};

use arbiter::{Arbiter, Identity, Outcome};
use logging_channel::protocol::ClaimAnswer;
use tokio::sync::mpsc;

use super::SessionError;
use crate::host::say;

/// Answers that wait at most; the core asks again only after an answer or a timeout.
const MAX_ANSWERS: usize = 16;

/// The arbiter as a session sees it.
pub struct Claims {
    arbiter: Arc<Arbiter>,
    identity: Identity,
    timeout: Duration,
    tell: mpsc::Sender<ClaimAnswer>,
    answers: mpsc::Receiver<ClaimAnswer>,
}

impl Claims {
    /// Claims are made in the name of a fresh identity.
    ///
    /// # Errors
    /// If the host has no randomness.
    pub fn new(arbiter: Arc<Arbiter>, timeout: Duration) -> Result<Self, SessionError> {
        let (tell, answers) = mpsc::channel(MAX_ANSWERS);
        Ok(Self {
            arbiter,
            identity: Identity::random()?,
            timeout,
            tell,
            answers,
        })
    }

    /// In whose name claims are made.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Starts a claim of the term after `expected_term`.
    pub fn claim(&self, expected_term: u64) {
        let (arbiter, identity, timeout, tell) = (
            Arc::clone(&self.arbiter),
            self.identity,
            self.timeout,
            self.tell.clone(),
        );
        tokio::spawn(async move {
            let answer = match arbiter.claim(expected_term, identity, timeout).await {
                Ok(Outcome::Won { term }) => ClaimAnswer::Won { term },
                Ok(Outcome::Lost { term, .. }) => ClaimAnswer::Lost { term },
                // Whatever is wrong with the arbiter, nothing is won and nothing lost.
                Err(error) => {
                    if !error.is_unreachable() {
                        say(&format!("lockstep: the arbiter gives no answer: {error}"));
                    }
                    ClaimAnswer::Unreachable
                }
            };
            // A full queue has an answer in it already, which is as good.
            let _ = tell.try_send(answer);
        });
    }

    /// Waits for an answer. Cancel-safe.
    pub async fn answer(&mut self) -> ClaimAnswer {
        self.answers.recv().await.expect("this end holds a sender")
    }

    /// Moves the term on for a new pair, so that whoever is left of an older pair can win nothing any more. Returns the new term.
    ///
    /// # Errors
    /// If the arbiter cannot be reached, or somebody else starts a pair at the same time.
    pub async fn take_over(&self) -> Result<u64, SessionError> {
        let state = self.arbiter.read(self.timeout).await?;
        match self
            .arbiter
            .claim(state.term, self.identity, self.timeout)
            .await?
        {
            Outcome::Won { term } => Ok(term),
            Outcome::Lost { term, .. } => Err(SessionError::Contended { term }),
        }
    }
}
