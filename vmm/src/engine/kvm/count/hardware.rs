//! The processor's own counter.
//!
//! In: a guest, and after how many events to interrupt it. Out: counts. **Not run on hardware yet**: nobody who wrote this had a machine whose KVM has a counter. What
//! stands around it is tested with [`super::simulated`].
//!
//! ```text
//!  arm ─► KVM_RUN ─► overflow: interrupt in the guest ─► exit to the host ─► signal to this thread ─► KVM_RUN ends with EINTR
//! ```

use super::{branches::Counter, processor::BranchCounter};
use crate::{
    engine::{
        EngineError, Exit,
        kvm::{
            guest::Guest,
            pvm,
            step::{Stepped, Stepper},
            vcpu::{Debugging, RawExit},
        },
    },
    host::{
        perf::{Event, GuestCounter},
        survey::counter_problem,
    },
};

/// The counter of the thread that runs the guest.
pub struct Hardware {
    counts: BranchCounter,
    /// Opened by the thread that runs the guest, when it first does.
    counter: Option<GuestCounter>,
}

impl Hardware {
    /// This host's.
    ///
    /// # Errors
    /// [`EngineError::NoCounter`], with the reason.
    pub fn new() -> Result<Self, EngineError> {
        if pvm::present() {
            return Err(EngineError::NoCounter(
                "kvm-pvm emulates guest kernel code, which no counter sees".to_owned(),
            ));
        }
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let counts = BranchCounter::of(&cpuinfo).ok_or_else(|| {
            EngineError::NoCounter("it is not known how this processor counts branches".to_owned())
        })?;
        // Tried at once, to be told before a guest is loaded.
        open(counts)?;
        Ok(Self {
            counts,
            counter: None,
        })
    }

    fn counter(&mut self) -> Result<&GuestCounter, EngineError> {
        if self.counter.is_none() {
            let counter = open(self.counts)?;
            counter
                .signal_this_thread()
                .map_err(failed("get signals from"))?;
            self.counter = Some(counter);
        }
        Ok(self.counter.as_ref().expect("it was just opened"))
    }
}

fn open(counts: BranchCounter) -> Result<GuestCounter, EngineError> {
    GuestCounter::open(Event::Raw(counts.event))
        .map_err(|error| EngineError::NoCounter(counter_problem(&error)))
}

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Counter { doing, source }
}

impl Counter for Hardware {
    fn clock(&self) -> &'static str {
        self.counts.clock
    }

    fn margin(&self) -> u64 {
        self.counts.margin
    }

    fn reset(&mut self) -> Result<(), EngineError> {
        self.counter()?.reset().map_err(failed("reset"))
    }

    fn read(&mut self) -> Result<u64, EngineError> {
        self.counter()?.read().map_err(failed("read"))
    }

    fn run(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
        events: Option<u64>,
    ) -> Result<Option<Exit>, EngineError> {
        guest.vcpu.set_debugging(Debugging::default())?;
        self.counter()?.arm(events).map_err(failed("arm"))?;
        let exit = loop {
            match guest.enter()? {
                // Whether it was the counter's signal shows in the count.
                RawExit::Interrupted if events.is_some() => break None,
                raw => {
                    if let Some(exit) = guest.interpret(raw)? {
                        break Some(exit);
                    }
                }
            }
        };
        self.counter()?.arm(None).map_err(failed("disarm"))?;
        stepper.ran(guest)?;
        Ok(exit)
    }

    fn step(
        &mut self,
        guest: &mut Guest,
        stepper: &mut Stepper,
    ) -> Result<Option<Exit>, EngineError> {
        Ok(match stepper.step(guest, u64::MAX)? {
            Stepped::Counted(_) => None,
            Stepped::Exited(_, exit) => Some(exit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a host that has one, this is the first thing to look at.
    #[test]
    fn without_a_counter_the_reason_is_told_and_what_to_use_instead() {
        let Err(error) = Hardware::new() else {
            return;
        };
        let told = error.to_string();
        assert!(told.starts_with("Cannot count with hardware: "), "{told}");
        assert!(told.contains("--count step"), "{told}");
    }
}
