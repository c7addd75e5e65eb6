//! Process 1: mounts, starts what the kernel command line names, collects dead children.
//!
//! ```text
//! kernel ── /init ── mount ── read /proc/cmdline ─┬─ services ── "lockstep: ready" ── for good
//!                     "lockstep: init"            │  └─ journald; when a client says so ───┐
//!                                                 ├─ sh, shelltest: a child; when it ends ─┤
//!                                                 ├─ selftest; when it is done ────────────┤
//!                                                 └─ poweroff ── "lockstep: bye", reboot ◄─┘
//! ```

use std::ffi::CStr;
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::process::{Child, Command};

use crate::command_line::{self, Task};
use crate::console::say;
use crate::disk;
use crate::diskbench;
use crate::fsexercise;
use crate::journald::Journald;
use crate::selftest;
use crate::service::{self, Service};
use crate::workloads;

/// The only shell. The small initramfs is without it.
const BUSYBOX: &str = "/bin/busybox";
/// What `lockstep.run=shelltest` runs.
const SHELL_TEST: &str = "/bin/shelltest.sh";

/// Runs as process 1; never returns.
pub fn run() -> ! {
    if std::process::id() != 1 {
        say("init runs as process 1 of the guest only; call this program counterd or echod");
        std::process::exit(2);
    }
    say("init");
    mount(c"proc", c"/proc");
    mount(c"devtmpfs", c"/dev");
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let (tasks, unknown) = command_line::tasks(&text);
    for name in unknown {
        say(&format!(
            "lockstep.run={name} is unknown; there are counterd, echod, journald, selftest, workloads, diskbench, fsexercise, poweroff, sh, shelltest"
        ));
    }
    if tasks.contains(&Task::PowerOff) {
        power_off();
    }
    if tasks.contains(&Task::DiskBench) {
        diskbench::run(&text);
        power_off();
    }
    if tasks.contains(&Task::FsExercise) {
        fsexercise::run(&text);
        power_off();
    }
    let journald = tasks
        .contains(&Task::Journald)
        .then(|| open_journal(&text))
        .flatten();
    start_services(&tasks, journald);
    if tasks.contains(&Task::SelfTest) {
        selftest::run();
        power_off();
    }
    if tasks.contains(&Task::Workloads) {
        workloads::run(&text);
        power_off();
    }
    let foreground = tasks.iter().find_map(|task| foreground(*task));
    wait(foreground);
}

/// Mounts a file system of type `kind`. A failure shows in what is missing later, not here.
fn mount(kind: &CStr, target: &CStr) {
    // SAFETY: both are strings that outlive the call, and no data is passed.
    let failed = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    } != 0;
    if failed {
        let error = std::io::Error::last_os_error();
        say(&format!("cannot mount {}: {error}", kind.to_string_lossy()));
    }
}

/// Mounts the disk and opens the journal on it. A machine without a disk is none that lacks something, unless the command line
/// asks for the journal.
fn open_journal(command_line: &str) -> Option<Journald> {
    let device = disk::device(command_line);
    let asked_for = command_line::value(command_line, "lockstep.run=").is_some();
    let opened = disk::carries_ext(device).and_then(|carries| {
        if !carries {
            return Err(Error::other("it carries neither ext2 nor ext4"));
        }
        disk::mount(device)?;
        Journald::open(Path::new(disk::MOUNT_POINT))
    });
    match opened {
        Ok(journald) => Some(journald),
        Err(error) if error.kind() == ErrorKind::NotFound && !asked_for => None,
        Err(error) => {
            say(&format!("no journald on {device}: {error}"));
            None
        }
    }
}

/// Says `ready` once every listener exists: from then on, the kernel queues connections.
fn start_services(tasks: &[Task], journald: Option<Journald>) {
    let mut listeners = Vec::new();
    for task in tasks {
        let service = match task {
            Task::Counterd => Service::Counter,
            Task::Echod => Service::Echo,
            _ => continue,
        };
        match service::listen(service) {
            Ok(listener) => listeners.push((service, listener)),
            Err(error) => say(&format!("{service:?} service cannot listen: {error}")),
        }
    }
    say("ready");
    for (service, listener) in listeners {
        if let Err(error) = service::spawn(service, listener) {
            say(&format!("{service:?} service has no thread: {error}"));
        }
    }
    if let Some(Err(error)) = journald.map(|journald| journald.spawn(power_off)) {
        say(&format!("journald has no thread: {error}"));
    }
}

/// Starts what owns the console, if `task` is that.
fn foreground(task: Task) -> Option<Child> {
    let mut command = Command::new(BUSYBOX);
    match task {
        // `setsid -c` gives the shell a controlling terminal, so that Ctrl-C works.
        Task::Shell => command.args(["setsid", "-c", BUSYBOX, "sh"]),
        Task::ShellTest => command.args(["sh", SHELL_TEST]),
        _ => return None,
    };
    command
        .env_clear()
        .envs([("HOME", "/"), ("PATH", "/bin"), ("TERM", "vt100")]);
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            say(&format!(
                "cannot start {BUSYBOX}: {error}; this initramfs may be the one without"
            ));
            power_off();
        }
    }
}

/// Collects children, orphans too. Ends the guest with `foreground`, if there is one.
fn wait(foreground: Option<Child>) -> ! {
    let foreground = foreground.map(|child| child.id().cast_signed());
    loop {
        // SAFETY: a null status pointer is allowed.
        let child = unsafe { libc::wait(std::ptr::null_mut()) };
        if Some(child) == foreground {
            power_off();
        }
        if child < 0 {
            std::thread::park();
        }
    }
}

/// Ends the machine: the kernel resets it through the keyboard controller (`reboot=k`).
fn power_off() -> ! {
    say("bye");
    // SAFETY: nothing is left to lose; what is on the disk was unmounted, or its journal repairs it.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    panic!("cannot reboot: {}", std::io::Error::last_os_error());
}
