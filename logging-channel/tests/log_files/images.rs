//! Images in a log.

use logging_channel::Digest;
use logging_channel::log_file::{Image, ImageKind, LogError, LogOptions, LogReader, LogWriter};

use crate::fixture::{Log, Random, header, initrd, kernel};

#[test]
fn images_come_back_beside_the_entries() {
    let images = vec![kernel(), initrd()];
    let log = Log::write_with(&header(), Some(4000), images.clone());
    let mut reader = LogReader::open(&log.path()).unwrap();
    assert_eq!(reader.images().unwrap(), images);
    reader.next_batch().unwrap().unwrap();
    assert_eq!(reader.images().unwrap(), images);
    let (count, end) = log.read();
    end.unwrap();
    assert_eq!(count, 500);

    let without = Log::write(None);
    let reader = LogReader::open(&without.path()).unwrap();
    assert_eq!(reader.images().unwrap(), []);
}

#[test]
fn an_image_that_the_identity_does_not_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let wrong = Image {
        kind: ImageKind::Initrd,
        bytes: kernel().bytes,
    };
    let options = LogOptions {
        images: vec![wrong],
        ..LogOptions::default()
    };
    let error = LogWriter::create(&path, &header(), &options).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Image {
                kind: ImageKind::Initrd,
                ..
            }
        ),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn a_log_cut_within_its_images_has_none() {
    let log = Log::write_with(&header(), None, vec![kernel(), initrd()]);
    let whole = log.segments().remove(0);
    let images_end = log.frames[0].0 as usize;
    for cut in (1000..images_end).step_by(701) {
        log.put(&[whole[..cut].to_vec()]);
        let reader = LogReader::open(&log.path()).unwrap();
        let error = reader.images().unwrap_err();
        assert!(matches!(error, LogError::Torn { .. }), "{error}");
    }
}

/// Also an empty one, and one of many pieces.
#[test]
fn images_of_any_size_come_back() {
    for bytes in [0, 1, 256 << 10, (1 << 20) + 1] {
        let image = Image {
            kind: ImageKind::Kernel,
            bytes: Random::new(4).bytes(bytes),
        };
        let mut header = header();
        header.identity.kernel = Digest::of(&image.bytes);
        let log = Log::write_with(&header, None, vec![image.clone()]);
        let reader = LogReader::open(&log.path()).unwrap();
        assert_eq!(reader.images().unwrap(), [image]);
        log.read().1.unwrap();
    }
}
