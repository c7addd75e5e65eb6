//! Where a live machine's entries and outputs go.

use logging_channel::Entry;

use super::InputError;
use crate::effect::Effect;

/// Takes a live machine's entries, in order, each with the output that depends on it.
pub trait Recorder: Send {
    /// Takes one entry. `effect` is there if the entry is an output; it may happen once this entry, and with it
    /// everything before it, is safe. May wait for room, never for the network.
    ///
    /// # Errors
    /// [`InputError::Closed`] if the session is over, [`InputError::Host`] if a log file cannot be written.
    fn record(&mut self, entry: Entry, effect: Option<Effect>) -> Result<(), InputError>;
}
