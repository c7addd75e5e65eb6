//! A kicked run, and the state that it leaves.
//!
//! ```text
//!  run_free ──► exit ───────────────────────────────────────────────────► Stop::Exit
//!     │ kicked                              ┌── exit ─────────────────────────┘
//!     └──► a few steps, until the guest ────┤
//!          accepts interrupts               └── accepts, or none in reach ──► Stop::Kicked
//!
//!  Stop::Kicked ──► take_delta: state, dirty pages ──► go_on_from(state), here and on every replica
//! ```
//!
//! Where the guest was stopped is chance, so nobody may count from there: position and instructions stay those of the run's beginning until the delta is taken.
//! The steps need no word in the log, as all of it is part of the delta; an exit on the way is the same exit that an undisturbed guest comes to.
//!
//! This replica, too, goes on from the state that it has just told: whatever a state does not tell (what KVM shadows, what it keeps of a repeated
//! instruction) is new on both.

use logging_channel::codec::{canonical_bytes, from_canonical_bytes};

use super::{
    KvmEngine,
    pvm::Pvm,
    state::{ENCODED_STATE_BYTES, KvmState},
};
use crate::engine::{Delta, EngineError, Persist, Stop};

/// A kicked guest that accepts no interrupt is stepped on so far to find a place that does, instructions. Most critical sections
/// are shorter, and a kvm-pvm host needs a quarter of a millisecond for so many.
const STEP_LIMIT: u64 = 64;

impl KvmEngine {
    /// To the next exit, or until a kick.
    pub(super) fn run_kickable(&mut self) -> Result<Stop, EngineError> {
        let vcpu = &mut self.vcpu;
        self.kicks.arm(|target| vcpu.aim_at(target));
        let exit = self.run_free();
        if self.kicks.disarm() {
            self.vcpu.forget_kick();
        }
        match exit? {
            Some(exit) => Ok(Stop::Exit(exit)),
            None => self.stop_here(),
        }
    }

    fn stop_here(&mut self) -> Result<Stop, EngineError> {
        let counted = std::mem::take(&mut self.instructions);
        self.accepts_interrupts = self.vcpu.ready_for_interrupt();
        let limit = match &self.pvm {
            Some(_) if !Pvm::can_step(&self.vcpu)? => 0,
            _ => STEP_LIMIT,
        };
        let stop = self.step_until(|engine| {
            !engine.exception_hidden && (engine.accepts_interrupts || engine.instructions >= limit)
        })?;
        if let Stop::Exit(_) = stop {
            return Ok(stop);
        }
        self.instructions = counted;
        Ok(Stop::Kicked)
    }

    pub(super) fn delta(&mut self) -> Result<Delta, EngineError> {
        self.instructions = 0;
        let state = canonical_bytes(&self.save()?);
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
