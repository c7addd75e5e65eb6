//! What this host has for a hypervisor: looked at, tried out, and left as it was.
//!
//! In: nothing. Out: facts, with the host's own reason for whatever is missing. What they mean is [`crate::doctor`]'s business.

use std::{
    fs::OpenOptions,
    os::fd::{FromRawFd, OwnedFd},
};

use perf_event_open_sys::{
    bindings::{PERF_COUNT_HW_INSTRUCTIONS, PERF_TYPE_HARDWARE, PERF_TYPE_RAW, perf_event_attr},
    perf_event_open,
};
use rustix::{
    io::Errno,
    thread::{UnshareFlags, unshare_unsafe},
};
use serde::Serialize;

use super::{Tap, with_causes};

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
    // Intel: BR_INST_RETIRED.CONDITIONAL (SDM 3B 20.3); AMD since Zen: PMCx0D1, retired conditional branches.
    let conditional_branches = if cpuinfo.contains("AuthenticAMD") {
        0xD1
    } else {
        0x01C4
    };
    CounterFacts {
        instructions: counter(PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_INSTRUCTIONS)),
        conditional_branches: counter(PERF_TYPE_RAW, conditional_branches),
    }
}

/// Opens a counter of this thread's guest, and closes it again.
fn counter(type_: u32, config: u64) -> Probe {
    let mut attributes = perf_event_attr {
        type_,
        size: size_of::<perf_event_attr>() as u32,
        config,
        ..Default::default()
    };
    attributes.set_disabled(1);
    attributes.set_exclude_host(1);
    attributes.set_pinned(1);
    // SAFETY: the attributes are a whole, zero-filled structure with its true size; this thread, any processor, no group.
    let fd = unsafe { perf_event_open(&raw mut attributes, 0, -1, -1, 0) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        return match Errno::from_io_error(&error) {
            // perf_event_open(2): what is asked of a processor, or of a hypervisor, that does not have it.
            Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => {
                Probe::problem("the host has no such counter")
            }
            Some(Errno::ACCESS | Errno::PERM) => {
                Probe::problem("/proc/sys/kernel/perf_event_paranoid does not allow it")
            }
            _ => Probe::of(Err::<(), _>(error)),
        };
    }
    // SAFETY: the system call just returned it, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Probe::USABLE
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
