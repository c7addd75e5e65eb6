//! A hardware counter of this thread's guest: `perf_event_open(2)`.
//!
//! In: an event, and after how many to interrupt. Out: a count, and a signal to the thread that opened it. What always holds: it counts in the guest alone,
//! on whatever processor the thread is, or says that it did not.
//!
//! **Not run on hardware yet**: no machine that this was written on has such a counter.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Once,
};

use perf_event_open_sys::{
    bindings::{
        PERF_COUNT_HW_INSTRUCTIONS, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_HARDWARE, PERF_TYPE_RAW,
        perf_event_attr,
    },
    ioctls, perf_event_open,
};

/// Longer than any guest runs.
const NEVER: u64 = 1 << 62;

// fcntl(2), values of Linux's `asm-generic/fcntl.h`, which the crate `libc` lacks.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

/// `struct f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Instructions retired.
    Instructions,
    /// The processor's own: event and unit mask.
    Raw(u64),
}

/// A counter that counts.
#[derive(Debug)]
pub struct GuestCounter {
    fd: OwnedFd,
}

impl GuestCounter {
    /// A counter of what guests of this thread do. It counts from now on.
    ///
    /// # Errors
    /// The host's: ENOENT, EOPNOTSUPP or ENODEV where there is no such counter, EACCES or EPERM where it is not allowed.
    pub fn open(event: Event) -> io::Result<Self> {
        let (type_, config) = match event {
            Event::Instructions => (PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_INSTRUCTIONS)),
            Event::Raw(config) => (PERF_TYPE_RAW, config),
        };
        let mut attributes = perf_event_attr {
            type_,
            size: size_of::<perf_event_attr>() as u32,
            config,
            ..Default::default()
        };
        attributes.__bindgen_anon_1.sample_period = NEVER;
        attributes.__bindgen_anon_2.wakeup_events = 1;
        attributes.set_exclude_host(1);
        // On the processor always, or not at all: never a share of the time, scaled up.
        attributes.set_pinned(1);
        // SAFETY: the attributes are a whole, zero-filled structure with its true size; this thread, any processor, no group.
        let fd =
            unsafe { perf_event_open(&raw mut attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC.into()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system call just returned it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Has an overflow send a signal to this thread, which ends `KVM_RUN`. The signal does nothing else.
    ///
    /// # Errors
    /// The host's.
    pub fn signal_this_thread(&self) -> io::Result<()> {
        static HANDLED: Once = Once::new();
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        HANDLED.call_once(|| {
            vmm_sys_util::signal::register_signal_handler(signal(), nothing)
                .expect("a real-time signal can be handled");
        });
        let owner = Owner {
            kind: F_OWNER_TID,
            id: rustix::thread::gettid().as_raw_nonzero().get(),
        };
        let fd = self.fd.as_raw_fd();
        // SAFETY: in each, the descriptor is open, and `fcntl` reads a whole structure or a number.
        let results = unsafe {
            [
                libc::fcntl(fd, F_SETOWN_EX, &raw const owner),
                libc::fcntl(fd, F_SETSIG, signal()),
                libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC),
            ]
        };
        if results.contains(&-1) {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Interrupts the guest after so many events from now, and somewhat late; `None`: does not.
    ///
    /// # Errors
    /// The host's.
    pub fn arm(&self, events: Option<u64>) -> io::Result<()> {
        let period = events.unwrap_or(NEVER);
        // SAFETY: the descriptor is a counter's; the kernel reads the number that the argument is the address of.
        let result = unsafe { ioctls::PERIOD(self.fd.as_raw_fd(), &raw const period as u64) };
        check(result)
    }

    /// Counts from 0 again.
    ///
    /// # Errors
    /// The host's.
    pub fn reset(&self) -> io::Result<()> {
        // SAFETY: the descriptor is a counter's; the kernel takes no argument.
        check(unsafe { ioctls::RESET(self.fd.as_raw_fd(), 0) })
    }

    /// The count.
    ///
    /// # Errors
    /// The host's, and if the counter had to leave the processor.
    pub fn read(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        // perf_event_open(2), "pinned": a counter that could not stay reads as the end of a file.
        match rustix::io::read(&self.fd, &mut bytes)? {
            8 => Ok(u64::from_le_bytes(bytes)),
            _ => Err(io::Error::other(
                "somebody else uses the hardware counters, and this one was taken off",
            )),
        }
    }
}

fn signal() -> libc::c_int {
    vmm_sys_util::signal::SIGRTMIN() + 1
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
