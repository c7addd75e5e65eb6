use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::{FlagFile, ensure_exists, open_direct};
use crate::block::{BLOCK_BYTES, Blocks};
use crate::core::{Identity, State};
use crate::deadline::Deadline;
use crate::error::ArbiterError;
use rustix::fs::OFlags;
use rustix::io::Errno;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn state(term: u64) -> State {
    let holder = (term > 0).then(|| Identity::from_bytes([term as u8; 16]));
    State { term, holder }
}

/// A file with these two blocks.
fn write_blocks(path: &Path, first: &State, second: &State) {
    let first = Blocks::holding(first).0[0];
    let second = Blocks::holding(second).0[1];
    std::fs::write(path, [first, second].as_flattened()).unwrap();
}

#[test]
fn a_block_left_behind_by_a_killed_writer_is_brought_up_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag");
    for (first, second) in [(8, 7), (7, 8)] {
        write_blocks(&path, &state(first), &state(second));
        let loaded = FlagFile::lock(&path, soon()).unwrap().load().unwrap();
        assert_eq!(loaded, state(8));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, Blocks::holding(&state(8)).0.as_flattened());
    }
}

#[test]
fn a_saved_state_is_in_both_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag");
    ensure_exists(&path).unwrap();
    let file = FlagFile::lock(&path, soon()).unwrap();
    assert_eq!(file.load().unwrap(), State::FRESH);
    file.save(&state(1)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..BLOCK_BYTES], bytes[BLOCK_BYTES..]);
    assert_eq!(file.load().unwrap(), state(1));
}

#[test]
fn two_handles_in_one_process_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flag");
    ensure_exists(&path).unwrap();
    let held = FlagFile::lock(&path, soon()).unwrap();
    let error = FlagFile::lock(&path, Deadline::after(Duration::ZERO)).unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    drop(held);
    FlagFile::lock(&path, Deadline::after(Duration::ZERO)).unwrap();
}

/// The proc file system has no O_DIRECT on any kernel, so it stands in for those that refuse it.
#[test]
fn a_file_system_without_direct_access_is_used_through_the_page_cache() {
    let path = Path::new("/proc/self/comm");
    let mut direct = OpenOptions::new();
    direct.custom_flags(OFlags::DIRECT.bits().cast_signed());
    let error = direct.read(true).write(true).open(path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    open_direct(OpenOptions::new().read(true).write(true), path).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let error = FlagFile::lock(Path::new("/dev/null"), soon()).unwrap_err();
    assert!(
        error.full_text().contains("not a regular file"),
        "{}",
        error.full_text()
    );
    let folder = tempfile::tempdir().unwrap();
    let error = FlagFile::lock(folder.path(), soon()).unwrap_err();
    assert!(matches!(error, ArbiterError::StateFile { .. }), "{error}");
}
