//! Log files as a user meets them: cut, kept in pieces, with and without images, and looked into.

use std::{
    path::Path,
    process::{Command, Output},
};

use lockstep_tests::{
    engines::EngineKind,
    images, on_every_engine,
    twins::{Guest, Recording},
};
use serde_json::Value;

fn lockstep(arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(images::lockstep());
    command.args(arguments).arg(file);
    command.output().expect("lockstep runs")
}

fn json(arguments: &[&str], file: &Path) -> Value {
    let output = lockstep(arguments, file);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn sleeper(engine: EngineKind) -> Recording {
    Recording::make(&Guest::bare(engine, "sleeper", "count=20 hz=200"), 1)
}

on_every_engine! {
    fn a_log_tells_what_is_in_it(engine) {
        let recording = sleeper(engine);
        let info = json(&["log", "info", "--json"], &recording.log());
        assert_eq!(info["end"]["how"], "whole");
        assert_eq!(info["header"]["identity"]["command_line"], "count=20 hz=200");
        let entries = info["entries"].as_u64().expect("a number");

        let dumped = lockstep(&["log", "dump"], &recording.log());
        let lines = String::from_utf8_lossy(&dumped.stdout);
        assert_eq!(lines.lines().count() as u64, entries);
        assert!(lines.lines().last().is_some_and(|line| line.contains("end Reset")));
        let interrupts = lockstep(&["log", "dump", "--json", "--kind", "interrupt"], &recording.log());
        let interrupts = String::from_utf8_lossy(&interrupts.stdout);
        assert!(interrupts.lines().count() >= 20);
        for line in interrupts.lines() {
            let entry: Value = serde_json::from_str(line).expect("an object a line");
            assert_eq!(entry["vector"], 0x20);
        }

        let svg = recording.folder().join("budget.svg");
        let stats = json(
            &["log", "stats", "--json", "--svg", &svg.to_string_lossy()],
            &recording.log(),
        );
        assert_eq!(stats["count"], entries);
        let kinds = stats["kinds"].as_array().expect("a list");
        let shares: f64 = kinds.iter().map(|kind| kind["share"].as_f64().expect("a number")).sum();
        assert!((shares - 1.0).abs() < 1e-6, "{shares}");
        let counts: u64 = kinds.iter().map(|kind| kind["count"].as_u64().expect("a number")).sum();
        assert_eq!(counts, entries);
        let svg = std::fs::read_to_string(svg).expect("a plot");
        assert_eq!(svg.matches("<polygon").count(), kinds.len());
    }

    fn a_selection_is_by_position(engine) {
        let recording = sleeper(engine);
        let all = lockstep(&["log", "dump", "--json"], &recording.log());
        let all = String::from_utf8_lossy(&all.stdout);
        let at = |line: &str| {
            let entry: Value = serde_json::from_str(line).expect("an object");
            (entry["exits"].as_u64().expect("exits"), entry["instructions"].as_u64().expect("instructions"))
        };
        let middle = at(all.lines().nth(all.lines().count() / 2).expect("entries"));
        let position = format!("{}+{}", middle.0, middle.1);
        let count = |arguments: &[&str]| {
            let output = lockstep(&[&["log", "dump", "--json"], arguments].concat(), &recording.log());
            String::from_utf8_lossy(&output.stdout).lines().count()
        };
        let expected = |wanted: &dyn Fn((u64, u64)) -> bool| all.lines().filter(|line| wanted(at(line))).count();
        assert_eq!(count(&["--from", &position]), expected(&|at| at >= middle));
        assert_eq!(count(&["--to", &position]), expected(&|at| at <= middle));
        assert_eq!(count(&["--from", &position, "--to", &position]), expected(&|at| at == middle));
    }

    fn a_torn_log_is_told_replayed_to_its_end_and_cut(engine) {
        let recording = sleeper(engine);
        let log = recording.folder().join("torn");
        let bytes = std::fs::read(recording.log()).expect("the log");
        std::fs::write(&log, &bytes[..bytes.len() - 3]).expect("a file");

        let verified = lockstep(&["log", "verify"], &log);
        assert_eq!(verified.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&verified.stdout).contains("torn"), "{verified:?}");

        let replayed = Command::new(images::lockstep())
            .args(recording.replay_arguments(&log))
            .args(["--console", "none"])
            .output()
            .expect("lockstep runs");
        let said = String::from_utf8_lossy(&replayed.stderr);
        assert!(replayed.status.success() && said.contains("its tail was cut off"), "{said}");

        let cut = lockstep(&["log", "verify", "--cut"], &log);
        let said = String::from_utf8_lossy(&cut.stdout);
        assert!(cut.status.success() && said.contains("whole so far"), "{cut:?}");
    }

    /// The images are in the log, and the log is in pieces: the replay needs nothing else.
    fn a_log_with_its_images_needs_no_other_file(engine) {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let recorded = Command::new(images::lockstep())
            .args(["record", "--engine", engine.name(), "--memory", "16M", "--console", "none"])
            .args(["--cmdline", "count=200", "--log-images", "--log-rotate", "4K"])
            .arg("--kernel")
            .arg(images::bare("clock"))
            .arg("--log")
            .arg(&log)
            .output()
            .expect("lockstep runs");
        let said = String::from_utf8_lossy(&recorded.stderr);
        assert!(recorded.status.success(), "{said}");
        let digest = said.split("digest ").nth(1).expect("a digest").trim().to_owned();
        let info = json(&["log", "info", "--json"], &log);
        assert_eq!(info["images"][0][0], "kernel");
        let replayed = lockstep(&["replay", "--verify", "--console", "none", "--log"], &log);
        let said = String::from_utf8_lossy(&replayed.stderr);
        assert!(replayed.status.success() && said.contains(&digest), "{said}");
    }
}

/// Without the images, what is missing is named.
#[test]
fn a_log_without_images_asks_for_them() {
    let recording = sleeper(EngineKind::Soft);
    let output = lockstep(&["replay", "--log"], &recording.log());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("--kernel FILE"),
        "{said}"
    );
    let other = images::bare("clock");
    let output = Command::new(images::lockstep())
        .args(["replay", "--kernel"])
        .arg(other)
        .arg("--log")
        .arg(recording.log())
        .output()
        .expect("lockstep runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("kernel: the log has"),
        "{said}"
    );
}
