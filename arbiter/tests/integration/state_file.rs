//! The state file under ill treatment: a damaged copy is survived, a damaged file is an error that
//! names it, and nothing ever quietly becomes term 0.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use arbiter::{Address, Arbiter, ArbiterError, Identity, Outcome, State, Store};

use crate::processes::TIMEOUT;

const BLOCK_BYTES: usize = 4096;
/// Up to the end of the checksum.
const HEADER_BYTES: usize = 44;
const WINNER: Identity = Identity::from_bytes([0xc3; 16]);
const AT_TERM_ONE: State = State {
    term: 1,
    holder: Some(WINNER),
};

struct Flag {
    path: PathBuf,
    folder: tempfile::TempDir,
}

impl Flag {
    fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        Self { path, folder }
    }

    /// At term 1, won by `WINNER`.
    async fn at_term_one() -> Self {
        let flag = Self::fresh();
        let outcome = flag.handle().claim(0, WINNER, TIMEOUT).await.unwrap();
        assert_eq!(outcome, Outcome::Won { term: 1 });
        flag
    }

    fn handle(&self) -> Arbiter {
        Arbiter::new(Address::File(self.path.clone()))
    }

    /// The file with `bytes` in it is refused by name, and left as it is.
    async fn is_corrupt_with(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
        let arbiter = self.handle();
        let read = arbiter.read(TIMEOUT).await.map(|_| ()).unwrap_err();
        let claim = arbiter
            .claim(1, WINNER, TIMEOUT)
            .await
            .map(|_| ())
            .unwrap_err();
        for error in [read, claim] {
            assert!(matches!(error, ArbiterError::Corrupt { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(self.path.to_str().unwrap()), "{message}");
            assert!(message.contains("Stop every replica"), "{message}");
        }
        assert_eq!(fs::read(&self.path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_changed_byte_in_one_copy_is_survived_and_mended() {
    let flag = Flag::at_term_one().await;
    let whole = fs::read(&flag.path).unwrap();
    for copy in [0, BLOCK_BYTES] {
        for offset in (0..HEADER_BYTES).chain([HEADER_BYTES, BLOCK_BYTES - 1]) {
            let mut damaged = whole.clone();
            damaged[copy + offset] ^= 0x10;
            fs::write(&flag.path, &damaged).unwrap();
            assert_eq!(flag.handle().read(TIMEOUT).await.unwrap(), AT_TERM_ONE);
            assert_eq!(fs::read(&flag.path).unwrap(), whole);
        }
    }
}

#[tokio::test]
async fn a_changed_byte_in_both_copies_is_an_error() {
    let flag = Flag::at_term_one().await;
    let whole = fs::read(&flag.path).unwrap();
    for offset in 0..HEADER_BYTES {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0x10;
        damaged[BLOCK_BYTES + offset] ^= 0x10;
        flag.is_corrupt_with(&damaged).await;
    }
}

#[tokio::test]
async fn a_file_of_another_length_is_an_error() {
    let flag = Flag::at_term_one().await;
    let mut bytes = fs::read(&flag.path).unwrap();
    bytes.push(0);
    for length in [0, 1, 43, 44, 4095, 4096, 4097, 8191, 8193] {
        flag.is_corrupt_with(&bytes[..length]).await;
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_an_error() {
    let flag = Flag::fresh();
    flag.is_corrupt_with(&[0; 2 * BLOCK_BYTES]).await;
    flag.is_corrupt_with(&[b'\n'; 2 * BLOCK_BYTES]).await;
}

#[tokio::test]
async fn a_file_that_vanished_is_not_made_anew() {
    let flag = Flag::at_term_one().await;
    let arbiter = flag.handle();
    assert_eq!(arbiter.read(TIMEOUT).await.unwrap(), AT_TERM_ONE);
    fs::remove_file(&flag.path).unwrap();
    let error = arbiter.claim(1, WINNER, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, ArbiterError::Missing { .. }), "{error}");
    assert!(!flag.path.exists());
}

#[tokio::test]
async fn a_missing_folder_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unmounted/state");
    let arbiter = Arbiter::new(Address::File(path));
    let error = arbiter.read(TIMEOUT).await.unwrap_err();
    assert!(matches!(error, ArbiterError::StateFile { .. }), "{error}");
    assert!(!folder.path().join("unmounted").exists());
}

#[test]
fn stores_opened_at_once_share_one_file_and_leave_no_draft() {
    const OPENERS: usize = 8;
    for _ in 0..10 {
        let flag = Flag::fresh();
        let barrier = Arc::new(Barrier::new(OPENERS));
        let open = |_| {
            let (path, barrier) = (flag.path.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                Store::open(path, TIMEOUT).map(|_| ())
            })
        };
        let openers: Vec<_> = (0..OPENERS).map(open).collect();
        for opener in openers {
            opener.join().unwrap().unwrap();
        }
        let files = fs::read_dir(flag.folder.path()).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["state"]);
    }
}

#[tokio::test]
async fn a_lock_that_others_hold_is_unreachable_and_nothing_is_claimed() {
    let flag = Flag::at_term_one().await;
    let other = fs::File::open(&flag.path).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let arbiter = flag.handle();
    let timeout = Duration::from_millis(30);
    let error = arbiter.claim(1, WINNER, timeout).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    rustix::fs::flock(&other, rustix::fs::FlockOperation::Unlock).unwrap();
    assert_eq!(arbiter.read(TIMEOUT).await.unwrap(), AT_TERM_ONE);
    let outcome = arbiter.claim(1, WINNER, TIMEOUT).await.unwrap();
    assert_eq!(outcome, Outcome::Won { term: 2 });
}

#[tokio::test]
async fn the_format_on_disk_is_as_described() {
    let flag = Flag::at_term_one().await;
    let bytes = fs::read(&flag.path).unwrap();
    assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
    assert_eq!(bytes[..BLOCK_BYTES], bytes[BLOCK_BYTES..]);
    let mut header = b"LSTEPARB".to_vec();
    header.extend(1u32.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.extend(1u64.to_le_bytes());
    header.extend(WINNER.to_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    assert_eq!(bytes[..HEADER_BYTES], header);
    assert!(
        bytes[HEADER_BYTES..BLOCK_BYTES]
            .iter()
            .all(|byte| *byte == 0)
    );
}
