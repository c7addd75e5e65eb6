//! The vCPU thread: a replica runs there from boot to the guest's end.

use tokio::sync::oneshot;

use super::replica::{Ending, Replica, ReplicaError};
use crate::{engine::Engine, inputs::Inputs, machine::Machine};

/// A running vCPU thread.
pub struct VcpuThread {
    ended: oneshot::Receiver<Result<Ending, ReplicaError>>,
}

impl VcpuThread {
    /// Runs `machine` with `inputs` on a thread of its own.
    ///
    /// # Panics
    /// If the host cannot start a thread.
    pub fn spawn<E, I>(machine: Machine<E>, inputs: I) -> Self
    where
        E: Engine + Send + 'static,
        I: Inputs + Send + 'static,
    {
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("vcpu".to_owned())
            .spawn(move || {
                // Nobody listens any more only if the session is over.
                drop(tell.send(Replica::new(machine, inputs).run()));
            })
            .expect("the host can start one more thread");
        Self { ended }
    }

    /// Waits for the end. Cancel-safe; not to be called again after it returned.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    ///
    /// # Panics
    /// If the vCPU thread panicked: an invariant of the machine is broken.
    pub async fn ended(&mut self) -> Result<Ending, ReplicaError> {
        (&mut self.ended).await.expect("the vCPU thread panicked")
    }
}
