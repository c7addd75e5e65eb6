//! Twins: one process records a machine, another replays it; both must end alike.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vmm::host::{Event, StampedEvent};

use crate::images;

/// A machine to record.
#[derive(Clone, Debug)]
pub struct Guest {
    /// ELF file.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Command line.
    pub command_line: String,
    /// `--memory`.
    pub memory: &'static str,
    /// What is typed on its console.
    pub typed: &'static str,
    /// How long one run may take before the test gives up.
    pub limit: Duration,
}

impl Guest {
    /// A bare-metal guest.
    #[must_use]
    pub fn bare(name: &str, command_line: &str) -> Self {
        Self {
            kernel: images::bare(name),
            initrd: None,
            command_line: command_line.to_owned(),
            memory: "16M",
            typed: "",
            limit: Duration::from_secs(120),
        }
    }

    /// `VERB --log LOG MACHINE…`.
    fn arguments(&self, verb: &str, log: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            verb,
            "--engine",
            "kvm",
            "--memory",
            self.memory,
            "--cmdline",
        ]
        .map(OsString::from)
        .into();
        arguments.push(self.command_line.clone().into());
        arguments.extend(["--kernel".into(), self.kernel.clone().into()]);
        arguments.extend(["--log".into(), log.into()]);
        if let Some(initrd) = &self.initrd {
            arguments.extend(["--initrd".into(), initrd.into()]);
        }
        arguments
    }

    fn command(&self, verb: &str, folder: &Path, name: &str) -> Command {
        let mut command = Command::new(images::lockstep());
        command
            .args(self.arguments(verb, &folder.join("log")))
            .arg("--events")
            .arg(folder.join(format!("{name}.events")));
        command
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What the guest printed.
    pub console: Vec<u8>,
    /// Why it ended.
    pub reason: String,
    /// Of its whole state.
    pub digest: String,
}

/// A recorded machine.
pub struct Recording {
    guest: Guest,
    folder: TempDir,
    /// How the recorded run ended.
    pub end: End,
}

impl Recording {
    /// Runs `guest` to its end and records it.
    ///
    /// # Panics
    /// If it fails or does not end in time.
    #[must_use]
    pub fn make(guest: &Guest, timing_seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = guest.command("record", folder.path(), "record");
        command.args([
            "--timing-seed",
            &timing_seed.to_string(),
            "--console",
            "stdio",
        ]);
        let end = run(command, guest, folder.path(), "record");
        Self {
            guest: guest.clone(),
            folder,
            end,
        }
    }

    /// Replays it in another process.
    ///
    /// # Panics
    /// If that fails, diverges or does not end in time.
    #[must_use]
    pub fn replay(&self, name: &str) -> End {
        let mut command = self.guest.command("replay", self.folder.path(), name);
        command.args(["--console", "stdio"]);
        run(command, &self.guest, self.folder.path(), name)
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Arguments that replay `log` on the recorded machine.
    #[must_use]
    pub fn replay_arguments(&self, log: &Path) -> Vec<OsString> {
        self.guest.arguments("replay", log)
    }
}

fn run(mut command: Command, guest: &Guest, folder: &Path, name: &str) -> End {
    let console = std::fs::File::create(folder.join(format!("{name}.console"))).expect("a file");
    let errors = std::fs::File::create(folder.join(format!("{name}.errors"))).expect("a file");
    command.stdin(Stdio::piped()).stdout(console).stderr(errors);
    let mut child = command.spawn().expect("lockstep starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    if verb_takes_input(name, guest) {
        // A guest clears its serial port when it sets it up: what is typed before is lost, as on a PC.
        wait_until(guest.limit, || {
            std::fs::read(folder.join(format!("{name}.console")))
                .is_ok_and(|text| text.starts_with(b"ready"))
        });
        stdin
            .write_all(guest.typed.as_bytes())
            .expect("the console takes input");
    }
    let success = wait(&mut child, guest.limit);
    let read =
        |suffix: &str| std::fs::read(folder.join(format!("{name}.{suffix}"))).unwrap_or_default();
    let text = |suffix: &str| String::from_utf8_lossy(&read(suffix)).into_owned();
    assert!(
        success,
        "{name} of {guest:?} did not end well within {:?}:\n{}\n{}",
        guest.limit,
        text("errors"),
        text("console")
    );
    let ended =
        text("events")
            .lines()
            .find_map(|line| match StampedEvent::parse(line).ok()?.event {
                Event::Ended { reason, digest } => Some((reason, digest)),
                _ => None,
            });
    let (reason, digest) = ended.expect("the run told how it ended");
    End {
        console: read("console"),
        reason,
        digest,
    }
}

fn verb_takes_input(name: &str, guest: &Guest) -> bool {
    name == "record" && !guest.typed.is_empty()
}

/// Polls `condition`; whoever goes on without it fails with a message of its own.
fn wait_until(limit: Duration, condition: impl Fn() -> bool) {
    let give_up_at = Instant::now() + limit;
    while !condition() && Instant::now() < give_up_at {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process ended well in time; it is ended in any case.
fn wait(child: &mut Child, limit: Duration) -> bool {
    let give_up_at = Instant::now() + limit;
    while Instant::now() < give_up_at {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("the child can be killed");
    child.wait().expect("the child can be waited for");
    false
}
