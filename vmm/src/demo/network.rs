//! A network for one pair, as if it were on two hosts: namespaces with bridges, taps and cables between them.
//!
//! ```text
//!  ┌ namespace of host 1 ──────┐   ┌ namespace of this thread ───┐   ┌ namespace of host 2 ─────┐
//!  │ primary ── tap ── bridge ─┼───┼─────────── lan ─────────────┼───┼─ bridge ── tap ── backup │
//!  │       └──────── channel ──┼───┼───────── channel ───────────┼───┼── channel ────────┘      │
//!  └───────────────────────────┘   │ the client and the arbiter  │   └──────────────────────────┘
//!                                  │ are on `lan`                │
//!                                  └─────────────────────────────┘
//! ```
//!
//! `lan` and `channel` in the middle are bridges. To unplug a cable is to take it out of its bridge: what is sent is lost, and
//! nobody is told. Nothing of all this can stay behind: the kernel removes it when the last process in it has ended.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    marker::PhantomData,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rustix::{
    process::{geteuid, getpid},
    thread::{
        CpuSet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_getaffinity,
        sched_setaffinity, unshare_unsafe,
    },
};

use super::DemoError;

/// The guest.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// Client and arbiter, on the same network as the guest.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// The tap on either host.
pub const TAP: &str = "tap";

/// The calling thread's namespace. A process's may differ from thread to thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// Without IPv6 the bridges send nothing by themselves, so that the guest's inputs are the client's.
const IPV6_SWITCH: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// A host of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Where the primary runs.
    Primary,
    /// Where the backup runs.
    Backup,
}

impl Host {
    const ALL: [Self; 2] = [Self::Primary, Self::Backup];

    fn number(self) -> u8 {
        match self {
            Self::Primary => 1,
            Self::Backup => 2,
        }
    }

    /// On the network of guest, client and arbiter.
    #[must_use]
    pub fn lan_address(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 0, 10 + self.number())
    }

    /// On the network between the hosts.
    #[must_use]
    pub fn channel_address(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 1, self.number())
    }
}

/// What can be unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cable {
    /// Between the hosts: log, acknowledgements, heartbeats.
    Channel,
    /// From a host to the client and the arbiter; the guest's frames go there too.
    Lan(Host),
}

impl Cable {
    /// The cable's end in the middle, and the bridge that it belongs in.
    fn end(self) -> (String, &'static str) {
        match self {
            Self::Channel => ("channel1".into(), "channel"),
            Self::Lan(host) => (format!("lan{}", host.number()), "lan"),
        }
    }
}

/// Networks that the thread is in the middle of until this is dropped; then it moves back to where it was.
///
/// Sockets that the thread makes meanwhile, and processes that it starts, are in the middle too.
#[derive(Debug)]
pub struct Network {
    before: File,
    middle: File,
    /// In the order of [`Host::ALL`].
    hosts: [File; 2],
    /// A namespace belongs to a thread.
    not_send: PhantomData<*const ()>,
}

impl Network {
    /// Makes the namespaces and moves the thread into the middle one.
    ///
    /// # Errors
    /// If this is not root, `ip` is missing, or the kernel refuses.
    pub fn enter() -> Result<Self, DemoError> {
        if !geteuid().is_root() {
            return Err(DemoError::NotRoot);
        }
        let before = own_namespace()?;
        let made = make_all();
        let (hosts, middle) = made.inspect_err(|_| leave_for(&before))?;
        let network = Self {
            before,
            middle,
            hosts,
            not_send: PhantomData,
        };
        ip("make bridges and cables", &network.middle_script())?;
        for host in Host::ALL {
            network.on_host(host, || ip("make a bridge and a tap", &host_script(host)))??;
        }
        Ok(network)
    }

