//! A kicked run, and the state that it leaves.
//!
//! ```text
//!  run ──► exit ────────────────────────────────────────────────► Stop::Exit
//!   │ kicked                             ┌── exit ──────────────────┘
//!   └──► on, to where the guest ─────────┤
//!        accepts interrupts              └── accepts, or kicked again ──► Stop::Kicked
//!
//!  Stop::Kicked ──► take_delta: state, dirty pages ──► go_on_from(state), here and on every replica
//! ```
//!
//! Where the guest was stopped is chance, so nobody may count from there: position and instructions stay those of the run's beginning until the delta is taken.
//! An exit after the kick is the same exit that an undisturbed guest comes to.
//!
//! This replica, too, goes on from the state that it has just told: whatever a state does not tell (what KVM shadows, what it keeps of a repeated
//! instruction) is new on both.

use logging_channel::codec::{canonical_bytes, from_canonical_bytes};

use super::{
    KvmEngine,
    state::{ENCODED_STATE_BYTES, KvmState},
};
use crate::engine::{Delta, EngineError, Persist};

impl KvmEngine {
    pub(super) fn delta(&mut self) -> Result<Delta, EngineError> {
        let mut state = self.save()?;
        state.forget_instructions();
        let state = canonical_bytes(&state);
        assert!(state.len() <= ENCODED_STATE_BYTES, "{} bytes", state.len());
        Ok(Delta {
            state,
            dirty: self.slots.take_dirty(&self.vm)?,
        })
    }

    pub(super) fn restore_bytes(&mut self, state: &[u8]) -> Result<(), EngineError> {
        let state: KvmState =
            from_canonical_bytes(state).map_err(|error| EngineError::ForeignState {
                what: format!("none of KVM's ({error})"),
            })?;
        self.restore(&state)
    }
}
