//! A disk as the user describes it: `PATH[,ro][,id=NAME][,reads=log|self][,private][,timeout=SECONDS]`, or an address in place of the path.
//!
//! In: the text. Out: a [`DiskSpec`], or what is wrong with it. A path with a comma in it cannot be given.

use std::{path::PathBuf, str::FromStr, time::Duration};

use super::disk_config::Reads;
use crate::host::disk::nbd::NbdAddress;

/// How long a server may be gone before the guest gets I/O errors, seconds.
pub const DEFAULT_TIMEOUT_S: u64 = 60;

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A raw image, or a block device.
    File(PathBuf),
    /// A server.
    Nbd(NbdAddress),
}

/// How a disk is shared by the replicas of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Both see the same disk; who reads what.
    Shared(Reads),
    /// Each has a copy of its own.
    Private,
}

/// A disk, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Where it is.
    pub place: Place,
    /// Nothing may be changed on it.
    pub read_only: bool,
    /// What the guest is told as its identification; at most 20 bytes of ASCII without spaces.
    pub id: Option<String>,
    /// How it is shared.
    pub sharing: Sharing,
    /// How long a server may be gone before the guest gets I/O errors.
    pub timeout: Duration,
}

impl FromStr for DiskSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let place = place(parts.next().unwrap_or_default())?;
        let mut spec = Self {
            place,
            read_only: false,
            id: None,
            sharing: Sharing::Shared(Reads::Log),
            timeout: Duration::from_secs(DEFAULT_TIMEOUT_S),
        };
        let mut reads = None;
        for option in parts {
            match option.split_once('=') {
                None if option == "ro" => spec.read_only = true,
                None if option == "private" => spec.sharing = Sharing::Private,
                Some(("id", id)) => spec.id = Some(check_id(id)?),
                Some(("reads", "log")) => reads = Some(Reads::Log),
                Some(("reads", "self")) => reads = Some(Reads::SelfRead),
                Some(("timeout", seconds)) => spec.timeout = seconds_of(seconds)?,
                _ => {
                    return Err(format!(
                        "{option:?} is no option of a disk; there are ro, id=NAME, reads=log, reads=self, private, timeout=SECONDS"
                    ));
                }
            }
        }
        match (reads, spec.sharing, &spec.place) {
            (Some(_), Sharing::Private, _) => {
                Err("private and reads= exclude each other: of a copy of its own each replica reads for itself".to_owned())
            }
            (_, Sharing::Private, Place::Nbd(_)) => {
                Err("a server's disk is shared: private is for a file of each replica's own".to_owned())
            }
            (Some(reads), _, _) => Ok(Self { sharing: Sharing::Shared(reads), ..spec }),
            (None, _, _) => Ok(spec),
        }
    }
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "" => Err("give the path of an image, or nbd://HOST:PORT/NAME".to_owned()),
        address if address.starts_with("nbd://") => address
            .parse()
            .map(Place::Nbd)
            .map_err(|error| error.to_string()),
        path => Ok(Place::File(path.into())),
    }
}

fn check_id(id: &str) -> Result<String, String> {
    let plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && (1..=20).contains(&id.len()) {
        Ok(id.to_owned())
    } else {
        Err(format!(
            "{id:?} identifies no disk: give 1 to 20 ASCII characters without spaces"
        ))
    }
}

fn seconds_of(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is no timeout: give seconds, 1 to 86400"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_read_and_refused() {
        let plain: DiskSpec = "/images/root.img".parse().expect("a path");
        assert_eq!(plain.place, Place::File("/images/root.img".into()));
        assert_eq!(plain.sharing, Sharing::Shared(Reads::Log));
        assert_eq!((plain.read_only, &plain.id), (false, &None));
        let full: DiskSpec = "a,ro,id=root,reads=self,timeout=5".parse().expect("a disk");
        assert!(full.read_only);
        assert_eq!(full.id.as_deref(), Some("root"));
        assert_eq!(full.sharing, Sharing::Shared(Reads::SelfRead));
        assert_eq!(full.timeout, Duration::from_secs(5));
        let private: DiskSpec = "a,private".parse().expect("a disk");
        assert_eq!(private.sharing, Sharing::Private);
        let server: DiskSpec = "nbd://[::1]:10809/root".parse().expect("an address");
        assert!(matches!(server.place, Place::Nbd(_)));
        for bad in [
            "",
            ",ro",
            "a,rw",
            "a,id=",
            "a,id=with space",
            "a,id=123456789012345678901",
            "a,reads=both",
            "a,private,reads=log",
            "a,timeout=0",
            "nbd://host",
            "nbd://host:1/a,private",
        ] {
            assert!(bad.parse::<DiskSpec>().is_err(), "{bad}");
        }
    }
}
