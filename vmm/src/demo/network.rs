//! A network for one pair: a namespace that the calling thread moves into, with a bridge and two taps.
//!
//! Nothing of it can stay behind: the kernel removes all of it when the last process in it has ended.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    marker::PhantomData,
    net::Ipv4Addr,
    os::fd::AsFd,
    process::{Command, Output, Stdio},
};

use rustix::{
    process::geteuid,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::DemoError;

/// The client's address, on the bridge.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// The guest's address.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// The primary's tap.
pub const PRIMARY_TAP: &str = "tap-primary";
/// The backup's tap.
pub const BACKUP_TAP: &str = "tap-backup";

/// The calling thread's namespace. A process's may differ from thread to thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// Without IPv6 the bridge sends nothing by itself, so that the guest's inputs are the client's.
const IPV6_SWITCH: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// A network namespace that the thread is in until this is dropped; then it moves back to where it was.
///
/// Sockets that the thread makes meanwhile, and processes that it starts, belong to the namespace.
#[derive(Debug)]
pub struct Network {
    before: File,
    /// A namespace belongs to a thread.
    not_send: PhantomData<*const ()>,
}

impl Network {
    /// Makes a namespace with a bridge and two taps, and moves the thread into it.
    ///
    /// # Errors
    /// If this is not root, `ip` is missing, or the kernel refuses.
    pub fn enter() -> Result<Self, DemoError> {
        if !geteuid().is_root() {
            return Err(DemoError::NotRoot);
        }
        let failed = |doing| move |source| DemoError::Namespace { doing, source };
        let before =
            File::open(OWN_NAMESPACE).map_err(failed("open this thread's network namespace"))?;
        // SAFETY: NEWNET changes which network the thread's later system calls see; no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|errno| failed("make a network namespace")(errno.into()))?;
        let network = Self {
            before,
            not_send: PhantomData,
        };
        // A kernel without IPv6 has no such file, and no need for it.
        let _ = std::fs::write(IPV6_SWITCH, "1");
        ip("make a bridge and two taps", &set_up_script())?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Where this fails the thread stays in a network of which nothing works, which does no harm to the host's.
        let _ = move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Network));
    }
}

/// The bridge has an address of its own: otherwise it changes with every tap that is added, and the guest loses the client.
fn set_up_script() -> String {
    let mut script = format!(
        "link set lo up\n\
         link add name bridge address 52:54:00:6c:73:00 type bridge stp_state 0 forward_delay 0\n\
         address add {CLIENT_ADDRESS}/24 dev bridge\n\
         link set bridge up\n"
    );
    for tap in [PRIMARY_TAP, BACKUP_TAP] {
        script += &format!("tuntap add {tap} mode tap\nlink set {tap} master bridge up\n");
    }
    script
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
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
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