    /// Does something on `host`: what it starts there stays there, on the host's own half of the processors.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn on_host<T>(&self, host: Host, act: impl FnOnce() -> T) -> Result<T, DemoError> {
        /// Comes back also from a panic.
        struct Visit<'a>(&'a Network, Option<CpuSet>);
        impl Drop for Visit<'_> {
            fn drop(&mut self) {
                leave_for(&self.0.middle);
                if let Some(processors) = &self.1 {
                    // At worst the thread stays on half of them.
                    let _ = sched_setaffinity(None, processors);
                }
            }
        }
        let namespace = &self.hosts[usize::from(host.number()) - 1];
        let _visit = Visit(self, take_processors_of(host));
        move_into(namespace)?;
        Ok(act())
    }

    /// Lets the client's TCP send again what was not acknowledged after `least`, or later: Linux itself waits 200 ms at least.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn retransmit_after(&self, least: Duration) -> Result<(), DemoError> {
        let least_ms = least.as_millis().max(1);
        let route = format!(
            "route replace 172.31.0.0/24 dev lan src {CLIENT_ADDRESS} rto_min {least_ms}ms\n"
        );
        ip("change the client's retransmission time", &route)
    }

    /// From now on everything that is sent through `cable` is lost.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn unplug(&self, cable: Cable) -> Result<(), DemoError> {
        let (end, _) = cable.end();
        ip("unplug a cable", &format!("link set {end} nomaster\n"))
    }

    /// Undoes [`Self::unplug`].
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn plug(&self, cable: Cable) -> Result<(), DemoError> {
        let (end, bridge) = cable.end();
        ip(
            "plug in a cable",
            &format!("link set {end} master {bridge}\n"),
        )
    }

    fn middle_script(&self) -> String {
        let mut script = format!(
            "link set lo up\n{}{}",
            bridge("lan", 0),
            bridge("channel", 1)
        );
        script += &format!("address add {CLIENT_ADDRESS}/24 dev lan\n");
        for (host, namespace) in Host::ALL.into_iter().zip(&self.hosts) {
            let namespace = format!(
                "/proc/{}/fd/{}",
                getpid().as_raw_nonzero(),
                namespace.as_raw_fd()
            );
            for name in ["lan", "channel"] {
                let end = format!("{name}{}", host.number());
                script += &format!(
                    "link add name {end} type veth peer name {name} netns {namespace}\n\
                     link set {end} master {name} up\n"
                );
            }
        }
        script
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        leave_for(&self.before);
    }
}

fn host_script(host: Host) -> String {
    let (lan, channel) = (host.lan_address(), host.channel_address());
    format!(
        "link set lo up\n\
         {}\
         tuntap add {TAP} mode tap\n\
         link set {TAP} master bridge up\n\
         link set lan master bridge up\n\
         address add {lan}/24 dev bridge\n\
         address add {channel}/24 dev channel\n\
         link set channel up\n",
        bridge("bridge", 1 + host.number()),
    )
}

/// A bridge that is up at once. It has an address of its own: otherwise that changes with every cable that is plugged in.
fn bridge(name: &str, number: u8) -> String {
    format!(
        "link add name {name} address 52:54:00:6c:72:{number:02x} type bridge stp_state 0 forward_delay 0\n\
         link set {name} up\n"
    )
}

/// The hosts' namespaces and the middle one, in which the thread then is.
fn make_all() -> Result<([File; 2], File), DemoError> {
    Ok(([make_namespace()?, make_namespace()?], make_namespace()?))
}

/// Moves the thread into a new namespace.
fn make_namespace() -> Result<File, DemoError> {
    // SAFETY: NEWNET changes which network the thread's later system calls see; no memory and no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|errno| DemoError::Namespace {
        doing: "make a network namespace",
        source: errno.into(),
    })?;
    // A kernel without IPv6 has no such file, and no need for it.
    let _ = std::fs::write(IPV6_SWITCH, "1");
    own_namespace()
}

/// Puts the thread on every other processor that it may use: two hosts share none, and the scheduler, which likes to run
/// whoever is woken where the waker runs, does not put both replicas on one. Returns where the thread was before.
fn take_processors_of(host: Host) -> Option<CpuSet> {
    let before = sched_getaffinity(None).ok()?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| before.is_set(*cpu))
        .collect();
    if usable.len() < Host::ALL.len() {
        return None;
    }
    let mut own = CpuSet::new();
    let first = usize::from(host.number()) - 1;
    for cpu in usable.into_iter().skip(first).step_by(Host::ALL.len()) {
        own.set(cpu);
    }
    sched_setaffinity(None, &own).ok()?;
    Some(before)
}

fn own_namespace() -> Result<File, DemoError> {
    File::open(OWN_NAMESPACE).map_err(|source| DemoError::Namespace {
        doing: "open this thread's network namespace",
        source,
    })
}

fn move_into(namespace: &File) -> Result<(), DemoError> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
        |errno| DemoError::Namespace {
            doing: "move into a network namespace",
            source: errno.into(),
        },
    )
}

/// On the way out. Where it fails the thread stays in a network of which nothing works, which does the host's no harm.
fn leave_for(namespace: &File) {
    let _ = move_into(namespace);
}

/// Runs `ip` commands, one a line, in the thread's namespace.
fn ip(doing: &'static str, script: &str) -> Result<(), DemoError> {
    let output = run_ip(script).map_err(|source| match source.kind() {
        ErrorKind::NotFound => DemoError::NoIpCommand { source },
        _ => DemoError::Network {
            doing,
            said: source.to_string(),
        },
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(DemoError::Network { doing, said })
}

fn run_ip(script: &str) -> std::io::Result<Output> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ip.spawn()?;
    let written = child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(script.as_bytes());
    // An `ip` that stops reading says why on its standard error.
    let output = child.wait_with_output()?;
    if output.status.success() {
        written.map(|()| output)
    } else {
        Ok(output)
    }
}
