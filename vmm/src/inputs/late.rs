//! Inputs that come late, because the guest computes and does not exit.
//!
//! In: from the vCPU's thread, what would let the guest's next input come ([`LateWatch::before_run`], a few stores to memory); the inbox, the guest's clock. Out: a kick
//! to a vCPU that has kept an input waiting for longer than the limit. What always holds: that is chance, and only chance: whatever a kick leads
//! to is in the log.
//!
//! ```text
//!  vCPU thread: Live ── before_run: timer's deadline, interrupt pending, patience ─► Shared
//!                                                                          │ every quarter of the limit
//!  watching thread:                  Inbox, HostClock ──► Seen ──► Observer ──► Kicker::kick
//! ```
//!
//! The watching thread sleeps for good while the vCPU waits in HLT: an idle guest costs nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{inbox::Inbox, live::HostClock};
use crate::engine::Kicker;

/// How long an input waits for a guest that does not exit, unless asked otherwise.
pub const DEFAULT_LATE_LIMIT: Duration = Duration::from_millis(10);

/// The watching thread looks so many times within the limit: an input is late by a quarter of the limit more than it may be, at most.
const LOOKS: u32 = 4;
/// Kicks that let no input in double the patience, up to so many times: a guest with interrupts off is left alone for
/// longer and longer.
const MAX_DOUBLINGS: u32 = 6;
/// The guest runs at least so many times as long as it last stood still for a delta: whoever dirties much memory between his inputs gets them later
/// instead of not getting on.
const RUN_PER_STOP: u32 = 4;
/// No timer.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Shared {
    deadline_ns: AtomicU64,
    pending: AtomicBool,
    patience_ns: AtomicU64,
    /// The vCPU waits in HLT.
    idle: AtomicBool,
    /// The watching thread sleeps until it is woken.
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// What the watching thread sees of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Number of the run that is under way.
    run: Option<u64>,
    /// Something waits for the guest to exit.
    waiting: bool,
    /// How long it may.
    patience: Duration,
}

/// How long an input may wait. Pure.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    /// Kicks in a row that let nothing in.
    vain: u32,
    /// How long the guest stood still for the last delta.
    stop: Duration,
}

impl Patience {
    /// As long as `limit`, if kicks are cheap and do some good.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            vain: 0,
            stop: Duration::ZERO,
        }
    }

    /// The guest was kicked and stood still for so long.
    pub fn kicked(&mut self, stop: Duration) {
        self.vain += 1;
        self.stop = stop;
    }

    /// An input or an interrupt came in, or the guest exited by itself.
    pub fn relieved(&mut self) {
        self.vain = 0;
    }

    /// How long an input may wait now.
    #[must_use]
    pub fn now(&self) -> Duration {
        let doubled = self.limit * (1 << self.vain.min(MAX_DOUBLINGS));
        doubled.max(self.stop * RUN_PER_STOP)
    }
}

/// Decides when an input is late. Pure: time comes in.
#[derive(Debug, Default)]
struct Observer {
    run: Option<u64>,
    waiting_since: Option<Duration>,
}

impl Observer {
    /// The run to kick, if any.
    fn observe(&mut self, now: Duration, seen: Seen) -> Option<u64> {
        if self.run != seen.run || !seen.waiting {
            (self.run, self.waiting_since) = (seen.run, None);
        }
        let run = seen.run.filter(|_| seen.waiting)?;
        let since = *self.waiting_since.get_or_insert(now);
        (now - since >= seen.patience).then_some(run)
    }
}

