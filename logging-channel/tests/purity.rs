//! The protocol cores are pure: they use nothing that is not a value.

use std::fs;
use std::path::{Path, PathBuf};

/// What a core must not even name.
const IMPURE: [&str; 11] = [
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "tokio",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn protocol_cores_use_no_clock_thread_file_socket_or_hash_map() {
    let mut found = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol");
    sources(&folder, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let impure = IMPURE.iter().find(|name| line.contains(**name));
            assert_eq!(impure, None, "{}: {line}", path.display());
        }
    }
}
