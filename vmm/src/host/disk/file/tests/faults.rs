//! What goes wrong with images, and what the user is told of it.

use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

#[test]
fn an_image_that_became_shorter_is_told() {
    for way in ways() {
        let rig = Rig::new(64, way);
        rig.disk.grant(alone()).unwrap();
        let file = File::options().write(true).open(&rig.path).unwrap();
        for bytes in [32 * SECTOR, 31 * SECTOR + 100] {
            file.set_len(bytes as u64).unwrap();
            let error = "the image is shorter than 32768 bytes";
            for operation in [read(63, 1), read(24, 16), read(31, 2)] {
                let what = match &operation {
                    DiskOperation::Read { sector, bytes } => {
                        format!("a read of {bytes} bytes at byte {}", sector * SECTOR_BYTES)
                    }
                    _ => unreachable!(),
                };
                assert_eq!(rig.ask(operation), Err(DiskError::Failed(error.into())));
                let path = rig.path.display();
                let event = format!("disk 3 ({path}): {what} failed: {error}");
                assert_eq!(rig.events(), [event]);
            }
            assert_eq!(rig.ask(read(0, 24)), Ok(vec![0; 24 * SECTOR]));
        }
    }
}

/// In a mount namespace of the thread's own, which ends with it.
#[test]
fn a_full_disk_is_told_and_other_requests_go_on() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts a file system: run it as root"
    );
    let full = || {
        // SAFETY: NEWNS changes what the thread's later system calls find by name; no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
        let folder = folder();
        run(Command::new("mount").args(["--make-rprivate", "/"]));
        let options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        run(Command::new("mount").args(options).arg(folder.path()));
        for way in ways() {
            fill_a_disk(&folder.path().join("image"), way);
        }
        run(Command::new("umount").arg("--lazy").arg(folder.path()));
    };
    std::thread::spawn(full).join().unwrap();
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn fill_a_disk(path: &Path, (backend, direct): (Backend, Direct)) {
    let file = File::create(path).unwrap();
    file.set_len(1 << 20).unwrap();
    let options = FileOptions {
        backend,
        direct,
        ..FileOptions::default()
    };
    let (disk, sink) = open(path, options);
    disk.grant(alone()).unwrap();
    for id in 0..16 {
        let operation = write(id * 128, 1, 128);
        disk.submit(DiskRequest {
            disk: 3,
            id,
            operation,
        });
    }
    disk.settle();
    let completions = std::mem::take(&mut *sink.completions.lock().unwrap());
    assert_eq!(completions.len(), 16);
    let failed = DiskError::Failed("no space left on the host's disk".into());
    let failures = completions
        .iter()
        .filter_map(|one| one.result.as_ref().err());
    let failures: Vec<_> = failures.collect();
    assert!((12..16).contains(&failures.len()), "{failures:?}");
    assert!(failures.iter().all(|error| **error == failed));
    let events = sink.events.lock().unwrap();
    assert_eq!(events.len(), failures.len());
    assert!(
        events[0]
            .to_string()
            .contains("a write of 65536 bytes at byte ")
    );
    // What is there can still be read.
    let good = completions.iter().find(|one| one.result.is_ok()).unwrap();
    disk.submit(DiskRequest {
        disk: 3,
        id: 99,
        operation: read(good.request * 128, 128),
    });
    disk.settle();
    let read = sink.completions.lock().unwrap().pop().unwrap();
    assert_eq!(read.result, Ok(vec![1; 128 * SECTOR]));
}

#[test]
fn a_disk_that_is_dropped_ends_nothing_twice_and_leaves_no_thread() {
    for way in ways() {
        let rig = Rig::new(1024, way);
        rig.disk.grant(alone()).unwrap();
        for id in 0..1024 {
            rig.submit(id, write(id, 1, 1));
        }
        let Rig { disk, sink, .. } = rig;
        drop(disk);
        // Its threads held the others.
        assert_eq!(Arc::strong_count(&sink), 1);
        let completions = sink.completions.lock().unwrap();
        let mut ended: Vec<u64> = completions.iter().map(|one| one.request).collect();
        ended.sort_unstable();
        ended.dedup();
        assert_eq!(ended.len(), completions.len());
        assert!(completions.iter().all(|one| one.result.is_ok()));
    }
}

#[test]
fn what_is_no_disk_is_named() {
    let folder = folder();
    let file = |name: &str, bytes: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![0; bytes]).unwrap();
        path
    };
    let cases = [
        (folder.path().join("none"), "There is no disk image"),
        (folder.path().into(), "is a folder"),
        ("/dev/null".into(), "is a character device"),
        (file("empty", 0), "is empty"),
        (
            file("odd", 700),
            "has 700 bytes, which is no multiple of 512",
        ),
    ];
    for (path, text) in cases {
        let sink = Arc::<Collector>::default();
        let opened = FileDisk::open(0, &path, FileOptions::default(), sink);
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