/// A watching thread, which ends with this.
#[derive(Debug)]
pub struct LateWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LateWatch {
    /// Watches the vCPU of `kicker`, which takes its inputs from `inbox`.
    ///
    /// # Panics
    /// If the host cannot start a thread.
    #[must_use]
    pub fn start(kicker: Kicker, inbox: Arc<Inbox>, clock: HostClock, limit: Duration) -> Self {
        let shared = Arc::new(Shared {
            deadline_ns: AtomicU64::new(NEVER),
            pending: AtomicBool::new(false),
            patience_ns: AtomicU64::new(limit.as_nanos() as u64),
            idle: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("late-inputs".to_owned())
            .spawn(move || watch(&watched, &kicker, &inbox, clock, limit))
            .expect("the host can start one more thread");
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// The guest is about to run to its next exit. `deadline_ns` is when a timer is due, guest nanoseconds since boot; `pending`, that an interrupt waits
    /// to be accepted.
    pub fn before_run(&self, deadline_ns: Option<u64>, pending: bool, patience: &Patience) {
        let shared = &*self.shared;
        shared
            .deadline_ns
            .store(deadline_ns.unwrap_or(NEVER), Ordering::Relaxed);
        shared.pending.store(pending, Ordering::Relaxed);
        let patience_ns = patience.now().as_nanos() as u64;
        shared.patience_ns.store(patience_ns, Ordering::Relaxed);
    }

    /// The vCPU waits in HLT, or does not any more.
    pub fn set_idle(&self, idle: bool) {
        // Before the look at `asleep`, as the watching thread stores `asleep` before it looks at `idle`: one of them sees the other.
        self.shared.idle.store(idle, Ordering::SeqCst);
        if !idle && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for LateWatch {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It panics only if a signal cannot be sent; the vCPU's thread is over in any case.
            drop(thread.join());
        }
    }
}

fn watch(shared: &Shared, kicker: &Kicker, inbox: &Inbox, clock: HostClock, limit: Duration) {
    let begun = Instant::now();
    let mut observer = Observer::default();
    while !shared.closed.load(Ordering::SeqCst) {
        let seen = look(shared, kicker, inbox, clock);
        if let Some(run) = observer.observe(begun.elapsed(), seen) {
            kicker.kick(run);
        }
        shared.asleep.store(true, Ordering::SeqCst);
        if shared.idle.load(Ordering::SeqCst) {
            std::thread::park();
        } else {
            shared.asleep.store(false, Ordering::SeqCst);
            std::thread::park_timeout(limit / LOOKS);
        }
    }
}

fn look(shared: &Shared, kicker: &Kicker, inbox: &Inbox, clock: HostClock) -> Seen {
    // The run first: what is read after it is that run's, or a later one's, whose number then differs.
    let run = kicker.running();
    let deadline_ns = shared.deadline_ns.load(Ordering::Relaxed);
    let due = deadline_ns != NEVER && clock.now_ns() >= deadline_ns;
    Seen {
        run,
        waiting: due
            || shared.pending.load(Ordering::Relaxed)
            || inbox.has_frame()
            || inbox.has_disk()
            || inbox.has_console(),
        patience: Duration::from_nanos(shared.patience_ns.load(Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn waiting(run: u64) -> Seen {
        Seen {
            run: Some(run),
            waiting: true,
            patience: LIMIT,
        }
    }

    #[test]
    fn an_input_is_late_once_one_run_has_kept_it_waiting_for_the_limit() {
        let mut observer = Observer::default();
        let computing = Seen {
            waiting: false,
            ..waiting(1)
        };
        // However long the run lasts: nobody waits.
        assert_eq!(observer.observe(ms(0), computing), None);
        assert_eq!(observer.observe(ms(50), waiting(1)), None);
        assert_eq!(observer.observe(ms(59), waiting(1)), None);
        assert_eq!(observer.observe(ms(60), waiting(1)), Some(1));
        // Another run was given it, or will be at its end.
        assert_eq!(observer.observe(ms(61), waiting(2)), None);
        assert_eq!(observer.observe(ms(70), waiting(2)), None);
        assert_eq!(observer.observe(ms(71), waiting(2)), Some(2));
    }

    #[test]
    fn what_was_taken_in_the_meantime_is_not_late() {
        let mut observer = Observer::default();
        assert_eq!(observer.observe(ms(0), waiting(1)), None);
        let taken = Seen {
            waiting: false,
            ..waiting(1)
        };
        assert_eq!(observer.observe(ms(5), taken), None);
        assert_eq!(observer.observe(ms(12), waiting(1)), None);
        let halted = Seen {
            run: None,
            ..waiting(1)
        };
        assert_eq!(observer.observe(ms(30), halted), None);
    }

    #[test]
    fn kicks_in_vain_and_long_stops_make_patient() {
        let mut patience = Patience::new(LIMIT);
        assert_eq!(patience.now(), LIMIT);
        for expected in [20, 40, 80, 160, 320, 640, 640] {
            patience.kicked(ms(1));
            assert_eq!(patience.now(), ms(expected));
        }
        patience.relieved();
        assert_eq!(patience.now(), LIMIT);
        patience.kicked(ms(50));
        patience.relieved();
        assert_eq!(patience.now(), ms(200), "four times the stop");
        patience.kicked(ms(1));
        patience.relieved();
        assert_eq!(patience.now(), LIMIT, "the last stop counts");
    }
}
