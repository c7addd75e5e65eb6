//! From disks as the user describes them to disks that a machine can use.
//!
//! ```text
//!  DiskSpec ──► opened on the host ──► DiskConfig (the machine's) and Disk (the session's)
//!                     └─ private: its generation, from the copy's sidecar
//! ```

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arbiter::{ArbiterError, Identity};

use super::{
    disk_config::{DiskConfig, DiskSharing, Reads},
    disk_fault::DiskFault,
    disk_spec::{DiskSpec, Place, Sharing},
    disks::{Disk, Disks, Sink},
    replica::Ending,
    reports::Reporter,
};
use crate::{
    devices::BlockConfig,
    host::disk::{
        DiskSink, Grant, HostDisk,
        copy::{CopyError, PrivateCopy, sidecar},
        file::{DiskOpenError, FileDisk, FileOptions, LockPolicy},
        nbd::{NbdDisk, NbdError},
    },
    inputs::apart::Apart,
    machine::layout::MAX_DISKS,
};

/// Who will use the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskUser {
    /// A machine alone.
    Alone,
    /// A pair's primary.
    Primary,
    /// A pair's backup.
    Backup,
}

/// Disks cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDisksError {
    /// There are too many.
    #[error("{count} disks are too many: a machine has at most {MAX_DISKS}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// See [`DiskOpenError`].
    #[error(transparent)]
    File(#[from] DiskOpenError),
    /// See [`NbdError`].
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// See [`CopyError`].
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A copy of a replica's own is to be used as something else.
    #[error(
        "{path} is a replica's own copy, as {sidecar} beside it says: give private, or, if it is to be nothing but an image from now on, delete that file",
        path = path.display(), sidecar = sidecar.display()
    )]
    IsPrivate {
        /// The image.
        path: PathBuf,
        /// What says so.
        sidecar: PathBuf,
    },
    /// Somebody else has one of them.
    #[error("Cannot use the disk: {0}")]
    Grant(String),
    /// The host has no randomness.
    #[error(transparent)]
    Identity(#[from] ArbiterError),
}

/// The bookkeeping of copies of one's own: when they are in use, and what they are afterwards.
#[derive(Default)]
pub struct Copies {
    copies: Mutex<Vec<PrivateCopy>>,
}

impl Copies {
    fn each(
        &self,
        change: impl FnMut(&mut PrivateCopy) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        self.lock().iter_mut().try_for_each(change)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PrivateCopy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest of this pair, named by its session, may change them from now on.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn begin(&self, pair: u64) -> Result<(), CopyError> {
        self.each(|copy| copy.begin(pair))
    }

    /// The guest ended, with both replicas alive.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn end_together(&self, pair: u64, ending: &Ending) -> Result<(), CopyError> {
        // The same on both replicas, and on no others.
        let mut end = [0; 8];
        end.copy_from_slice(&ending.digest.0[..8]);
        self.each(|copy| copy.end_together(pair, u64::from_le_bytes(end)))
    }

    /// The other replica is gone: its copies are stale from now on.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn go_on_alone(&self, identity: Identity) -> Result<(), CopyError> {
        self.each(|copy| copy.go_on_alone(identity.to_bytes()))
    }

    /// The guest ended on this replica alone.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn end_alone(&self) -> Result<(), CopyError> {
        self.each(PrivateCopy::end_alone)
    }
}

/// A machine's disks, opened.
pub struct OpenDisks {
    /// What the machine is made with.
    pub configs: Vec<DiskConfig>,
    /// What its session uses.
    pub disks: Arc<Disks>,
}

