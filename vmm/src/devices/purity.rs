//! No device may reach outside the machine: their sources name nothing that could.

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure model must not name. `purity.rs` and tests are exempt.
const FORBIDDEN: [&str; 16] = [
    "std::time",
    "std::thread",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::os",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "rand::",
    "rustix",
    "tokio",
    "unsafe",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without the test module at its end.
fn code(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn devices_reach_nothing_outside_the_machine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/devices");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    files.retain(|file| !file.ends_with("tests.rs") && !file.ends_with("purity.rs"));
    assert!(
        files.len() > 15,
        "{} source files under {}",
        files.len(),
        folder.display()
    );
    for file in files {
        let code = code(&fs::read_to_string(&file).unwrap());
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{} names {word}", file.display());
        }
    }
}

#[test]
fn comments_and_tests_are_no_code() {
    let text = "use a; // HashMap\n/// Instant\nfn f() {}\n#[cfg(test)]\nmod tests {\nuse std::fs;";
    assert_eq!(code(text), "use a; \n\nfn f() {}");
}
