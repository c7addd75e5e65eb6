//! The output rule: no output leaves before the backup has acknowledged the entry that it depends on.
//!
//! In: outputs, each with the number of its own log entry, in order; what may be released. Out: the outputs, in the same order. What always
//! holds: an output leaves only if [`OutputGate::release_through`] was told a number at least its own, and each leaves once.

use std::collections::VecDeque;

use crate::effect::Effect;

/// Outputs that wait for their acknowledgement, or, on a backup, for the news that the primary has released them.
#[derive(Debug, Default)]
pub struct OutputGate {
    held: VecDeque<(u64, Effect)>,
    held_bytes: usize,
}

impl OutputGate {
    /// Holds an output until the entry `seq` is safe.
    ///
    /// # Panics
    /// If outputs come out of order.
    pub fn hold(&mut self, seq: u64, effect: Effect) {
        assert!(
            self.held.back().is_none_or(|(last, _)| *last < seq),
            "output {seq} comes after a later one"
        );
        self.held_bytes += effect.bytes().len();
        self.held.push_back((seq, effect));
    }

    /// Lets the outputs of entries up to and including `seq` go, in order.
    pub fn release_through(&mut self, seq: u64) -> Vec<Effect> {
        let count = self.held.partition_point(|(held, _)| *held <= seq);
        let released: Vec<Effect> = self.held.drain(..count).map(|(_, effect)| effect).collect();
        self.held_bytes -= released
            .iter()
            .map(|effect| effect.bytes().len())
            .sum::<usize>();
        released
    }

    /// Bytes of the outputs that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Outputs that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(text: &str) -> Effect {
        Effect::Print(text.as_bytes().to_vec())
    }

    #[test]
    fn outputs_leave_in_order_when_their_entry_is_safe_and_only_once() {
        let mut gate = OutputGate::default();
        gate.hold(3, print("a"));
        gate.hold(5, print("bc"));
        gate.hold(9, print("d"));
        assert_eq!(gate.release_through(2), []);
        assert_eq!(gate.release_through(5), [print("a"), print("bc")]);
        assert_eq!(gate.release_through(5), []);
        assert_eq!((gate.len(), gate.held_bytes()), (1, 1));
        assert_eq!(gate.release_through(u64::MAX), [print("d")]);
        assert!(gate.is_empty());
    }

    #[test]
    #[should_panic(expected = "comes after a later one")]
    fn outputs_out_of_order_are_refused() {
        let mut gate = OutputGate::default();
        gate.hold(5, print("a"));
        gate.hold(5, print("b"));
    }
}
