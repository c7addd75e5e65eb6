//! Whole disks on real files, with each backend, through the page cache and without it.

mod devices;
mod faults;
mod locks;
mod model;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use super::*;
use crate::{
    effect::DiskRequest,
    host::disk::{DiskCompletion, DiskError, DiskEvent},
};

const SECTOR: usize = SECTOR_BYTES as usize;

/// All ways in which this host can use an image: the threads, and the ring where the kernel has it.
fn ways() -> impl Iterator<Item = (Backend, Direct)> {
    let mut backends = vec![Backend::Threads];
    let folder = folder();
    let path = folder.path().join("probe");
    std::fs::write(&path, [0; SECTOR]).unwrap();
    let options = FileOptions {
        backend: Backend::Ring,
        ..FileOptions::default()
    };
    match FileDisk::open(0, &path, options, Arc::<Collector>::default()) {
        Ok(_) => backends.push(Backend::Ring),
        Err(DiskOpenError::Ring { source, .. }) => {
            eprintln!("the kernel refuses io_uring ({source}): the threads alone are tested");
        }
        Err(error) => panic!("{error}"),
    }
    let both = |backend| [(backend, Direct::Off), (backend, Direct::Auto)];
    backends.into_iter().flat_map(both)
}

/// Keeps all that a disk says.
#[derive(Default)]
struct Collector {
    completions: Mutex<Vec<DiskCompletion>>,
    events: Mutex<Vec<DiskEvent>>,
}

impl DiskSink for Collector {
    fn complete(&self, completion: DiskCompletion) {
        self.completions.lock().unwrap().push(completion);
    }

    fn tell(&self, event: DiskEvent) {
        self.events.lock().unwrap().push(event);
    }
}

/// An image in a folder of its own, beside this program: a file system on a disk, where O_DIRECT means something.
struct Rig {
    disk: FileDisk,
    sink: Arc<Collector>,
    path: PathBuf,
    options: FileOptions,
    _folder: TempDir,
}

impl Rig {
    fn new(sectors: usize, (backend, direct): (Backend, Direct)) -> Self {
        let options = FileOptions {
            direct,
            backend,
            ..FileOptions::default()
        };
        Self::with(sectors, options)
    }

    fn with(sectors: usize, options: FileOptions) -> Self {
        let folder = folder();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![0; sectors * SECTOR]).unwrap();
        Self::on(path, folder, options)
    }

    fn on(path: PathBuf, folder: TempDir, options: FileOptions) -> Self {
        let (disk, sink) = open(&path, options);
        Self {
            disk,
            sink,
            path,
            options,
            _folder: folder,
        }
    }

    /// Another user of the same image.
    fn another(&self, lock: LockPolicy) -> FileDisk {
        let options = FileOptions {
            lock,
            ..self.options
        };
        open(&self.path, options).0
    }

    fn submit(&self, id: u64, operation: DiskOperation) {
        self.disk.submit(DiskRequest {
            disk: 3,
            id,
            operation,
        });
    }

    /// All answers so far, each request's one.
    fn answers(&self) -> BTreeMap<u64, Result<Vec<u8>, DiskError>> {
        self.disk.settle();
        let mut answers = BTreeMap::new();
        for completion in self.sink.completions.lock().unwrap().drain(..) {
            assert_eq!(completion.disk, 3);
            let before = answers.insert(completion.request, completion.result);
            assert!(
                before.is_none(),
                "request {} ended twice",
                completion.request
            );
        }
        answers
    }

    /// The answer to this one alone.
    fn ask(&self, operation: DiskOperation) -> Result<Vec<u8>, DiskError> {
        self.submit(77, operation);
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1);
        answers.remove(&77).unwrap()
    }

    fn events(&self) -> Vec<String> {
        let events = std::mem::take(&mut *self.sink.events.lock().unwrap());
        events.iter().map(ToString::to_string).collect()
    }
}

fn folder() -> TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

fn open(path: &Path, options: FileOptions) -> (FileDisk, Arc<Collector>) {
    let sink = Arc::<Collector>::default();
    let disk = FileDisk::open(3, path, options, sink.clone()).unwrap();
    (disk, sink)
}

fn alone() -> Grant {
    Grant::Alone {
        identity: arbiter::Identity::from_bytes([7; 16]),
    }
}

fn read(sector: u64, sectors: usize) -> DiskOperation {
    DiskOperation::Read {
        sector,
        bytes: (sectors * SECTOR) as u32,
    }
}

fn write(sector: u64, fill: u8, sectors: usize) -> DiskOperation {
    DiskOperation::Write {
        sector,
        data: vec![fill; sectors * SECTOR].into(),
    }
}
