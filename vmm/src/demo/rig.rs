//! A pair, its arbiter and its network, to be started, killed, stopped and watched.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Client, DemoError, Images, Network, Process,
    client::COUNTER_PORT,
    disk::{self, RigDisk},
    network::{CLIENT_ADDRESS, GUEST_ADDRESS, Host, TAP},
    wait, with_causes,
};
use crate::engine::EngineKind;
use crate::host::{Event, StampedEvent};

// Ports are free: the networks are the rig's own.
const ARBITER_PORT: u16 = 7100;
/// Where a backup listens, on its host's channel address.
pub const BACKUP_PORT: u16 = 7200;

/// How long a process may take to start on a busy host.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Lines of each file that are shown as evidence.
const EVIDENCE_LINES: usize = 15;

/// A process of the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// `lockstep primary`.
    Primary,
    /// `lockstep backup`.
    Backup,
    /// `lockstep arbiter`.
    Arbiter,
    /// `lockstep disk-server`, which is the arbiter as well.
    DiskServer,
}

impl Member {
    /// Its name in messages, and its files' names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
            Self::Arbiter => "arbiter",
            Self::DiskServer => "disk-server",
        }
    }
}

/// Who decides which replica is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArbiterKind {
    /// A server of its own: [`Member::Arbiter`].
    #[default]
    Tcp,
    /// A file, as on a shared disk. Nothing to start.
    File,
}

/// What a rig is made of.
#[derive(Clone, Debug)]
pub struct RigOptions {
    /// The `lockstep` program.
    pub program: PathBuf,
    /// What runs in the pair.
    pub images: Images,
    /// `--engine` of both replicas.
    pub engine: EngineKind,
    /// Who decides, where no disk server does.
    pub arbiter: ArbiterKind,
    /// The pair's disk, if it has one.
    pub disk: Option<RigDisk>,
    /// `--failure-timeout` of both replicas, if not the default.
    pub failure_timeout: Option<Duration>,
    /// See [`Network::retransmit_after`]; `None` is what Linux does by itself.
    pub retransmit_after: Option<Duration>,
}

/// A pair on this host. It belongs to the thread that made it, and takes everything with it when it is dropped.
#[derive(Debug)]
pub struct Rig {
    // Dropped in this order: who uses network and files ends first.
    members: BTreeMap<Member, Process>,
    network: Network,
    folder: TempDir,
    options: RigOptions,
}

/// What is left of a failure: the ends of a rig's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Such as `backup.console`.
    pub name: String,
    /// Its last lines.
    pub tail: String,
}

