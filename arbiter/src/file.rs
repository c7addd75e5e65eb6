//! `file:PATH`: a store, used from async code. Its blocking work is done on tokio's blocking threads.
//!
//! A disk may hang for ever, and a blocking call cannot be called back. So one operation at a time
//! goes to the disk, later ones wait for it within their own timeouts, and a hung disk costs one
//! thread and not one for each attempt.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::core::{Identity, Outcome, State};
use crate::deadline::Deadline;
use crate::error::{ArbiterError, file_address};
use crate::store::Store;

/// A flag file on a shared disk. Clones share their turn at the disk.
#[derive(Debug, Clone)]
pub struct FileArbiter {
    shared: Arc<Shared>,
    turn: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Set by the first operation that finds or makes the file; from then on the file must exist.
    store: OnceLock<Store>,
}

impl FileArbiter {
    /// The arbiter in the file at `path`, which the first operation makes where there is none.
    pub(crate) fn new(path: PathBuf) -> Self {
        let store = OnceLock::new();
        Self::sharing(Shared { path, store })
    }

    /// The arbiter in `store`.
    pub(crate) fn with_store(store: Store) -> Self {
        let path = store.path().to_owned();
        let store = OnceLock::from(store);
        Self::sharing(Shared { path, store })
    }

    fn sharing(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let turn = Arc::new(Semaphore::new(1));
        Self { shared, turn }
    }

    /// The state file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    pub(crate) async fn read(&self, timeout: Duration) -> Result<State, ArbiterError> {
        self.run(timeout, Store::read).await
    }

    pub(crate) async fn claim(
        &self,
        expected_term: u64,
        identity: Identity,
        timeout: Duration,
    ) -> Result<Outcome, ArbiterError> {
        self.run(timeout, move |store, deadline| {
            store.claim(expected_term, identity, deadline)
        })
        .await
    }

    /// Waits until no operation is at the disk, or `timeout` has passed.
    pub(crate) async fn settle(&self, timeout: Duration) {
        // Either way there is nothing left to do: a disk that hangs is not waited for.
        let _ = tokio::time::timeout(timeout, self.turn.acquire()).await;
    }

    async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Store, Deadline) -> Result<T, ArbiterError> + Send + 'static,
    ) -> Result<T, ArbiterError> {
        let deadline = Deadline::after(timeout);
        let attempt = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await;
            let turn = turn.expect("the turn's semaphore is never closed");
            let shared = Arc::clone(&self.shared);
            spawn_blocking(move || {
                // Held until the disk is done, even when nobody waits for the answer any more.
                let _turn = turn;
                work(shared.store(deadline)?, deadline)
            })
            .await
        };
        let reason = match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => "this program is shutting down".to_owned(),
            },
            Err(_) => format!("its disk did not answer within {} ms", timeout.as_millis()),
        };
        let address = file_address(self.path());
        Err(ArbiterError::Unreachable { address, reason })
    }
}

impl Shared {
    fn store(&self, deadline: Deadline) -> Result<&Store, ArbiterError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open_by(self.path.clone(), deadline)?;
        Ok(self.store.get_or_init(|| store))
    }
}
