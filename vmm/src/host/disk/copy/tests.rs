use tempfile::TempDir;

use super::*;

/// A host with a copy of the same image as all others.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::write(host.image(), [7; 4096]).unwrap();
        host
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("disk.img")
    }

    fn sidecar(&self) -> PathBuf {
        self.0.path().join("disk.img.lockstep")
    }

    fn open(&self) -> Result<PrivateCopy, CopyError> {
        PrivateCopy::open(&self.image())
    }

    fn generation(&self) -> Digest {
        self.open().unwrap().generation()
    }

    /// What a guest wrote.
    fn write(&self, text: &[u8; 4096]) {
        fs::write(self.image(), text).unwrap();
    }

    fn assert_stale(&self, user: &str) {
        let error = self.open().unwrap_err();
        assert!(matches!(error, CopyError::Stale { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(user), "{text}");
        assert!(
            text.contains("Copy the survivor's image and its sidecar"),
            "{text}"
        );
        assert!(
            text.contains(&format!("delete {:?}", self.sidecar())),
            "{text}"
        );
    }
}

#[test]
fn an_image_without_a_sidecar_is_named_by_its_content_and_left_alone() {
    let host = Host::new();
    assert_eq!(host.generation(), Digest::of(&[7; 4096]));
    assert_eq!(host.generation(), Host::new().generation());
    assert!(!host.sidecar().exists());
    host.write(&[8; 4096]);
    assert_ne!(host.generation(), Host::new().generation());
}

#[test]
fn copies_that_end_together_stay_equal() {
    let (one, another) = (Host::new(), Host::new());
    let mut before = one.generation();
    for pair in 5..8 {
        for host in [&one, &another] {
            let mut copy = host.open().unwrap();
            copy.begin(pair).unwrap();
            host.assert_stale(&format!("a replica of pair {pair}"));
            host.write(&[pair as u8; 4096]);
            copy.end_together(pair, 100).unwrap();
            assert_eq!(host.generation(), copy.generation());
        }
        assert_eq!(one.generation(), another.generation());
        assert_ne!(one.generation(), before);
        before = one.generation();
    }
}

#[test]
fn who_goes_on_alone_has_the_only_good_copy() {
    let (survivor, dead) = (Host::new(), Host::new());
    let mut copy = survivor.open().unwrap();
    copy.begin(5).unwrap();
    dead.open().unwrap().begin(5).unwrap();
    let before = copy.generation();
    copy.go_on_alone([1; 16]).unwrap();
    assert_ne!(copy.generation(), before);
    survivor.assert_stale("a machine alone");
    survivor.write(&[9; 4096]);
    copy.end_alone().unwrap();
    assert_eq!(survivor.generation(), copy.generation());
    dead.assert_stale("a replica of pair 5");
    // If its user believes in it all the same, it is no partner of the other.
    fs::remove_file(dead.sidecar()).unwrap();
    assert_ne!(dead.generation(), survivor.generation());
    // What the message says.
    fs::copy(survivor.image(), dead.image()).unwrap();
    fs::copy(survivor.sidecar(), dead.sidecar()).unwrap();
    assert_eq!(dead.generation(), survivor.generation());
}

#[test]
fn both_alone_are_no_pair() {
    let hosts = [Host::new(), Host::new()];
    let generations = hosts.each_ref().map(|host| {
        let mut copy = host.open().unwrap();
        let identity = if host.0.path() == hosts[0].0.path() {
            1
        } else {
            2
        };
        copy.go_on_alone([identity; 16]).unwrap();
        copy.end_alone().unwrap();
        host.generation()
    });
    assert_ne!(generations[0], generations[1]);
}

#[test]
fn a_torn_sidecar_is_refused() {
    let host = Host::new();
    let mut copy = host.open().unwrap();
    copy.begin(5).unwrap();
    copy.end_together(5, 1).unwrap();
    let whole = fs::read(host.sidecar()).unwrap();
    for length in 0..whole.len() {
        fs::write(host.sidecar(), &whole[..length]).unwrap();
        let error = host.open().unwrap_err();
        assert!(matches!(error, CopyError::Damaged { .. }), "{error}");
    }
    fs::write(host.sidecar(), &whole).unwrap();
    assert_eq!(host.generation(), copy.generation());
}

/// A host that stops while it replaces the sidecar leaves a part of the new one beside the old one.
#[test]
fn what_was_left_beside_the_sidecar_does_not_count() {
    let host = Host::new();
    let mut copy = host.open().unwrap();
    copy.begin(5).unwrap();
    let left = with_suffix(&host.sidecar(), ".new");
    fs::write(&left, "lockstep private copy 1\nimage 40").unwrap();
    host.assert_stale("a replica of pair 5");
    copy.end_together(5, 1).unwrap();
    assert_eq!(host.generation(), copy.generation());
    assert!(!left.exists());
    fs::write(&left, "lockstep").unwrap();
    assert_eq!(host.generation(), copy.generation());
}

#[test]
fn a_sidecar_that_cannot_be_replaced_counts_as_it_is() {
    let host = Host::new();
    let mut copy = host.open().unwrap();
    let in_the_way = with_suffix(&host.sidecar(), ".new");
    fs::create_dir(&in_the_way).unwrap();
    let before = copy.generation();
    assert!(matches!(copy.begin(5), Err(CopyError::Write { .. })));
    assert_eq!(host.generation(), before);
    fs::remove_dir(&in_the_way).unwrap();
    copy.begin(5).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(
        copy.go_on_alone([1; 16]),
        Err(CopyError::Write { .. })
    ));
    assert_eq!(copy.generation(), before);
    host.assert_stale("a replica of pair 5");
    // It is still the pair's: the guest may end as if nothing had been.
    fs::remove_dir(&in_the_way).unwrap();
    copy.end_together(5, 9).unwrap();
    assert_eq!(host.generation(), copy.generation());
}

#[test]
fn an_image_of_another_size_or_none_is_told() {
    let host = Host::new();
    let mut copy = host.open().unwrap();
    copy.go_on_alone([1; 16]).unwrap();
    copy.end_alone().unwrap();
    fs::write(host.image(), [7; 8192]).unwrap();
    let error = host.open().unwrap_err().to_string();
    assert!(error.contains("has 8192 bytes and had 4096"), "{error}");
    fs::remove_file(host.image()).unwrap();
    assert!(matches!(host.open(), Err(CopyError::Image { .. })));
}

#[test]
fn a_sidecar_of_another_version_is_left_to_its_lockstep() {
    let host = Host::new();
    let text = "lockstep private copy 9\n";
    let whole = format!("{text}checksum {}\n", Digest::of(text.as_bytes()));
    fs::write(host.sidecar(), whole).unwrap();
    let error = host.open().unwrap_err().to_string();
    assert!(error.contains("is of version 9"), "{error}");
}
