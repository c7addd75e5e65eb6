//! Machines to measure: alone, or in a pair, on hosts of their own.

use std::{path::PathBuf, process::Command, time::Duration};

use lockstep_tests::rig;
use vmm::{
    demo::{
        ArbiterKind, Client, Guest, Member, Process, Rig, RigOptions,
        network::{Host, TAP},
    },
    engine::EngineKind,
};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Both engines, one after the other.
pub const ENGINES: [EngineKind; 2] = [EngineKind::Kvm, EngineKind::Soft];

/// A rig with a machine on it.
pub struct Served {
    /// The rig. The pair is in it, if it is one.
    pub rig: Rig,
    _alone: Option<Process>,
    _folder: Option<tempfile::TempDir>,
}

/// What a pair is made of.
pub fn options(engine: EngineKind, guest: Guest) -> RigOptions {
    rig::options(engine, guest, ArbiterKind::Tcp, rig::CALM)
}

/// Starts a pair and waits until its guest serves.
pub async fn pair(engine: EngineKind, guest: Guest) -> Served {
    let mut rig = Rig::new(options(engine, guest)).expect("a rig");
    rig.start_pair().await.expect("a pair");
    rig.wait_until_ready(Member::Primary)
        .await
        .expect("the guest serves");
    Served {
        rig,
        _alone: None,
        _folder: None,
    }
}

/// Starts the same machine with `lockstep run`.
pub async fn alone(engine: EngineKind, guest: Guest) -> Served {
    let options = options(engine, guest);
    let folder = tempfile::tempdir().expect("a folder");
    let images = options.images.clone();
    let mut command = Command::new(&options.program);
    command.args([
        "run",
        "--engine",
        engine.name(),
        "--memory",
        guest.memory(),
        "--tap",
        TAP,
    ]);
    command.args(["--console", "none", "--cmdline", &images.command_line]);
    command.arg("--kernel").arg(&images.kernel);
    if let Some(initrd) = &images.initrd {
        command.arg("--initrd").arg(initrd);
    }
    let stderr: PathBuf = folder.path().join("stderr");
    let rig = Rig::new(options).expect("a rig");
    let process = rig
        .network()
        .on_host(Host::Primary, || Process::start("run", command, &stderr));
    let process = process.expect("a host").expect("lockstep runs");
    Served {
        rig,
        _alone: Some(process),
        _folder: Some(folder),
    }
}

impl Served {
    /// Connects a client with `window` requests in flight.
    pub async fn client(&self, window: u64) -> Client {
        self.rig
            .connect(window, PATIENCE)
            .await
            .expect("the guest's service")
    }

    /// Bytes that the primary's host has sent on the channel so far, headers included.
    pub fn channel_bytes(&self) -> u64 {
        let read =
            || std::fs::read_to_string("/proc/thread-self/net/dev").expect("the host's devices");
        let devices = self
            .rig
            .network()
            .on_host(Host::Primary, read)
            .expect("a host");
        let channel = devices
            .lines()
            .find_map(|line| line.trim().strip_prefix("channel:"));
        // NAME: eight received counts, then the bytes sent.
        let sent = channel.and_then(|counts| counts.split_ascii_whitespace().nth(8)?.parse().ok());
        sent.expect("the host has a channel")
    }
}

/// Runs something that awaits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}
