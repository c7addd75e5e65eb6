//! Who may touch the images: the rules, and where connections wait for them.
//!
//! [`Core`] is the rules, pure. [`Gate`] holds one, lets requests pass and makes those wait who need
//! older ones to end. A connection without a binding only reads, and never comes here.

mod core;
mod gate;

#[cfg(test)]
mod tests;

pub use self::core::{ConnectionId, Core, CutOff, OtherTerm};
pub use self::gate::{Attachment, Gate, Pass};
