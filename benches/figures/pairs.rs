//! Machines to measure: alone, or in a pair, on hosts of their own.

use std::{path::PathBuf, process::Command, time::Duration};

use lockstep_tests::rig;
use logging_channel::{
    codec::encode_heartbeat,
    protocol::{Heartbeat, Role},
};
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
    alone: Option<Alone>,
}

/// A machine without a backup.
struct Alone {
    _process: Process,
    folder: tempfile::TempDir,
}

/// What a pair is made of.
pub fn options(engine: EngineKind, guest: Guest) -> RigOptions {
    rig::options(engine, guest, ArbiterKind::Tcp, rig::CALM)
}

/// Starts a pair and waits until its guest serves.
pub async fn pair(engine: EngineKind, guest: Guest) -> Served {
    pair_of(options(engine, guest)).await
}

/// Starts a pair and waits until its guest says that it is ready.
pub async fn pair_of(options: RigOptions) -> Served {
    let mut served = started_pair_of(options).await;
    served
        .rig
        .wait_until_ready(Member::Primary)
        .await
        .expect("the guest serves");
    served
}

/// Starts a pair. Its guest may still boot.
pub async fn started_pair_of(options: RigOptions) -> Served {
    let mut rig = Rig::new(options).expect("a rig");
    rig.start_pair().await.expect("a pair");
    Served { rig, alone: None }
}

/// Starts the same machine with `lockstep run`.
pub async fn alone(engine: EngineKind, guest: Guest) -> Served {
    alone_of(options(engine, guest)).await
}

/// Starts a pair's machine with `lockstep run`, and its disk's server, if it has one. Its guest may still boot.
pub async fn alone_of(options: RigOptions) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, engine) = (options.images.clone(), options.engine);
    let guest = images.guest;
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
    command.arg("--console").arg(folder.path().join("console"));
    command.args(["--cmdline", &images.command_line]);
    command.arg("--kernel").arg(&images.kernel);
    if let Some(initrd) = &images.initrd {
        command.arg("--initrd").arg(initrd);
    }
    let mut rig = Rig::new(options).expect("a rig");
    if let Some(disk) = rig.disk_option(Host::Primary) {
        command.args(["--disk", &disk]);
    }
    if rig.decider() == Some(Member::DiskServer) {
        rig.start_arbiter().await.expect("a disk server");
    }
    let stderr: PathBuf = folder.path().join("stderr");
    let process = rig
        .network()
        .on_host(Host::Primary, || Process::start("run", command, &stderr));
    let process = process.expect("a host");
    Served {
        rig,
        alone: Some(Alone {
            _process: process.expect("lockstep runs"),
            folder,
        }),
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

    /// What the guest has printed so far.
    pub fn console(&self) -> String {
        match &self.alone {
            // It may not be there yet.
            Some(alone) => {
                std::fs::read_to_string(alone.folder.path().join("console")).unwrap_or_default()
            }
            None => self.rig.console(Member::Primary).expect("a console"),
        }
    }

    /// What a host has sent on the channel so far.
    pub fn channel(&self, host: Host) -> Traffic {
        let (bytes, packets) = self.sent(host, "channel");
        let counts = self.on_host(host, "/proc/thread-self/net/snmp");
        let mut udp = counts.lines().filter_map(|line| line.strip_prefix("Udp: "));
        // Names first, then InDatagrams, NoPorts, InErrors and OutDatagrams.
        let datagrams = udp
            .next_back()
            .and_then(|counts| counts.split(' ').nth(3)?.parse().ok());
        Traffic {
            bytes,
            packets,
            datagrams: datagrams.expect("the host counts datagrams"),
        }
    }

    /// Bytes of the frames that the guest's tap was sent so far.
    pub fn input_bytes(&self) -> u64 {
        self.sent(Host::Primary, TAP).0
    }

    /// Bytes and packets that a device has sent so far, link headers included.
    fn sent(&self, host: Host, device: &str) -> (u64, u64) {
        let devices = self.on_host(host, "/proc/thread-self/net/dev");
        let counts = devices
            .lines()
            .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
        // NAME: eight received counts, then bytes and packets sent.
        let mut counts = counts
            .expect("the host has this device")
            .split_ascii_whitespace()
            .skip(8)
            .map(|count| count.parse().expect("a number"));
        let mut next = || counts.next().expect("bytes, then packets");
        (next(), next())
    }

    fn on_host(&self, host: Host, path: &str) -> String {
        let read = || std::fs::read_to_string(path).expect("a network has counts");
        let network = self.rig.network();
        network.on_host(host, read).expect("a host")
    }
}

/// What was sent on the channel.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// With all headers.
    pub bytes: u64,
    packets: u64,
    /// Heartbeats among them.
    datagrams: u64,
}

impl Traffic {
    /// What TCP carried: the log.
    pub fn tcp_payload_bytes(&self) -> u64 {
        // Ethernet 14, IPv4 20, UDP 8; TCP 20 and 12 of timestamps.
        const UDP_HEADERS_BYTES: u64 = 14 + 20 + 8;
        const TCP_HEADERS_BYTES: u64 = 14 + 20 + 20 + 12;
        // They differ by a byte or two, as their counters grow.
        let heartbeat = encode_heartbeat(&Heartbeat {
            role: Role::Primary,
            term: 2,
            counter: 1_000,
            heard: 1_000,
            session: u64::MAX,
        });
        let udp = self.datagrams * (UDP_HEADERS_BYTES + heartbeat.len() as u64);
        let tcp = (self.packets - self.datagrams) * TCP_HEADERS_BYTES;
        self.bytes.saturating_sub(udp + tcp)
    }
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            packets: self.packets - before.packets,
            datagrams: self.datagrams - before.datagrams,
        }
    }
}

/// Runs something that awaits.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}
