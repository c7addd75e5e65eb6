//! A disk that is not shared: each replica has a copy of its own (`--disk PATH,private`), and the copies are only worth something while they are equal.
//!
//! In: an image, and what happens to the machine that changes it. Out: the copy's [generation](PrivateCopy::generation), which both replicas compare before they become a
//! pair, or that it is stale. A *sidecar*, `PATH.lockstep`, keeps both; the image itself is only read here.
//!
//! ```text
//!             begin(pair)               end_together(pair, end_seq): the same new generation in both copies
//!     clean ──────────────► together ─────────────────────────────────────────────────────────────────────► clean
//!       │                      │ go_on_alone(identity): a new generation that no other copy has
//!       │                      ▼               end_alone()
//!       └─ go_on_alone ────► alone ───────────────────────────────────────────────────────────────────────► clean
//!
//!     opened while together or alone: stale, as nobody knows how far its replica had come
//! ```
//!
//! What always holds, wherever a replica or its host stops:
//! - Two copies that are clean and of one generation have the same content, if nobody else changes images. (An image that grew or shrank is noticed.)
//! - A sidecar says that the image is in use before the guest may change it, and that it is clean only when what the guest wrote is on the storage.
//! - A sidecar is replaced as a whole: the new one is written beside it, forced to the storage, and renamed.
//!
//! Without a sidecar the generation is the BLAKE3 digest of the image: equal images begin equal. So deleting a sidecar never lets two different copies form a pair;
//! it only takes back the warning that a copy is stale. A sidecar in `/dev`, beside a block device, is lost at the host's next start, with the same effect.
//!
//! Nothing here keeps two processes off one image: its lock does ([`super::file`]), so the disk is granted first, and the copy opened then.

mod record;

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use logging_channel::Digest;

use self::record::{Record, RecordFault, State};

/// A replica's own copy of a disk: an image and its sidecar.
#[derive(Debug)]
pub struct PrivateCopy {
    image: PathBuf,
    sidecar: PathBuf,
    record: Record,
}

/// Why a copy cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The image cannot be read.
    #[error("Cannot read the private copy {image:?}")]
    Image {
        /// The image.
        image: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sidecar cannot be read.
    #[error("Cannot read {sidecar:?}, which says whether the private copy beside it is good")]
    Read {
        /// The sidecar.
        sidecar: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sidecar cannot be written.
    #[error(
        "Cannot write {sidecar:?}, which has to say who uses the private copy beside it: put the image into a folder that can be written to, with some space left"
    )]
    Write {
        /// The sidecar.
        sidecar: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its replica has not ended with the machine.
    #[error(
        "The private copy {image:?} is stale: it was in use by {user}, which failed, was killed, or still runs. Copy the survivor's image and its sidecar over {image:?} and {sidecar:?}; or, if this is the only good copy, delete {sidecar:?}"
    )]
    Stale {
        /// The image.
        image: PathBuf,
        /// Its sidecar.
        sidecar: PathBuf,
        /// Who used it, such as `a replica of pair 7`.
        user: String,
    },
    /// The sidecar is no record.
    #[error(
        "{sidecar:?} is damaged, so nobody knows whether the private copy {image:?} is good: copy another's image and sidecar over them; or, if this is the only good copy, delete {sidecar:?}"
    )]
    Damaged {
        /// The image.
        image: PathBuf,
        /// Its sidecar.
        sidecar: PathBuf,
    },
    /// Another version of lockstep wrote the sidecar.
    #[error(
        "{sidecar:?} is of version {version}, and this lockstep knows version 1: use the lockstep that wrote it"
    )]
    Version {
        /// The sidecar.
        sidecar: PathBuf,
        /// Its version.
        version: String,
    },
    /// Somebody else changed the image.
    #[error(
        "The private copy {image:?} has {bytes} bytes and had {expected} when it was last used: if it was changed on purpose, change all copies alike and delete {sidecar:?} and the other copies' sidecars"
    )]
    Size {
        /// The image.
        image: PathBuf,
        /// Its sidecar.
        sidecar: PathBuf,
        /// Its size.
        bytes: u64,
        /// What the sidecar says.
        expected: u64,
    },
}

