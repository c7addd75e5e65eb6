//! The rules, with places to wait.

use std::{future::Future, pin::Pin, sync::Arc};

use arbiter::{Fence, State};
use tokio::sync::watch;

use super::core::{ConnectionId, Core, CutOff, OtherTerm};
use crate::wire::Binding;

/// What every request of a bound connection passes. Shared by all connections, and by the arbiter.
#[derive(Debug)]
pub struct Gate {
    core: watch::Sender<Core>,
}

impl Gate {
    /// A gate that stands at `state`.
    #[must_use]
    pub fn new(state: State) -> Arc<Self> {
        let (core, _) = watch::channel(Core::new(state));
        Arc::new(Self { core })
    }

    /// Whether this binding may write.
    ///
    /// # Errors
    /// If it is not the state.
    pub fn check(&self, binding: Binding) -> Result<(), OtherTerm> {
        self.core.borrow().check(binding)
    }

    /// A new connection: at once of the only right to start anything, and complete when nothing of
    /// the same client's older connections to this export is under way. Dropping the future
    /// detaches it.
    ///
    /// # Errors
    /// If the binding is not the state.
    pub async fn attach(
        self: &Arc<Self>,
        binding: Binding,
        export: usize,
    ) -> Result<Attachment, OtherTerm> {
        let mut attached = Err(OtherTerm { term: 0 });
        self.core
            .send_modify(|core| attached = core.attach(binding, export));
        let attachment = Attachment {
            gate: Arc::clone(self),
            id: attached?,
        };
        self.wait_until(|core| core.is_alone(attachment.id)).await;
        Ok(attachment)
    }

    /// Waits until nothing at all is under way.
    pub async fn idle(&self) {
        self.wait_until(Core::is_idle).await;
    }

    async fn wait_until(&self, mut holds: impl FnMut(&Core) -> bool) {
        let mut watched = self.core.subscribe();
        let ended = watched.wait_for(|core| holds(core)).await;
        ended.expect("the sender is borrowed for as long as this waits");
    }
}

impl Fence for Gate {
    fn advance(&self, state: State) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.core.send_modify(|core| core.advance(state));
            self.wait_until(|core| core.is_drained_before(state.term))
                .await;
        })
    }
}

/// A bound connection at the gate, until dropped.
#[derive(Debug)]
pub struct Attachment {
    gate: Arc<Gate>,
    id: ConnectionId,
}

impl Attachment {
    /// A request begins; it ends when the pass is dropped, which has to be after its I/O.
    ///
    /// # Errors
    /// If the connection was cut.
    pub fn enter(&self) -> Result<Pass, CutOff> {
        let mut entered = Err(CutOff);
        // Nobody waits for a request to begin.
        self.gate.core.send_if_modified(|core| {
            entered = core.enter(self.id);
            false
        });
        entered?;
        Ok(Pass {
            gate: Arc::clone(&self.gate),
            id: self.id,
        })
    }

    /// Waits until the connection is cut.
    pub async fn cut(&self) {
        self.gate.wait_until(|core| core.is_cut(self.id)).await;
    }

    /// What the storage obeys now.
    #[must_use]
    pub fn state(&self) -> State {
        self.gate.core.borrow().state()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.gate.core.send_modify(|core| core.detach(self.id));
    }
}

/// A request on its way through the storage.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    id: ConnectionId,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.core.send_if_modified(|core| core.leave(self.id));
    }
}
