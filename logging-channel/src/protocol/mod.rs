//! The protocol between a primary, its backup and the arbiter, as pure state machines.
//!
//! In: what happened ([`PrimaryEvent`], [`BackupEvent`]) and when. Out: what to do
//! ([`PrimaryAction`], [`BackupAction`]). No socket, thread, clock or file; time is a [`Duration`]
//! since an arbitrary origin, on a clock that goes on while the process or its host sleeps.
//!
//! ```text
//!   primary                                backup                        arbiter
//!      │ Hello ─────────────────────────────→ │
//!      │ ←──────────────────── Welcome/Refuse │
//!      │ Entries ───────────────────────────→ │ deliver to replay
//!      │ ←─────────────────────────────── Ack │
//!      │ outputs leave                        │
//!      │ Entries (released_through) ────────→ │ drop kept outputs
//!      │ ←──────── heartbeats by UDP ───────→ │
//!      ╳ killed                               │ connection closed, or silence
//!                                             │ replay every entry received
//!                                             │ claim term + 1 ─────────────→ │
//!                                             │ ←──────────────────────── Won │
//!                                             │ release kept outputs, go live
//! ```
//!
//! # Why the invariants hold
//!
//! (a) *No output leaves before the backup has every entry it depends on, or the term is won alone.*
//! The primary permits outputs up to the last acknowledged entry, and entries are acknowledged in
//! order, without a gap. After a won claim there is nobody left to wait for.
//!
//! (b) *Never two live replicas in one term.* Only [`ClaimAnswer::Won`] leads to going live, for
//! exactly one more than the pair's term, and the arbiter gives that to one replica. Beyond that, a
//! primary that has not won stops releasing before its backup can be live: the backup gives it up
//! no sooner than a failure timeout after it last *heard* it, and the primary gives the backup up a
//! failure timeout after it *sent* what the backup last echoed, which is earlier. What waits in a
//! socket cannot renew that. (A connection that the network itself breaks is suspected at once; the
//! primary may then still release outputs the backup has acknowledged, and will release too.)
//!
//! (c) *The backup's state is a prefix of the primary's.* Entries pass in sequence or end the pair,
//! and a replay that diverges ends the backup.
//!
//! (d) *An output may be repeated around a failover, never lost or contradicted.* Whatever the
//! primary released was acknowledged, so the backup has it in its past before it goes live; whatever
//! it has not heard to be released it has kept, and releases.
//!
//! # How to drive a core
//!
//! One thread calls `handle`, then `poll` until `None`, doing each action before the next. Between
//! two events it needs no attention but a `Tick` at `next_wakeup`. `now` is read just before each
//! `handle`, never once for several events.

pub mod backup;
mod claim;
mod message;
pub mod primary;
mod pulse;
mod report;
mod settings;

pub use backup::{Backup, BackupAction, BackupEvent};
pub use message::{Heartbeat, Message, Role};
pub use primary::{Primary, PrimaryAction, PrimaryEvent};
pub use report::{ClaimAnswer, LossReason, Report};
pub use settings::{Limits, Timing};

#[cfg(doc)]
use std::time::Duration;
