//! Child processes that cannot outlive us.
//!
//! Each is the leader of a process group: what it starts goes with it, and a Ctrl-C on the terminal reaches us alone, who then
//! end it. Dropped, it is killed and reaped. Should we be killed, the kernel kills it.

use std::{
    fs::{File, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal},
};

use super::DemoError;

/// A child and what it started.
///
/// It dies with the *thread* that started it (`PR_SET_PDEATHSIG`, prctl(2)).
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` without standard input; its standard error is appended to the file `stderr`.
    ///
    /// # Errors
    /// If the file cannot be opened or the program not started.
    pub fn start(
        name: &'static str,
        mut command: Command,
        stderr: &Path,
    ) -> Result<Self, DemoError> {
        command.stdin(Stdio::null()).stderr(append_to(stderr)?);
        Self::start_as_it_is(name, command, stderr)
    }

    /// As [`Self::start`], with the standard streams that `command` has.
    pub(super) fn start_as_it_is(
        name: &'static str,
        mut command: Command,
        stderr: &Path,
    ) -> Result<Self, DemoError> {
        command.process_group(0);
        let parent = getpid();
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || die_with(parent)) };
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(|source| DemoError::Start {
            name,
            program,
            source,
        })?;
        Ok(Self {
            name,
            child,
            stderr: stderr.to_owned(),
            status: None,
        })
    }

    /// SIGKILL. Does not wait: see [`Self::ended`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill(&mut self) -> Result<(), DemoError> {
        self.signal("kill", Signal::KILL)
    }

    /// SIGSTOP: it does nothing more until [`Self::resume`], and does not know.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stop(&mut self) -> Result<(), DemoError> {
        self.signal("stop", Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn resume(&mut self) -> Result<(), DemoError> {
        self.signal("resume", Signal::CONT)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the kernel does not know it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, DemoError> {
        if self.status.is_none() {
            let failed = |source| DemoError::Control {
                doing: "wait for",
                name: self.name,
                source,
            };
            self.status = self.child.try_wait().map_err(failed)?;
        }
        Ok(self.status)
    }

    /// Fails if it has ended while `what` is waited for.
    ///
    /// # Errors
    /// [`DemoError::Ended`], with its last words.
    pub fn expect_running(&mut self, what: &str) -> Result<(), DemoError> {
        let Some(status) = self.ended()? else {
            return Ok(());
        };
        let said = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let last_words = said.lines().last().map(str::to_owned);
        Err(DemoError::Ended {
            name: self.name,
            status,
            what: what.to_owned(),
            last_words,
        })
    }

    /// Signals the whole group. One that has been reaped is no more: its number may be another's.
    fn signal(&mut self, doing: &'static str, signal: Signal) -> Result<(), DemoError> {
        let failed = |source| DemoError::Control {
            doing,
            name: self.name,
            source,
        };
        if self.status.is_some() {
            return Err(failed(Errno::SRCH.into()));
        }
        kill_process_group(Pid::from_child(&self.child), signal)
            .map_err(|errno| failed(errno.into()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What cannot be signalled has ended already.
        if self.status.is_none() && self.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn append_to(path: &Path) -> Result<File, DemoError> {
    let failed = |source| DemoError::File {
        doing: "open",
        path: path.to_owned(),
        source,
    };
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(failed)
}

/// Runs in the child. A parent that died before the first call will send no signal.
fn die_with(parent: Pid) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Errno::CHILD.into())
    }
}
