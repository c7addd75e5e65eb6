//! Guest images and the program under test: where they are.
//!
//! `make images` writes their paths to `target/images.env`; the environment overrides single ones.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The value of an image variable such as `LOCKSTEP_LINUX_KERNEL`.
///
/// # Panics
/// If there is none: no test passes because its guest is missing.
#[must_use]
pub fn variable(name: &str) -> String {
    static FILE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let text = std::fs::read_to_string(root().join("target/images.env")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect()
    });
    env::var(name)
        .ok()
        .or_else(|| file.get(name).cloned())
        .unwrap_or_else(|| panic!("{name} is not known: build the guest images with `make images`"))
}

/// A bare-metal guest.
#[must_use]
pub fn bare(name: &str) -> PathBuf {
    variable(&format!("LOCKSTEP_BARE_{}", name.to_uppercase())).into()
}

/// The `lockstep` program that belongs to this test.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn lockstep() -> PathBuf {
    if let Some(path) = env::var_os("LOCKSTEP_BIN") {
        return path.into();
    }
    // target/PROFILE/deps/TEST → target/PROFILE/lockstep
    let test = env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests lie two folders deep");
    let program = profile.join("lockstep");
    assert!(
        program.exists(),
        "{} is not built: run `cargo build` with the test's profile first, or `make test`",
        program.display()
    );
    program
}
