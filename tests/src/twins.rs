//! Twins: one process records a machine, another replays it; both must end alike.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vmm::{
    demo::{
        client::COUNTER_PORT,
        network::{GUEST_ADDRESS, Host, Network, TAP},
    },
    engine::{EngineKind, kvm::CountKind},
    host::{Event, StampedEvent},
    machine::boot::BootProtocol,
};

use crate::images;

/// What a recorded guest hears from the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Nothing.
    Nothing,
    /// This is typed on its console, once it says that it is ready.
    Typed(&'static str),
    /// A client on its network makes so many requests to its counter, one at a time.
    Requests(u64),
}

/// A machine to record.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What runs it.
    pub engine: EngineKind,
    /// What KVM counts.
    pub count: CountKind,
    /// A bzImage, or an ELF file.
    pub kernel: PathBuf,
    /// How it is entered.
    pub boot: BootProtocol,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Command line.
    pub command_line: String,
    /// `--memory`.
    pub memory: &'static str,
    /// Size of its disk, bytes, all zeros at first; 0: it has none. Replays have none in any case.
    pub disk_bytes: u64,
    /// What it hears while it is recorded.
    pub talk: Talk,
    /// How long one run may take before the test gives up.
    pub limit: Duration,
}

impl Guest {
    /// A bare-metal guest.
    #[must_use]
    pub fn bare(engine: EngineKind, name: &str, command_line: &str) -> Self {
        Self {
            engine,
            count: CountKind::default(),
            kernel: images::bare(name),
            boot: BootProtocol::Auto,
            initrd: None,
            command_line: command_line.to_owned(),
            memory: "16M",
            disk_bytes: 0,
            talk: Talk::Nothing,
            limit: Duration::from_secs(120),
        }
    }

    /// `VERB --log LOG MACHINE…`.
    fn arguments(&self, verb: &str, log: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            verb,
            "--engine",
            self.engine.name(),
            "--memory",
            self.memory,
            "--cmdline",
        ]
        .map(OsString::from)
        .into();
        arguments.push(self.command_line.clone().into());
        arguments.extend(["--kernel".into(), self.kernel.clone().into()]);
        arguments.extend(["--boot".into(), self.boot.to_string().into()]);
        arguments.extend(["--log".into(), log.into()]);
        if self.engine == EngineKind::Kvm {
            arguments.extend(["--count", self.count.name()].map(OsString::from));
        }
        if let Talk::Requests(_) = self.talk {
            arguments.extend(["--mac", "52:54:00:6c:73:01"].map(OsString::from));
        }
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
        if guest.disk_bytes > 0 {
            let path = folder.path().join("disk.img");
            let image = File::create(&path).expect("an image");
            image.set_len(guest.disk_bytes).expect("an image of zeros");
            command.arg("--disk").arg(path);
        }
        // A client is in the middle of a network, the machine on one of its hosts.
        let network = match guest.talk {
            Talk::Requests(_) => Some(Network::enter().expect("a network")),
            _ => None,
        };
        let child = match &network {
            Some(network) => {
                command.args(["--tap", TAP]);
                let start = || spawn(command, folder.path(), "record");
                network.on_host(Host::Primary, start).expect("a host")
            }
            None => spawn(command, folder.path(), "record"),
        };
        let end = finish(child, guest, folder.path(), "record", guest.talk);
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
        command.args(["--console", "stdio", "--verify"]);
        let child = spawn(command, self.folder.path(), name);
        finish(child, &self.guest, self.folder.path(), name, Talk::Nothing)
    }

    /// Replays it three times at once, each in a process of its own: another load than the recorded run had. All must end as it did.
    ///
    /// # Panics
    /// If one does not.
    pub fn replays_alike(&self) {
        std::thread::scope(|scope| {
            let replays = ["first", "second", "third"];
            let replays = replays.map(|name| (name, scope.spawn(move || self.replay(name))));
            for (name, replay) in replays {
                let end = replay.join().expect("the replay ends well");
                assert_eq!(end, self.end, "the {name} replay");
            }
        });
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// The image of its disk, if it has one, as the recorded run has left it.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder().join("disk.img")
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

fn spawn(mut command: Command, folder: &Path, name: &str) -> Child {
    let file =
        |suffix: &str| File::create(folder.join(format!("{name}.{suffix}"))).expect("a file");
    command
        .stdin(Stdio::piped())
        .stdout(file("console"))
        .stderr(file("errors"));
    command.spawn().expect("lockstep starts")
}

/// Talks to a running guest, and waits for its end.
fn finish(mut child: Child, guest: &Guest, folder: &Path, name: &str, talk: Talk) -> End {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    match talk {
        Talk::Nothing => {}
        Talk::Typed(text) => {
            // A guest clears its serial port when it sets it up: what is typed before is lost, as on a PC.
            wait_until(guest.limit, || {
                std::fs::read(folder.join(format!("{name}.console")))
                    .is_ok_and(|text| text.starts_with(b"ready"))
            });
            stdin
                .write_all(text.as_bytes())
                .expect("the console takes input");
        }
        Talk::Requests(count) => request(count, guest.limit),
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

/// Makes requests to the counter at the guest's address, as soon as it serves.
fn request(count: u64, limit: Duration) {
    let address = SocketAddr::from((GUEST_ADDRESS, COUNTER_PORT));
    let give_up_at = Instant::now() + limit;
    let stream = loop {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => break stream,
            Err(error) => assert!(
                Instant::now() < give_up_at,
                "no service at {address}: {error}"
            ),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(limit)).expect("a timeout");
    let mut answers = BufReader::new(&stream).lines();
    for number in 1..=count {
        (&stream)
            .write_all(b"incr\n")
            .expect("the connection holds");
        let answer = answers.next().expect("an answer").expect("an answer");
        assert_eq!(answer, number.to_string());
    }
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
