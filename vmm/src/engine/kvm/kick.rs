//! Stopping a vCPU that runs, from another thread.
//!
//! In: [`Kicker::kick`], on any thread. Out: on the vCPU's thread, [`Kicks::is_kicked`] once `KVM_RUN` has come back. What always holds: a kick is for one
//! run, the one that its number names; one that comes after that run's end does nothing. The vCPU's memory is touched by the kicker only in phase `Kicking`,
//! for whose end the vCPU waits.
//!
//! ```text
//!            arm                 kick                  signal sent
//!  idle(n) ───────► running(n) ───────► kicking(n) ───────────────► kicked(n)
//!   ▲                  │ disarm                                        │ disarm
//!   └──────────────────┴──── n + 1 ◄───────────────────────────────────┘
//! ```
//!
//! `immediate_exit` makes an entry that has not begun come back at once, the signal one that has (KVM API, 5, `immediate_exit`). A signal that arrives
//! later than it is needed costs one entry, which comes back as if nothing had been.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::vcpu::KickTarget;

const IDLE: u64 = 0;
const RUNNING: u64 = 1;
const KICKING: u64 = 2;
const KICKED: u64 = 3;
const PHASE_BITS: u32 = 2;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;

/// The figure's state, shared by the vCPU's thread and kickers.
#[derive(Debug, Default)]
struct Shared {
    /// Number of the run, and phase in the lowest bits.
    word: AtomicU64,
    target: KickTarget,
}

/// The vCPU's end.
#[derive(Debug, Default)]
pub struct Kicks(Arc<Shared>);

/// The other end. Clones kick the same vCPU.
#[derive(Clone, Debug)]
pub struct Kicker(Arc<Shared>);

impl Kicks {
    /// A handle for another thread.
    pub fn kicker(&self) -> Kicker {
        Kicker(Arc::clone(&self.0))
    }

    /// A run begins on this thread; from now on it can be kicked.
    pub fn arm(&self, aim: impl FnOnce(&KickTarget)) {
        aim(&self.0.target);
        let word = self.0.word.load(Ordering::Relaxed);
        debug_assert_eq!(word & PHASE_MASK, IDLE, "runs do not nest");
        self.0.word.store(word | RUNNING, Ordering::Release);
    }

    /// Whether somebody wants this run to end.
    pub fn is_kicked(&self) -> bool {
        self.0.word.load(Ordering::Acquire) & PHASE_MASK > RUNNING
    }

    /// The run has ended. True if it was kicked, for whatever else it ended.
    pub fn disarm(&self) -> bool {
        let word = &self.0.word;
        let mut now = word.load(Ordering::Relaxed);
        loop {
            if now & PHASE_MASK == KICKING {
                // It lasts for one system call.
                std::thread::yield_now();
                now = word.load(Ordering::Acquire);
                continue;
            }
            let next = (now & !PHASE_MASK).wrapping_add(1 << PHASE_BITS);
            match word.compare_exchange(now, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return now & PHASE_MASK == KICKED,
                Err(changed) => now = changed,
            }
        }
    }
}

impl Kicker {
    /// Number of the run that is under way, if there is one that was not kicked yet.
    #[must_use]
    pub fn running(&self) -> Option<u64> {
        let word = self.0.word.load(Ordering::Acquire);
        (word & PHASE_MASK == RUNNING).then_some(word >> PHASE_BITS)
    }

    /// Makes this run end. False if it has ended by itself.
    pub fn kick(&self, run: u64) -> bool {
        let (running, word) = (run << PHASE_BITS | RUNNING, &self.0.word);
        let kicking = running - RUNNING + KICKING;
        if word
            .compare_exchange(running, kicking, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.0.target.kick();
        word.store(running - RUNNING + KICKED, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kick without a vCPU: nothing is aimed at.
    fn armed() -> (Kicks, Kicker) {
        let kicks = Kicks::default();
        let kicker = kicks.kicker();
        kicks.arm(|_| {});
        (kicks, kicker)
    }

    #[test]
    fn a_kick_is_for_one_run() {
        let (kicks, kicker) = armed();
        let run = kicker.running().expect("it runs");
        assert!(!kicks.is_kicked());
        assert!(kicker.kick(run));
        assert!(kicks.is_kicked());
        assert!(!kicker.kick(run), "once");
        assert_eq!(kicker.running(), None);
        assert!(kicks.disarm());
        kicks.arm(|_| {});
        assert!(!kicker.kick(run), "that run is over");
        assert!(!kicks.is_kicked());
        assert_eq!(kicker.running(), Some(run + 1));
        assert!(!kicks.disarm());
        assert_eq!(kicker.running(), None, "idle");
        assert!(!kicker.kick(run + 1), "too late");
    }

    #[test]
    fn whoever_kicks_at_random_times_never_gets_two_kicks_into_a_run() {
        const RUNS: u64 = 20_000;
        let kicks = Kicks::default();
        let kicker = kicks.kicker();
        let done = std::sync::atomic::AtomicBool::new(false);
        let (kicked, told) = std::thread::scope(|scope| {
            let kicking = scope.spawn(|| {
                let mut kicked = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    if let Some(run) = kicker.running() {
                        kicked += u64::from(kicker.kick(run));
                    }
                }
                kicked
            });
            let mut told = 0_u64;
            for _ in 0..RUNS {
                kicks.arm(|_| {});
                std::thread::yield_now();
                told += u64::from(kicks.disarm());
            }
            done.store(true, Ordering::Relaxed);
            (kicking.join().expect("no panic"), told)
        });
        assert_eq!(kicked, told);
    }
}
