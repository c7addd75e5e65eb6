//! Storage that obeys the term: a win is answered when no older winner can touch the storage any more.
//!
//! ```text
//!   claim ──▶ store: decided, saved ──Won──▶ Fence::advance ──▶ answered
//!                                   └─Lost─────────────────────▶ answered
//! ```
//!
//! What always holds: `Won` is never answered before the fence stands at its term, also when the
//! same claim is asked again. A fence that takes too long costs an answer, which is asked for again,
//! and nothing else.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Identity, Outcome, State};
use crate::deadline::Deadline;
use crate::error::{ArbiterError, file_address};
use crate::file::FileArbiter;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// Whoever keeps older winners from the storage.
pub trait Fence: Debug + Send + Sync {
    /// From the first poll on, nothing starts in the name of any state before `state`; complete
    /// when what had started before has ended. A state older than the fence's own moves nothing.
    ///
    /// Dropping the future stops the waiting and nothing else.
    fn advance(&self, state: State) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A store and the fence that follows it. Clones share both.
#[derive(Debug, Clone)]
pub struct FencedStore {
    store: FileArbiter,
    /// None for an arbiter that guards no storage.
    fence: Option<Arc<dyn Fence>>,
}

impl FencedStore {
    /// `store`, whose wins wait for `fence`. The fence must stand at the store's state already.
    pub fn new(store: Store, fence: Arc<dyn Fence>) -> Self {
        let fence = Some(fence);
        Self {
            store: FileArbiter::with_store(store),
            fence,
        }
    }

    /// `store`, with no storage behind it.
    pub(crate) fn open(store: Store) -> Self {
        Self {
            store: FileArbiter::with_store(store),
            fence: None,
        }
    }

    /// The term and its holder, which the fence may not have reached yet.
    ///
    /// # Errors
    ///
    /// As [`crate::Arbiter::read`].
    pub async fn read(&self, timeout: Duration) -> Result<State, ArbiterError> {
        self.store.read(timeout).await
    }

    /// The term and its holder, once the fence stands there: also when the state file was moved on
    /// by somebody who knows nothing of the fence.
    ///
    /// # Errors
    ///
    /// As [`crate::Arbiter::read`]; unreachable also when the fence takes longer than `timeout`.
    pub async fn settled(&self, timeout: Duration) -> Result<State, ArbiterError> {
        let deadline = Deadline::after(timeout);
        let state = self.store.read(timeout).await?;
        self.raise(state, timeout, deadline).await?;
        Ok(state)
    }

    /// As [`crate::Arbiter::claim`]; a win is given when the fence stands.
    ///
    /// # Errors
    ///
    /// As [`crate::Arbiter::claim`]; unreachable also when the fence takes longer than `timeout`.
    /// The claim was carried out then: ask again.
    pub async fn claim(
        &self,
        expected_term: u64,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Outcome, ArbiterError> {
        let deadline = Deadline::after(timeout);
        let outcome = self.store.claim(expected_term, identity, timeout).await?;
        if let Outcome::Won { term } = outcome {
            let holder = Some(identity);
            self.raise(State { term, holder }, timeout, deadline)
                .await?;
        }
        Ok(outcome)
    }

    /// Makes `identity` the holder, whatever the term: for who needs no permission of a pair. It
    /// moves the term by one, unless `identity` is the holder already.
    ///
    /// # Errors
    ///
    /// As [`FencedStore::claim`].
    pub async fn take_over(
        &self,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Outcome, ArbiterError> {
        let State { term, holder } = self.settled(timeout).await?;
        if holder == Some(identity) {
            return Ok(Outcome::Won { term });
        }
        self.claim(term, identity, timeout).await
    }

    /// Waits until no operation is at the state file, or `timeout` has passed.
    pub(crate) async fn settle(&self, timeout: Duration) {
        self.store.settle(timeout).await;
    }

    async fn raise(
        &self,
        state: State,
        timeout: Duration,
        deadline: Deadline,
    ) -> Result<(), ArbiterError> {
        let Some(fence) = &self.fence else {
            return Ok(());
        };
        let raised = tokio::time::timeout(deadline.left(), fence.advance(state)).await;
        raised.map_err(|_| ArbiterError::Unreachable {
            address: file_address(self.store.path()),
            reason: format!(
                "what older terms have under way at the storage has not ended within {} ms",
                timeout.as_millis()
            ),
        })
    }
}
