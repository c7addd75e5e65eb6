//! Who may change an image.

use std::os::fd::AsRawFd;

use rustix::fs::{FlockOperation, fcntl_lock};

use super::*;

#[test]
fn opening_locks_nothing_and_a_grant_excludes_others() {
    for way in ways() {
        let rig = Rig::new(8, way);
        let another = rig.another(LockPolicy::Must);
        rig.disk.grant(alone()).unwrap();
        // A backup opens what its primary uses.
        let backup = rig.another(LockPolicy::Try);
        let refused = another.grant(alone()).unwrap_err();
        assert!(refused.contains("is locked by another process: is it another machine's disk?"));
        assert!(refused.contains("image"), "{refused}");
        backup.grant(alone()).unwrap();
        // Again, and in another name, is no news.
        rig.disk.grant(alone()).unwrap();
        rig.disk.grant(Grant::ReadOnly).unwrap();
        another.grant(alone()).unwrap();
        assert!(rig.disk.grant(alone()).is_err());
        drop(another);
        rig.disk.grant(alone()).unwrap();
    }
}

#[test]
fn the_process_with_a_lock_is_named_where_the_kernel_tells() {
    let rig = Rig::new(8, (Backend::Auto, Direct::Auto));
    // A lock of the old kind conflicts with ours even within a process, and names its holder.
    let holder = File::options()
        .read(true)
        .write(true)
        .open(&rig.path)
        .unwrap();
    fcntl_lock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = rig.disk.grant(alone()).unwrap_err();
    let own = format!("(pid {})", std::process::id());
    assert!(refused.contains(&own), "{refused}");
}

#[test]
fn a_lock_on_a_single_byte_is_noticed() {
    let rig = Rig::new(8, (Backend::Auto, Direct::Auto));
    let holder = File::open(&rig.path).unwrap();
    // As QEMU locks images: shared, a byte each, at 100 and beyond.
    let byte = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the command reads one `struct flock`, which outlives the call.
    let result = unsafe {
        libc::fcntl(
            holder.as_raw_fd(),
            libc::F_OFD_SETLK,
            std::ptr::from_ref(&byte),
        )
    };
    assert_eq!(result, 0);
    assert!(rig.disk.grant(alone()).is_err());
    drop(holder);
    rig.disk.grant(alone()).unwrap();
}

#[test]
fn without_a_grant_nothing_is_changed() {
    for way in ways() {
        let rig = Rig::new(8, way);
        let discard = DiskOperation::Discard {
            sector: 0,
            sectors: 1,
        };
        let zeroes = DiskOperation::WriteZeroes {
            sector: 0,
            sectors: 1,
            unmap: true,
        };
        let ungranted = [write(0, 1, 1), discard, zeroes];
        std::fs::write(&rig.path, vec![5; 8 * SECTOR]).unwrap();
        for operation in ungranted.clone() {
            assert!(matches!(rig.ask(operation), Err(DiskError::Failed(_))));
            let events = rig.events();
            assert!(events[0].contains("may not change the disk"), "{events:?}");
        }
        // A read and a flush change nothing.
        assert_eq!(rig.ask(read(0, 8)), Ok(vec![5; 8 * SECTOR]));
        assert_eq!(rig.ask(DiskOperation::Flush), Ok(Vec::new()));
        rig.disk.grant(alone()).unwrap();
        rig.disk.grant(Grant::ReadOnly).unwrap();
        for operation in ungranted {
            assert!(rig.ask(operation).is_err());
        }
        assert_eq!(std::fs::read(&rig.path).unwrap(), vec![5; 8 * SECTOR]);
    }
}

#[test]
fn a_grant_is_given_back_when_the_last_change_has_ended() {
    for way in ways() {
        let rig = Rig::new(1024, way);
        rig.disk.grant(alone()).unwrap();
        for id in 0..1024 {
            rig.submit(id, write(id, 1, 1));
        }
        rig.disk.grant(Grant::ReadOnly).unwrap();
        assert_eq!(rig.sink.completions.lock().unwrap().len(), 1024);
        assert_eq!(std::fs::read(&rig.path).unwrap(), vec![1; 1024 * SECTOR]);
    }
}

#[test]
fn read_only_disks_are_shared_and_not_written() {
    for way in ways() {
        let rig = Rig::new(8, way);
        let options = FileOptions {
            read_only: true,
            ..rig.options
        };
        let (one, sink) = open(&rig.path, options);
        let (another, _) = open(&rig.path, options);
        one.grant(alone()).unwrap();
        another.grant(alone()).unwrap();
        assert!(rig.disk.grant(alone()).is_err());
        one.submit(DiskRequest {
            disk: 3,
            id: 0,
            operation: write(0, 1, 1),
        });
        one.settle();
        assert!(sink.completions.lock().unwrap()[0].result.is_err());
        assert_eq!(std::fs::read(&rig.path).unwrap(), vec![0; 8 * SECTOR]);
    }
}
