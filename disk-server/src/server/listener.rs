//! Accepting connections.

use std::{io, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::{MAX_CONNECTIONS, Shared, converse};
use crate::DiskServerError;

/// After `accept` failed for want of descriptors or memory: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until that fails for good.
pub(super) async fn accept_all(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) -> DiskServerError {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the slots' semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_fatal(&error) => return DiskServerError::Listen(error),
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Ended ones are cleared away here, so that the set never holds many more than the slots.
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(shared);
        connections.spawn(async move {
            let _slot = slot;
            // A connection that fails concerns its client alone, and the client knows.
            let _ = converse(stream, shared).await;
        });
    }
}

/// Errors of the listening socket itself. All others of accept(2) concern one connection, or pass.
fn is_fatal(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP]
        .iter()
        .any(|errno| code == Some(*errno))
}
