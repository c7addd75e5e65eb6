//! What keeps the server from serving.

use std::{io, path::PathBuf};

use arbiter::ArbiterError;

/// Why the disk server does not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskServerError {
    /// The host refused something about an image.
    #[error("Cannot {action} the image {}. Check the path, its permissions and its disk", path.display())]
    Image {
        /// What was tried.
        action: &'static str,
        /// The image.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Somebody has the image.
    #[error("The image {} is locked by another process: stop whatever uses it, or give each its own image", path.display())]
    Locked {
        /// The image.
        path: PathBuf,
    },
    /// An export cannot be called so.
    #[error("Cannot call an export {name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The arbiter's part failed.
    #[error(transparent)]
    Arbiter(#[from] ArbiterError),
    /// The listening socket failed.
    #[error("The disk server cannot accept connections. Restart it; its images are safe")]
    Listen(#[source] io::Error),
}