impl OpenDisks {
    /// Opens them. A machine alone may change them from now on; a replica of a pair, once it is granted that.
    ///
    /// # Errors
    /// See [`OpenDisksError`].
    pub fn open(
        specs: &[DiskSpec],
        user: DiskUser,
        reporter: &Reporter,
        fault: Option<DiskFault>,
    ) -> Result<Self, OpenDisksError> {
        let count = specs.len();
        if count > MAX_DISKS {
            return Err(OpenDisksError::TooMany { count });
        }
        let sink = Sink::new(reporter.clone(), fault);
        let mut configs = Vec::new();
        let mut disks = Vec::new();
        let mut copies = Vec::new();
        for (number, spec) in (0_u8..).zip(specs) {
            let host = open(number, spec, user, Arc::clone(&sink) as Arc<dyn DiskSink>)?;
            let (sharing, apart) = match copy_of(spec)? {
                Some(copy) => {
                    let generation = copy.generation().to_string();
                    if !spec.read_only {
                        copies.push(copy);
                    }
                    (DiskSharing::Private { copy: generation }, Apart::Everything)
                }
                None => shared(spec),
            };
            // Whoever runs alone records everything: nobody else does anything for himself.
            let (sharing, apart) = match user {
                DiskUser::Alone => (DiskSharing::Shared { reads: Reads::Log }, Apart::Nothing),
                DiskUser::Primary | DiskUser::Backup => (sharing, apart),
            };
            let id = spec.id.clone();
            configs.push(DiskConfig {
                block: BlockConfig {
                    sectors: host.sectors(),
                    read_only: spec.read_only,
                    id: id.unwrap_or_else(|| format!("lockstep-{number}")),
                },
                sharing,
            });
            disks.push(Disk {
                host,
                apart,
                read_only: spec.read_only,
            });
        }
        let copies = Copies {
            copies: Mutex::new(copies),
        };
        let opened = Self {
            configs,
            disks: Disks::new(disks, copies, sink),
        };
        if user == DiskUser::Alone {
            let identity = Identity::random()?;
            let granted = opened.disks.grant(Grant::Alone { identity });
            granted.map_err(OpenDisksError::Grant)?;
            opened.disks.copies().begin(0)?;
            opened.disks.copies().go_on_alone(identity)?;
        }
        Ok(opened)
    }
}

fn open(
    number: u8,
    spec: &DiskSpec,
    user: DiskUser,
    sink: Arc<dyn DiskSink>,
) -> Result<Box<dyn HostDisk>, OpenDisksError> {
    Ok(match &spec.place {
        Place::File(path) => {
            let lock = match user {
                DiskUser::Alone | DiskUser::Primary => LockPolicy::Must,
                // A shared disk's lock may still be held by a primary that was only stopped: plain files do not fence.
                DiskUser::Backup if spec.sharing == Sharing::Private => LockPolicy::Must,
                DiskUser::Backup => LockPolicy::Try,
            };
            let options = FileOptions {
                read_only: spec.read_only,
                lock,
                ..FileOptions::default()
            };
            Box::new(FileDisk::open(number, path, options, sink)?)
        }
        Place::Nbd(address) => {
            Box::new(NbdDisk::open(number, address.clone(), spec.timeout, sink)?)
        }
    })
}

fn shared(spec: &DiskSpec) -> (DiskSharing, Apart) {
    let reads = match spec.sharing {
        Sharing::Shared(reads) => reads,
        Sharing::Private => Reads::Log,
    };
    let apart = match reads {
        Reads::Log => Apart::Nothing,
        Reads::SelfRead => Apart::Reads,
    };
    (DiskSharing::Shared { reads }, apart)
}

/// The bookkeeping of a private disk.
fn copy_of(spec: &DiskSpec) -> Result<Option<PrivateCopy>, OpenDisksError> {
    let Place::File(path) = &spec.place else {
        return Ok(None);
    };
    if spec.sharing == Sharing::Private {
        return Ok(Some(PrivateCopy::open(path)?));
    }
    let sidecar = sidecar(path);
    if sidecar.exists() {
        let path = path.clone();
        return Err(OpenDisksError::IsPrivate { path, sidecar });
    }
    Ok(None)
}
