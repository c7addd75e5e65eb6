//! A pair on one host, in a network of its own, with a client on it: what `lockstep demo` shows and the failover tests use.
//!
//! ```text
//!  ┌ host 1 ──────┐  channel  ┌ host 2 ──────┐
//!  │   primary    ├───────────┤    backup    │    each in a network namespace of its own
//!  └──────┬───────┘           └──────┬───────┘
//!         └────────── lan ───────────┘
//!              client ┘└ arbiter
//!                │ answers, with times     events, consoles: files in a temporary folder
//!                ▼                                    ▼
//!              Tally ─────────────────────────────► Timeline ──► RoundReport
//! ```
//!
//! - [`images`]: which guest, and where its files are.
//! - [`disk`]: the pair's disk, if it has one: its images, and how the replicas come to them.
//! - [`network`]: hosts, bridges, taps, and cables to unplug.
//! - [`processes`]: children that cannot outlive us.
//! - [`rig`]: all of it together: start, kill, stop and resume members, wait for what they tell.
//! - [`client`]: requests in flight over one connection, and what became of them ([`tally`]).
//! - [`journal`]: the same for a journal on the guest's disk, and whether all that was durable is on it ([`disk_image`]).
//! - [`round`]: the demo's story, once.
//! - [`timeline`], [`report`] and [`durable`]: what it has shown.
//!
//! What always holds: whatever way a [`Rig`] goes, its processes, its network and its files go with it. For that,
//! a rig stays on the thread that made it: a network namespace belongs to a thread, and so does the tie
//! that lets children die with their parent. Nothing here prints.

pub mod client;
mod clients;
pub mod disk;
pub mod disk_image;
pub mod durable;
mod error;
pub mod images;
pub mod journal;
mod lines;
pub mod network;
pub mod processes;
pub mod report;
pub mod rig;
pub mod round;
pub mod tally;
pub mod timeline;
mod wait;

pub use crate::host::with_causes;
pub use client::Client;
pub use disk::{DiskAccess, DiskContents, RigDisk};
pub use durable::DurableReport;
pub use error::DemoError;
pub use images::{Guest, Images};
pub use journal::{JournalClient, JournalVerdict};
pub use network::{Cable, Host, Network};
pub use processes::Process;
pub use report::{Report, RoundReport};
pub use rig::{ArbiterKind, Evidence, Member, Rig, RigOptions};
pub use tally::Tally;
pub use timeline::Timeline;
