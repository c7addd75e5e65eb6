//! What this host has for a hypervisor: looked at, tried out, and left as it was.
//!
//! In: nothing. Out: facts, with the host's own reason for whatever is missing. What they mean is [`crate::doctor`]'s business.

use std::fs::OpenOptions;

use rustix::{
    io::Errno,
    thread::{UnshareFlags, unshare_unsafe},
};
use serde::Serialize;

use super::{
    Tap,
    perf::{Event, GuestCounter},
    with_causes,
};
use crate::engine::kvm::BranchCounter;

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Whether it works for this user, now.
    pub usable: bool,
    /// If not, the host's reason.
    pub problem: Option<String>,
}

impl Probe {
    /// It works.
    pub const USABLE: Self = Self {
        usable: true,
        problem: None,
    };

    /// It does not.
    pub fn problem(problem: &str) -> Self {
        Self {
            usable: false,
            problem: Some(problem.to_owned()),
        }
    }

    /// What came of trying.
    pub fn of<T, E: std::error::Error>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::USABLE,
            Err(error) => Self::problem(&with_causes(&error)),
        }
    }
}

/// Hardware counters that count in the guest alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterFacts {
    /// Instructions retired.
    pub instructions: Probe,
    /// Conditional branches retired: the one count that processors are exact about.
    pub conditional_branches: Probe,
}

/// Tries hardware counters.
#[must_use]
pub fn counters() -> CounterFacts {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    CounterFacts {
        instructions: counter(Event::Instructions),
        conditional_branches: match BranchCounter::of(&cpuinfo) {
            Some(counts) => counter(Event::Raw(counts.event)),
            None => Probe::problem("it is not known how this processor counts them"),
        },
    }
}

/// Opens a counter of this thread's guest, and closes it again.
fn counter(event: Event) -> Probe {
    match GuestCounter::open(event) {
        Ok(_) => Probe::USABLE,
        Err(error) => Probe::problem(&counter_problem(&error)),
    }
}

/// Why there is no counter.
#[must_use]
pub fn counter_problem(error: &std::io::Error) -> String {
    match Errno::from_io_error(error) {
        // perf_event_open(2): what is asked of a processor, or of a hypervisor, that does not have it.
        Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => {
            "the host has no such counter".to_owned()
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            "/proc/sys/kernel/perf_event_paranoid does not allow it".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Networks for guests, and for the demo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkFacts {
    /// A TAP interface can be made.
    pub tap: Probe,
    /// A network namespace can be made.
    pub namespaces: Probe,
}

/// Tries both, the tap in a namespace that vanishes with it, if there can be one.
#[must_use]
pub fn network() -> NetworkFacts {
    let tried = std::thread::spawn(|| {
        // SAFETY: NEWNET changes which network this thread's later system calls see; no memory and no descriptor.
        let namespaces = Probe::of(unsafe { unshare_unsafe(UnshareFlags::NEWNET) });
        let tap = if namespaces.usable {
            Probe::of(Tap::open("tap"))
        } else {
            // Whether an interface could be made is not tried on the host's own network.
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun");
            match device {
                Ok(_) => Probe::problem(
                    "/dev/net/tun opens, but without root or CAP_NET_ADMIN only interfaces that an administrator made are usable",
                ),
                Err(error) => Probe::problem(&format!("Cannot open /dev/net/tun: {error}")),
            }
        };
        NetworkFacts { tap, namespaces }
    });
    tried.join().expect("the probes do not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_its_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = crate::engine::EngineError::Kvm {
            doing: "sing",
            source: vmm_sys_util::errno::Error::new(1),
        };
        assert!(!Probe::of(Err::<(), _>(refused)).usable);
        let told = Probe::of(Err::<(), _>(error)).problem.expect("a problem");
        assert!(
            told.contains("sing") && told.contains("permitted"),
            "{told}"
        );
        assert_eq!(Probe::of(Ok::<_, std::io::Error>(())), Probe::USABLE);
    }
}
