//! The disk of a rig's pair: where its images are, who serves them, and how the replicas are told of it.
//!
//! In: a [`RigDisk`]. Out: images, made before anybody uses them, and each replica's `--disk`. What always holds: an image that is there already is used as it is.
//!
//! ```text
//!  File                       Server                               Private
//!   primary ─┐                 primary ─┐                           primary ── primary.img
//!            ├─ shared.img              ├─ disk server ─ shared.img
//!   backup ──┘                 backup ──┘  (and arbiter)            backup ─── backup.img
//! ```

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::{
    DemoError, Host,
    disk_image::{self, FileSystem},
    network::CLIENT_ADDRESS,
};
use crate::session::disk_config::Reads;

/// Where the disk server serves disks, on the client's network.
pub(super) const SERVER_PORT: u16 = 10809;
/// What the server calls the disk.
const SERVED_NAME: &str = "disk";

/// What is on a disk at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskContents {
    /// Nothing but zeros; the file has holes, and takes no room.
    Zeros {
        /// The disk's size, bytes: a multiple of 512.
        bytes: u64,
    },
    /// What is in this image.
    CopyOf(PathBuf),
    /// A file system with nothing in it: the same on both hosts.
    FileSystem {
        /// Which.
        kind: FileSystem,
        /// The disk's size, bytes.
        bytes: u64,
    },
}

/// How the replicas come to their disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAccess {
    /// One image file, which both hosts see. Nobody fences it.
    File {
        /// Who reads.
        reads: Reads,
    },
    /// `lockstep disk-server` on one image. It decides which replica is live, too: the rig has no other arbiter.
    Server {
        /// Who reads.
        reads: Reads,
    },
    /// An image on each host.
    Private,
}

/// A pair's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigDisk {
    /// What is on it at first.
    pub contents: DiskContents,
    /// How the replicas come to it.
    pub access: DiskAccess,
    /// Where its images are, and stay; `None`: with the rig's other files, which go with it.
    pub folder: Option<PathBuf>,
    /// `--disk-fault` of the first primary: what happens to it at a point of a request's way.
    pub primary_fault: Option<String>,
    /// How long its server may be gone before the guest gets I/O errors, seconds; `None`: the default.
    pub timeout_s: Option<u64>,
}

impl RigDisk {
    /// A disk of zeros, with the rig's other files, and without a fault.
    #[must_use]
    pub fn zeros(bytes: u64, access: DiskAccess) -> Self {
        Self {
            contents: DiskContents::Zeros { bytes },
            access,
            folder: None,
            primary_fault: None,
            timeout_s: None,
        }
    }

    /// Whether a disk server is needed.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.access, DiskAccess::Server { .. })
    }

    /// The image that `host` sees, in a rig whose own files are in `rig_folder`.
    pub(super) fn image(&self, rig_folder: &Path, host: Host) -> PathBuf {
        let name = match (self.access, host) {
            (DiskAccess::File { .. } | DiskAccess::Server { .. }, _) => "shared.img",
            (DiskAccess::Private, Host::Primary) => "primary.img",
            (DiskAccess::Private, Host::Backup) => "backup.img",
        };
        self.folder.as_deref().unwrap_or(rig_folder).join(name)
    }

    /// Makes the images that are not there.
    pub(super) fn make_images(&self, rig_folder: &Path) -> Result<(), DemoError> {
        let mut first = None;
        for host in [Host::Primary, Host::Backup] {
            let path = self.image(rig_folder, host);
            if !path.exists() {
                self.make(&path, first.as_deref())?;
            }
            first.get_or_insert(path);
        }
        Ok(())
    }

    /// Makes the image at `path`, when the other host's, if that is another, is at `first` already.
    fn make(&self, path: &Path, first: Option<&Path>) -> Result<(), DemoError> {
        let made = match (&self.contents, first) {
            (DiskContents::Zeros { bytes }, _) => {
                create(path).and_then(|image| image.set_len(*bytes))
            }
            (DiskContents::CopyOf(original), _) => copy(original, path),
            // Two that are made are two: each has an identifier of its own.
            (DiskContents::FileSystem { .. }, Some(first)) => copy(first, path),
            (DiskContents::FileSystem { kind, bytes }, None) => {
                return disk_image::make(path, *kind, *bytes);
            }
        };
        made.map_err(|source| DemoError::File {
            doing: "make the disk's image",
            path: path.to_owned(),
            source,
        })
    }

    /// The value of `host`'s `--disk`.
    pub(super) fn option(&self, rig_folder: &Path, host: Host) -> String {
        let image = self.image(rig_folder, host);
        let image = image.display();
        match self.access {
            DiskAccess::File { reads } => format!("{image},reads={}", reads_name(reads)),
            DiskAccess::Server { reads } => {
                let timeout = self.timeout_s.map(|seconds| format!(",timeout={seconds}"));
                format!(
                    "nbd://{CLIENT_ADDRESS}:{SERVER_PORT}/{SERVED_NAME},reads={}{}",
                    reads_name(reads),
                    timeout.unwrap_or_default()
                )
            }
            DiskAccess::Private => format!("{image},private"),
        }
    }

    /// What the disk server is told to serve.
    pub(super) fn export(&self, rig_folder: &Path) -> String {
        // The server's host sees what both replicas' do.
        let image = self.image(rig_folder, Host::Primary);
        format!("{SERVED_NAME}={}", image.display())
    }
}

