//! TAP network interfaces: the guest's frames on the host's network (Linux, `Documentation/networking/tuntap.rst`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Updater, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::HostError;

/// An Ethernet address.
pub type MacAddress = [u8; 6];

// linux/if_tun.h, linux/sockios.h, linux/if.h.
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_UP: u16 = 0x0001;
/// `IFNAMSIZ`, the final NUL included.
const NAME_SIZE: usize = 16;

/// Ethernet's reverse ARP (RFC 903).
const ETHERTYPE_RARP: u16 = 0x8035;
/// Ethernet's shortest frame, without checksum.
const FRAME_MIN: usize = 60;

/// A TAP interface that this process is attached to. Reading and writing never block.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Attaches to the TAP interface `name`, creates it if it is not there, and brings its link up.
    /// An interface that is created here vanishes with the [`Tap`].
    ///
    /// # Errors
    ///
    /// A [`HostError`] that tells whether name, device, permission or another user of the tap is in the way.
    pub fn open(name: &str) -> Result<Self, HostError> {
        check_name(name)?;
        let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open("/dev/net/tun")
            .map_err(|source| HostError::TapDevice {
                name: name.into(),
                hint: device_hint(&source),
                source,
            })?;
        attach(&file, name).map_err(|errno| HostError::TapAttach {
            name: name.into(),
            hint: attach_hint(errno),
            source: errno.into(),
        })?;
        bring_up(name).map_err(|errno| HostError::TapUp {
            name: name.into(),
            source: errno.into(),
        })?;
        Ok(Self {
            file,
            name: name.into(),
        })
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next frame that the network has for the guest, and its length; `None` if there is none yet. What does not
    /// fit into `frame` is cut off.
    ///
    /// # Errors
    ///
    /// What the system says, for example that the interface was removed.
    pub fn read_frame(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.file, &mut *frame)) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a frame: 14 bytes of Ethernet header at least, no checksum.
    ///
    /// # Errors
    ///
    /// What the system says: the frame is too short or too long, the link is down, or it cannot take more just now.
    pub fn write_frame(&self, frame: &[u8]) -> io::Result<()> {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.file, frame))?;
        // The driver takes a frame as a whole or not at all.
        debug_assert_eq!(written, frame.len());
        Ok(())
    }

    /// Tells the network that `mac` lives here now. One announcement may be lost: callers repeat it.
    ///
    /// # Errors
    ///
    /// As [`Self::write_frame`].
    pub fn announce(&self, mac: MacAddress) -> io::Result<()> {
        self.write_frame(&rarp_announcement(mac))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// A broadcast from `mac` that makes bridges and switches relearn where it lives. A reverse ARP request (RFC 903) names no
/// IP address, so it is right for any guest; other hypervisors send the same after a migration.
#[must_use]
pub fn rarp_announcement(mac: MacAddress) -> [u8; FRAME_MIN] {
    let mut frame = [0; FRAME_MIN];
    frame[0..6].fill(0xFF);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE_RARP.to_be_bytes());
    // Hardware Ethernet, protocol IPv4, address lengths 6 and 4, operation 3 ("request reverse").
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&mac);
    frame[32..38].copy_from_slice(&mac);
    frame
}

fn check_name(name: &str) -> Result<(), HostError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let usable = (1..NAME_SIZE).contains(&name.len())
        && name.bytes().all(allowed)
        && name != "."
        && name != "..";
    match usable {
        true => Ok(()),
        false => Err(HostError::TapName { name: name.into() }),
    }
}

/// `struct ifreq` (netdevice(7)) as the calls here use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    flags: u16,
    /// The rest of the union, whose largest member has 24 bytes.
    rest: [u8; 22],
}

impl InterfaceRequest {
    fn new(name: &str, flags: u16) -> Self {
        let mut request = Self {
            name: [0; NAME_SIZE],
            flags,
            rest: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        request
    }
}

fn attach(file: &File, name: &str) -> rustix::io::Result<()> {
    interface_ioctl::<TUNSETIFF>(
        file.as_fd(),
        &mut InterfaceRequest::new(name, IFF_TAP | IFF_NO_PI),
    )?;
    // A lasting tap may remember what its last user could do; without this, frames with unfinished
    // checksums could arrive.
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of this process.
    unsafe { rustix::ioctl::ioctl(file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(0)) }
}

fn bring_up(name: &str) -> rustix::io::Result<()> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = InterfaceRequest::new(name, 0);
    interface_ioctl::<SIOCGIFFLAGS>(socket.as_fd(), &mut request)?;
    if request.flags & IFF_UP != 0 {
        return Ok(());
    }
    request.flags |= IFF_UP;
    interface_ioctl::<SIOCSIFFLAGS>(socket.as_fd(), &mut request)
}

/// One of the three calls above that take a `struct ifreq`.
fn interface_ioctl<const OPCODE: Opcode>(
    fd: BorrowedFd,
    request: &mut InterfaceRequest,
) -> rustix::io::Result<()> {
    const { assert!(size_of::<InterfaceRequest>() == 40) };
    const { assert!(matches!(OPCODE, TUNSETIFF | SIOCGIFFLAGS | SIOCSIFFLAGS)) };
    // SAFETY: the three calls read and write a `struct ifreq`, 40 bytes, which `InterfaceRequest` is laid out as;
    // any bytes are valid in it, and it outlives the call.
    unsafe { rustix::ioctl::ioctl(fd, Updater::<OPCODE, _>::new(request)) }
}

fn device_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "load the driver with `modprobe tun`, or give the container the device"
        }
        io::ErrorKind::PermissionDenied => "run as root, or as a user who may read and write it",
        _ => "is the tun driver there?",
    }
}

fn attach_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => {
            "run as root, or make a tap for this user with `ip tuntap add NAME mode tap user USER`"
        }
        Errno::BUSY => "another process uses it, perhaps a guest that is still running",
        Errno::INVAL => {
            "an interface of this name exists and is not a tap for one user; choose another name or remove it"
        }
        _ => "see the cause",
    }
}

#[cfg(test)]
#[path = "tap_tests.rs"]
mod tests;
