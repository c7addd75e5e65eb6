//! The vCPU thread: a replica runs there from boot to the guest's end.

use tokio::sync::oneshot;

use super::{
    fault::Fault,
    replica::{Ending, Replica, ReplicaError},
};
use crate::{
    engine::{AnyEngine, Engine},
    inputs::Inputs,
    machine::Machine,
};

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
        Self::spawn_with(machine, inputs, |_| Ok(None))
    }

    /// The same, but a fault is put into the machine on the way: to show that it is found.
    ///
    /// # Panics
    /// If the host cannot start a thread.
    pub fn spawn_with_fault<I: Inputs + Send + 'static>(
        machine: Machine<AnyEngine>,
        inputs: I,
        fault: Fault,
    ) -> Self {
        Self::spawn_with(machine, inputs, move |replica| {
            // At the first turn's end there or behind: a backup does not stop anywhere else.
            while replica.machine().position() < fault.at {
                if let Some(ending) = replica.run_turns(1)? {
                    return Ok(Some(ending));
                }
            }
            fault.inject(replica.machine_mut())?;
            Ok(None)
        })
    }

    fn spawn_with<E, I, F>(machine: Machine<E>, inputs: I, begin: F) -> Self
    where
        E: Engine + Send + 'static,
        I: Inputs + Send + 'static,
        F: FnOnce(&mut Replica<E, I>) -> Result<Option<Ending>, ReplicaError> + Send + 'static,
    {
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("vcpu".to_owned())
            .spawn(move || {
                // Nobody listens any more only if the session is over.
                let mut replica = Replica::new(machine, inputs);
                let ended = begin(&mut replica).transpose();
                drop(tell.send(ended.unwrap_or_else(|| replica.run())));
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
