//! The rooms that must be pure name nothing by which a clock, a thread, a file, a socket, randomness or an
//! unordered map could come in: two hosts could disagree about any of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lockstep_tests::images::root;

/// What pure code must not name. `std::time::Duration` is a value and allowed.
const FORBIDDEN: [&str; 16] = [
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
    "Mutex",
    "unsafe",
];

/// Folders and files, with what each may name all the same.
const PURE: [(&str, &[&str]); 24] = [
    ("vmm/src/devices", &[]),
    // Loading parses files that were read before: `Cursor`; a dump goes to a writer that is given.
    ("vmm/src/machine", &["std::io"]),
    ("vmm/src/effect.rs", &[]),
    // Errors of the world are passed on.
    ("vmm/src/inputs/logged.rs", &[]),
    ("vmm/src/inputs/discipline.rs", &[]),
    ("logging-channel/src/entry.rs", &[]),
    ("logging-channel/src/identity.rs", &[]),
    ("logging-channel/src/protocol", &[]),
    ("arbiter/src/core.rs", &[]),
    ("disk-server/src/fence/core.rs", &[]),
    ("disk-server/src/wire", &[]),
    ("vmm/x86-engine/src/run.rs", &[]),
    ("vmm/x86-engine/src/run", &[]),
    ("vmm/x86-engine/src/state.rs", &[]),
    ("vmm/x86-engine/src/model.rs", &[]),
    ("vmm/x86-engine/src/flags.rs", &[]),
    ("vmm/x86-engine/src/cpu", &[]),
    ("vmm/x86-engine/src/decode", &[]),
    ("vmm/x86-engine/src/float80", &[]),
    // The one way to guest memory.
    ("vmm/x86-engine/src/memory", &["unsafe"]),
    ("vmm/x86-engine/src/isa/integer", &[]),
    ("vmm/x86-engine/src/isa/system", &[]),
    ("vmm/x86-engine/src/isa/x87", &[]),
    // Executes the guest's SSE on the host's.
    ("vmm/x86-engine/src/isa/simd", &["unsafe"]),
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of sources") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(path) {
        found.push(path.to_owned());
    }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part == "tests"
            || part == "tests.rs"
            || part.starts_with("test_")
            || part.ends_with("_tests.rs")
    })
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

/// Whether `word` is in `code`, and not as the end of a longer name.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

#[test]
fn pure_rooms_reach_nothing_outside() {
    let root = root().canonicalize().expect("the repository");
    for (room, allowed) in PURE {
        let mut files = Vec::new();
        let path = root.join(room);
        assert!(
            path.exists(),
            "{room} is gone: name the room that took its place"
        );
        sources(&path, &mut files);
        // The repository may itself lie in a folder called `tests`.
        files.retain(|file| !is_test(file.strip_prefix(&root).expect("a file of the repository")));
        assert!(!files.is_empty(), "{room} has no sources");
        for file in files {
            let code = code(&fs::read_to_string(&file).expect("a source"));
            for word in FORBIDDEN.iter().filter(|word| !allowed.contains(word)) {
                assert!(!names(&code, word), "{} names {word}", file.display());
            }
        }
    }
}

#[test]
fn a_word_is_found_as_a_name_alone() {
    assert!(names("use rand::Rng;", "rand::"));
    assert!(!names("use operand::R1;", "rand::"));
}

#[test]
fn comments_and_tests_are_no_code() {
    let text = "use a; // HashMap\n/// Instant\nfn f() {}\n#[cfg(test)]\nmod tests {\nuse std::fs;";
    assert_eq!(code(text), "use a; \n\nfn f() {}");
}