impl PrivateCopy {
    /// The copy whose image is at `path`. Changes nothing. Without a sidecar the whole image is read.
    ///
    /// # Errors
    ///
    /// [`CopyError`]: it is stale, its sidecar is damaged or of another version, or a file cannot be read.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        let image = path.to_owned();
        let sidecar = sidecar(path);
        let bytes = size_of_image(&image)?;
        let record = match fs::read(&sidecar) {
            Ok(text) => checked(&image, &sidecar, bytes, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Record::first(bytes, digest_of_image(&image)?)
            }
            Err(source) => return Err(CopyError::Read { sidecar, source }),
        };
        Ok(Self {
            image,
            sidecar,
            record,
        })
    }

    /// Names the copy's content. Two copies of one generation are equal, and may become a pair's.
    #[must_use]
    pub fn generation(&self) -> Digest {
        self.record.generation
    }

    /// A replica of `pair` is about to change the image. Until this has returned the guest must not.
    ///
    /// # Errors
    ///
    /// [`CopyError::Write`]: the guest must not begin.
    ///
    /// # Panics
    ///
    /// Where the copy is in use already.
    pub fn begin(&mut self, pair: u64) -> Result<(), CopyError> {
        self.save(self.record.begin(pair))
    }

    /// The guest ended behind entry `end_seq` while both replicas were there, and both have executed all before: their copies are equal and get the same new generation.
    /// Nothing is under way on the disk any more.
    ///
    /// # Errors
    ///
    /// [`CopyError::Image`] or [`CopyError::Write`]: the copy may be stale.
    ///
    /// # Panics
    ///
    /// Where the copy is not in use by this pair.
    pub fn end_together(&mut self, pair: u64, end_seq: u64) -> Result<(), CopyError> {
        let ended = self.record.end_together(pair, end_seq);
        self.force_image()?;
        self.save(ended)
    }

    /// From now on no other copy changes with this one: the other replica is gone, or there never was one. `identity` is this run's, and no other's.
    ///
    /// # Errors
    ///
    /// [`CopyError::Write`]: the copy is still in use as it was before.
    ///
    /// # Panics
    ///
    /// Where it goes on alone already.
    pub fn go_on_alone(&mut self, identity: [u8; 16]) -> Result<(), CopyError> {
        self.save(self.record.go_on_alone(identity))
    }

    /// The guest ended, after [`Self::go_on_alone`]. Nothing is under way on the disk any more.
    ///
    /// # Errors
    ///
    /// As [`Self::end_together`].
    ///
    /// # Panics
    ///
    /// Where it did not go on alone.
    pub fn end_alone(&mut self) -> Result<(), CopyError> {
        let ended = self.record.end_alone();
        self.force_image()?;
        self.save(ended)
    }

    /// Has all that was written to the image last, whoever wrote it (fdatasync(2)).
    fn force_image(&self) -> Result<(), CopyError> {
        let forced = File::open(&self.image).and_then(|image| image.sync_data());
        forced.map_err(|source| CopyError::Image {
            image: self.image.clone(),
            source,
        })
    }

    /// Replaces the sidecar. If that fails the old one counts, here and there.
    fn save(&mut self, record: Record) -> Result<(), CopyError> {
        replace(&self.sidecar, record.encode().as_bytes()).map_err(|source| CopyError::Write {
            sidecar: self.sidecar.clone(),
            source,
        })?;
        self.record = record;
        Ok(())
    }
}

/// The file beside an image that makes it a replica's own copy.
#[must_use]
pub fn sidecar(image: &Path) -> PathBuf {
    with_suffix(image, ".lockstep")
}

/// The record of a sidecar that lets its image, of `bytes`, be used.
fn checked(image: &Path, sidecar: &Path, bytes: u64, text: &[u8]) -> Result<Record, CopyError> {
    let (image, sidecar) = (image.to_owned(), sidecar.to_owned());
    let record = match Record::decode(text) {
        Ok(record) => record,
        Err(RecordFault::Version(version)) => return Err(CopyError::Version { sidecar, version }),
        Err(RecordFault::Damaged) => return Err(CopyError::Damaged { image, sidecar }),
    };
    let user = match record.state {
        State::Clean if record.bytes == bytes => return Ok(record),
        State::Clean => {
            return Err(CopyError::Size {
                image,
                sidecar,
                bytes,
                expected: record.bytes,
            });
        }
        State::Together { pair } => format!("a replica of pair {pair}"),
        State::Alone => "a machine alone".into(),
    };
    Err(CopyError::Stale {
        image,
        sidecar,
        user,
    })
}

fn size_of_image(image: &Path) -> Result<u64, CopyError> {
    // Of block devices too, whose metadata say 0.
    let size = File::open(image).and_then(|mut file| file.seek(SeekFrom::End(0)));
    size.map_err(|source| CopyError::Image {
        image: image.into(),
        source,
    })
}

fn digest_of_image(image: &Path) -> Result<Digest, CopyError> {
    let mut hasher = blake3::Hasher::new();
    let read = File::open(image).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.map_err(|source| CopyError::Image {
        image: image.into(),
        source,
    })?;
    Ok(Digest::from_hash(&hasher.finalize()))
}

/// Puts a file with this content in the place of `path`: whoever looks, also after a loss of power, finds the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match File::open(folder)?.sync_all() {
        // Some network file systems have nothing to flush in a folder, and say so.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
