//! The protocol between a primary, its backup and the arbiter, as pure state machines.

mod backup;
mod claim;
mod message;
mod primary;
mod pulse;
mod report;
mod settings;

pub use backup::{Backup, BackupAction, BackupEvent};
pub use message::{Heartbeat, Message, Role};
pub use primary::{Primary, PrimaryAction, PrimaryEvent};
pub use report::{ClaimAnswer, LossReason, Report};
pub use settings::{Limits, Timing};