/// How the replicas come to it.
impl fmt::Display for RigDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.access {
            DiskAccess::File { reads } => write!(f, "in one file, reads={}", reads_name(reads)),
            DiskAccess::Server { reads } => {
                write!(f, "on a disk server, reads={}", reads_name(reads))
            }
            DiskAccess::Private => f.write_str("a copy each"),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn copy(original: &Path, path: &Path) -> io::Result<()> {
    io::copy(&mut File::open(original)?, &mut create(path)?).map(drop)
}

fn reads_name(reads: Reads) -> &'static str {
    match reads {
        Reads::Log => "log",
        Reads::SelfRead => "self",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_share_one_image_or_have_one_each() {
        let folder = Path::new("/rig");
        let options = |access| {
            let disk = RigDisk::zeros(512, access);
            [Host::Primary, Host::Backup].map(|host| disk.option(folder, host))
        };
        let reads = Reads::SelfRead;
        let [primary, backup] = options(DiskAccess::File { reads });
        assert_eq!(primary, "/rig/shared.img,reads=self");
        assert_eq!(primary, backup);
        let [primary, backup] = options(DiskAccess::Server { reads: Reads::Log });
        assert_eq!(primary, "nbd://172.31.0.1:10809/disk,reads=log");
        assert_eq!(primary, backup);
        assert_eq!(
            options(DiskAccess::Private),
            ["/rig/primary.img,private", "/rig/backup.img,private"]
        );
    }

    #[test]
    fn an_image_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = RigDisk::zeros(4096, DiskAccess::Private);
        disk.make_images(folder.path()).expect("made");
        let image = disk.image(folder.path(), Host::Backup);
        assert_eq!(std::fs::read(&image).expect("an image"), vec![0; 4096]);
        std::fs::write(&image, b"used").expect("written");
        disk.make_images(folder.path()).expect("made");
        assert_eq!(std::fs::read(&image).expect("an image"), b"used");

        disk.access = DiskAccess::File { reads: Reads::Log };
        disk.contents = DiskContents::CopyOf(image);
        disk.make_images(folder.path()).expect("made");
        let copy = disk.image(folder.path(), Host::Primary);
        assert_eq!(std::fs::read(copy).expect("an image"), b"used");
    }

    #[test]
    fn private_file_systems_are_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RigDisk {
            contents: DiskContents::FileSystem {
                kind: FileSystem::Ext4,
                bytes: 8 << 20,
            },
            ..RigDisk::zeros(0, DiskAccess::Private)
        };
        disk.make_images(folder.path()).expect("made");
        let images = [Host::Primary, Host::Backup].map(|host| disk.image(folder.path(), host));
        images
            .iter()
            .for_each(|image| disk_image::check(image).expect("clean"));
        let [primary, backup] = images.map(|image| std::fs::read(image).expect("an image"));
        assert!(primary == backup, "they differ");
    }
}
