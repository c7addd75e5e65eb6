use super::*;

fn image(bytes: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, vec![7; bytes]).unwrap();
    (folder, path)
}

fn open(path: &Path, read_only: bool) -> Result<Image, DiskServerError> {
    Image::open(path, read_only, Duration::ZERO)
}

#[test]
fn a_locked_image_is_refused() {
    let (_folder, path) = image(4096);
    let first = open(&path, false).unwrap();
    for read_only in [false, true] {
        let error = open(&path, read_only).unwrap_err();
        assert!(matches!(error, DiskServerError::Locked { .. }), "{error}");
    }
    drop(first);
    let reader = open(&path, true).unwrap();
    open(&path, true).expect("readers do not exclude each other");
    open(&path, false).expect_err("a writer beside a reader");
    drop(reader);
    open(&path, false).unwrap();
}

#[test]
fn zeroes_are_zeroes_whichever_way_and_nothing_else_changes() {
    let (_folder, path) = image(1 << 18);
    let image = open(&path, false).unwrap();
    image.zero(4096, 8192, false).unwrap();
    image.zero(100_000, 5, true).unwrap();
    image.write_zeroes(120_001, 70_000).unwrap();
    image.zero(0, 0, false).unwrap();
    let mut found = vec![0; 1 << 18];
    image.read_at(0, &mut found).unwrap();
    let zero = |at: usize| {
        [4096..12_288, 100_000..100_005, 120_001..190_001]
            .iter()
            .any(|range| range.contains(&at))
    };
    for (at, byte) in found.into_iter().enumerate() {
        assert_eq!(byte, if zero(at) { 0 } else { 7 }, "byte {at}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 18);
}

#[test]
fn an_image_that_became_shorter_is_an_error_and_not_zeroes() {
    let (_folder, path) = image(8192);
    let image = open(&path, false).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(4096).unwrap();
    let error = image.read_at(4000, &mut [0; 512]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn after_a_flush_that_failed_none_succeeds() {
    let (_folder, path) = image(4096);
    let mut image = open(&path, false).unwrap();
    image.flush().unwrap();
    // Sockets and pipes cannot be flushed.
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = std::mem::replace(
        &mut image.file,
        File::from(std::os::fd::OwnedFd::from(socket)),
    );
    image.flush().unwrap_err();
    image.file = file;
    image.flush().unwrap_err();
}
