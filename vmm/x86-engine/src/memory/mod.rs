//! Memory as the guest's instructions see it.
//!
//! ```text
//!  logical address ──segments (access.rs)──► linear ──Tlb hit──────────────► host page
//!                                              └── miss: walk.rs, slow.rs ──► Ram | exit to a device
//! ```

pub(crate) mod access;
pub(crate) mod ram;
pub(crate) mod slow;
pub(crate) mod tlb;
pub(crate) mod walk;

/// What an access does. Decides permissions and the error code of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A load.
    Read,
    /// A store, or the load of a read-modify-write.
    Write,
    /// An instruction fetch.
    Fetch,
}