impl Rig {
    /// A network and a folder, and nobody in them.
    ///
    /// # Errors
    /// If this is not root, or the host refuses.
    pub fn new(options: RigOptions) -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new().prefix("lockstep-").tempdir();
        let folder = folder.map_err(|source| DemoError::File {
            doing: "make a temporary folder in",
            path: std::env::temp_dir(),
            source,
        })?;
        let network = Network::enter()?;
        if let Some(least) = options.retransmit_after {
            network.retransmit_after(least)?;
        }
        if let Some(disk) = &options.disk {
            disk.make_images(folder.path())?;
        }
        Ok(Self {
            members: BTreeMap::new(),
            network,
            folder,
            options,
        })
    }

    /// The rig's network, which the thread is in.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The image that `host` sees of the pair's disk, if it has one. It is there while the rig is, unless the disk names another folder.
    #[must_use]
    pub fn image(&self, host: Host) -> Option<PathBuf> {
        let disk = self.options.disk.as_ref()?;
        Some(disk.image(self.folder.path(), host))
    }

    /// The value of `--disk` for a machine on `host`, if the pair has a disk.
    #[must_use]
    pub fn disk_option(&self, host: Host) -> Option<String> {
        let disk = self.options.disk.as_ref()?;
        Some(disk.option(self.folder.path(), host))
    }

    /// Who decides which replica is live: the disk server, if there is one; `None`: a file.
    #[must_use]
    pub fn decider(&self) -> Option<Member> {
        let disk = self.options.disk.as_ref();
        match self.options.arbiter {
            _ if disk.is_some_and(RigDisk::is_served) => Some(Member::DiskServer),
            ArbiterKind::Tcp => Some(Member::Arbiter),
            ArbiterKind::File => None,
        }
    }

    /// Starts whoever decides (unless it is a file), backup and primary, with the disk's fault. They have not formed a pair yet.
    ///
    /// # Errors
    /// If one of them cannot be started.
    pub async fn start_pair(&mut self) -> Result<(), DemoError> {
        if self.decider().is_some() {
            self.start_arbiter().await?;
        }
        self.start_backup(&[])?;
        let disk = self.options.disk.as_ref();
        let fault = disk.and_then(|disk| disk.primary_fault.clone());
        match fault {
            Some(fault) => self.start_primary(&["--disk-fault", &fault]),
            None => self.start_primary(&[]),
        }
    }

    /// Starts the arbiter, or the disk server if that is it; or starts it again on the same state. Waits until it answers.
    ///
    /// # Errors
    /// If it cannot be started or ends.
    pub async fn start_arbiter(&mut self) -> Result<(), DemoError> {
        let claims = format!("{CLIENT_ADDRESS}:{ARBITER_PORT}");
        let disks = format!("{CLIENT_ADDRESS}:{}", disk::SERVER_PORT);
        let member = self.decider().unwrap_or(Member::Arbiter);
        let state = self.path(member, "state").into();
        let disk = self.options.disk.as_ref();
        let (mut arguments, ports): (Vec<OsString>, _) = match disk {
            Some(disk) if disk.is_served() => (
                vec![
                    "disk-server".into(),
                    disk.export(self.folder.path()).into(),
                    "--listen".into(),
                    disks.into(),
                    "--arbiter-listen".into(),
                    claims.into(),
                ],
                vec![ARBITER_PORT, disk::SERVER_PORT],
            ),
            _ => (
                vec!["arbiter".into(), "--listen".into(), claims.into()],
                vec![ARBITER_PORT],
            ),
        };
        arguments.extend(["--state".into(), state]);
        self.start(member, &arguments)?;
        let what = format!("the {} to listen", member.name());
        let process = self.member(member)?;
        wait::until(&what, START_LIMIT, || {
            process.expect_running(&what)?;
            let mut ports = ports.iter();
            let all_listen = ports.all(|port| TcpStream::connect((CLIENT_ADDRESS, *port)).is_ok());
            Ok(all_listen.then_some(()))
        })
        .await
    }

    /// Starts a backup, with `extra` options.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_backup(&mut self, extra: &[&str]) -> Result<(), DemoError> {
        self.start_replica(Host::Backup, "--listen", extra)
    }

    /// Starts a primary, with `extra` options. It looks for the backup for a while.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_primary(&mut self, extra: &[&str]) -> Result<(), DemoError> {
        self.start_replica(Host::Primary, "--backup", extra)
    }

    /// SIGKILL; does not wait.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn kill(&mut self, member: Member) -> Result<(), DemoError> {
        self.member(member)?.kill()
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn stop(&mut self, member: Member) -> Result<(), DemoError> {
        self.member(member)?.stop()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn resume(&mut self, member: Member) -> Result<(), DemoError> {
        self.member(member)?.resume()
    }

    /// The process itself.
    ///
    /// # Errors
    /// [`DemoError::NotStarted`].
    pub fn member(&mut self, member: Member) -> Result<&mut Process, DemoError> {
        self.members.get_mut(&member).ok_or(DemoError::NotStarted {
            name: member.name(),
        })
    }

    /// Waits for `member` to end.
    ///
    /// # Errors
    /// If it does not.
    pub async fn wait_for_end(
        &mut self,
        member: Member,
        limit: Duration,
    ) -> Result<ExitStatus, DemoError> {
        let process = self.member(member)?;
        wait::until(&format!("the {} to end", member.name()), limit, || {
            process.ended()
        })
        .await
    }

    /// Waits until `wanted` is true of one of `member`'s events, and returns the first such; `what` is what it is waited for.
    ///
    /// # Errors
    /// If it does not happen in time, or `member` has ended without it.
    pub async fn wait_for_event(
        &mut self,
        member: Member,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<StampedEvent, DemoError> {
        let what = format!("the {} to report {what}", member.name());
        self.wait_for(member, &what, limit, |rig| {
            Ok(rig
                .events(member)?
                .into_iter()
                .find(|stamped| wanted(&stamped.event)))
        })
        .await
    }

    /// Waits until the guest says on `member`'s console that its services listen.
    ///
    /// # Errors
    /// If it does not happen in time, or `member` has ended without it.
    pub async fn wait_until_ready(&mut self, member: Member) -> Result<(), DemoError> {
        let guest = self.options.images.guest;
        let what = format!("the {guest} guest to say that it is ready");
        self.wait_for(member, &what, guest.boot_limit(), |rig| {
            Ok(rig
                .console(member)?
                .lines()
                .any(|line| guest.is_ready(line))
                .then_some(()))
        })
        .await
    }

    /// Connects a client to the guest's counter.
    ///
    /// # Errors
    /// See [`Client::connect`].
    pub async fn connect(&self, window: u64, limit: Duration) -> Result<Client, DemoError> {
        Client::connect((GUEST_ADDRESS, COUNTER_PORT).into(), window, limit).await
    }

    /// What `member` has reported so far.
    ///
    /// # Errors
    /// If the events file cannot be understood.
    pub fn events(&self, member: Member) -> Result<Vec<StampedEvent>, DemoError> {
        let path = self.path(member, "events");
        let text = read(&path)?;
        // A line is written at once; what has no end yet is no line.
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let parsed = lines.enumerate().map(|(index, line)| {
            StampedEvent::parse(line).map_err(|source| DemoError::Event {
                path: path.clone(),
                line: index + 1,
                source,
            })
        });
        parsed.collect()
    }

    /// What the guest has printed so far, as `member` has shown it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn console(&self, member: Member) -> Result<String, DemoError> {
        read(&self.path(member, "console"))
    }

    /// What `member` has said on its standard error.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn stderr(&self, member: Member) -> Result<String, DemoError> {
        read(&self.path(member, "stderr"))
    }

    /// The ends of all files, for whoever wants to know why something failed.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for member in self.members.keys() {
            for kind in ["stderr", "events", "console"] {
                let path = self.path(*member, kind);
                let text = read(&path).unwrap_or_else(|error| with_causes(&error));
                if !text.is_empty() {
                    evidence.push(Evidence {
                        name: format!("{}.{kind}", member.name()),
                        tail: tail(&text),
                    });
                }
            }
        }
        evidence
    }

    fn start_replica(
        &mut self,
        host: Host,
        channel: &str,
        extra: &[&str],
    ) -> Result<(), DemoError> {
        let member = match host {
            Host::Primary => Member::Primary,
            Host::Backup => Member::Backup,
        };
        let mut arguments: Vec<OsString> = vec![member.name().into()];
        let mut option = |name: &str, value: &dyn AsRef<OsStr>| {
            arguments.extend([name.into(), value.as_ref().to_owned()]);
        };
        option(
            channel,
            &format!("{}:{BACKUP_PORT}", Host::Backup.channel_address()),
        );
        option("--arbiter", &self.arbiter_address());
        if let Some(timeout) = self.options.failure_timeout {
            option("--failure-timeout", &timeout.as_millis().to_string());
        }
        let images = &self.options.images;
        option("--engine", &self.options.engine.name());
        option("--kernel", &images.kernel);
        if let Some(initrd) = &images.initrd {
            option("--initrd", initrd);
        }
        option("--cmdline", &images.command_line);
        option("--memory", &images.guest.memory());
        if let Some(disk) = self.disk_option(host) {
            option("--disk", &disk);
        }
        option("--tap", &TAP);
        option("--console", &self.path(member, "console"));
        option("--events", &self.path(member, "events"));
        arguments.extend(extra.iter().map(Into::into));
        self.start(member, &arguments)
    }

    fn arbiter_address(&self) -> String {
        match self.decider() {
            Some(_) => format!("tcp:{CLIENT_ADDRESS}:{ARBITER_PORT}"),
            None => format!("file:{}", self.path(Member::Arbiter, "state").display()),
        }
    }

    /// Starts `lockstep` on `member`'s host. Whoever was `member` before is ended first.
    fn start(&mut self, member: Member, arguments: &[OsString]) -> Result<(), DemoError> {
        self.members.remove(&member);
        let mut command = Command::new(&self.options.program);
        command.args(arguments).stdout(Stdio::null());
        let stderr = self.path(member, "stderr");
        let start = || Process::start(member.name(), command, &stderr);
        let process = match member {
            Member::Primary => self.network.on_host(Host::Primary, start)?,
            Member::Backup => self.network.on_host(Host::Backup, start)?,
            Member::Arbiter | Member::DiskServer => start(),
        };
        self.members.insert(member, process?);
        Ok(())
    }

    async fn wait_for<T>(
        &mut self,
        member: Member,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        wait::until(what, limit, || {
            // In this order: what it wrote before it ended still counts.
            let running = self.member(member)?.expect_running(what);
            match look(self)? {
                None => running.map(|()| None),
                found => Ok(found),
            }
        })
        .await
    }

    fn path(&self, member: Member, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{}.{kind}", member.name()))
    }
}

/// A file that may not be there yet.
fn read(path: &Path) -> Result<String, DemoError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(DemoError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(EVIDENCE_LINES)..].join("\n")
}
