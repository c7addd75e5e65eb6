//! `lockstep demo`: what it shows, and that nothing of it is left, however it ends.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use lockstep_tests::{engines::EngineKind, images, on_every_engine, rig::serial};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Generous: only a failure waits for so long.
const LIMIT: Duration = Duration::from_secs(120);

/// Long enough that a busy machine parts no pair.
const CALM_MS: &str = "20000";

/// A demo whose temporary files lie in a folder of its own.
struct Demo {
    folder: TempDir,
    command: Command,
}

impl Demo {
    fn new(kernel: &Path, options: &[&str]) -> Self {
        let mut arguments: Vec<OsString> = ["--guest", "bare", "--kernel"].map(Into::into).into();
        arguments.push(kernel.into());
        arguments.extend(options.iter().map(Into::into));
        Self::with(arguments)
    }

    /// Of the Linux guest.
    fn of_linux(options: &[&str]) -> Self {
        let files = [
            ("--kernel", "LOCKSTEP_LINUX_KERNEL"),
            ("--initrd", "LOCKSTEP_LINUX_INITRD"),
            ("--cmdline", "LOCKSTEP_LINUX_CMDLINE"),
        ];
        let files = files.map(|(option, variable)| [option.into(), images::variable(variable)]);
        let options = options.iter().map(ToString::to_string);
        Self::with(files.into_iter().flatten().chain(options))
    }

    fn with(options: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(images::lockstep());
        command
            .args(["demo", "--failure-timeout", CALM_MS])
            .args(options);
        command
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { folder, command }
    }

    /// Runs it to its end.
    fn output(mut self) -> Output {
        let output = self.command.output().expect("the demo starts");
        self.check_nothing_is_left();
        output
    }

    /// Starts it, and waits until the guest has answered.
    fn start(&mut self) -> (Child, ChildStderr) {
        let mut child = self.command.spawn().expect("the demo starts");
        let mut stderr = child.stderr.take().expect("it is piped");
        let mut said = String::new();
        while !said.contains("will be killed") {
            let mut buffer = [0; 256];
            let length = stderr.read(&mut buffer).expect("readable");
            assert!(length > 0, "the demo ended early: {said}");
            said += &String::from_utf8_lossy(&buffer[..length]);
        }
        assert_eq!(self.processes().len(), 3, "arbiter, backup and primary");
        (child, stderr)
    }

    /// Every process but the demo itself has a file in its folder on its command line.
    fn processes(&self) -> Vec<String> {
        let folder = self.folder.path().to_str().expect("a plain path");
        let all = std::fs::read_dir("/proc").expect("readable").flatten();
        let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(folder)).collect()
    }

    fn check_nothing_is_left(&self) {
        assert_eq!(self.processes(), [""; 0]);
        let files: Vec<_> = self
            .folder
            .path()
            .read_dir()
            .expect("readable")
            .flatten()
            .collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

/// Network interfaces of this test's own namespace.
fn interfaces() -> Vec<String> {
    let mut text = String::new();
    File::open("/proc/self/net/dev")
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("readable");
    let lines = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    lines.collect()
}

fn show_rounds(engine: EngineKind) {
    let _one = serial();
    let before = interfaces();
    let options = [
        "--engine",
        engine.name(),
        "--kill-after",
        "0.3",
        "--rounds",
        "2",
        "--json",
    ];
    let output = Demo::new(&images::bare("echo"), &options).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("round 2/2") && said.contains("passed"),
        "{said}"
    );
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(
        (report["engine"].as_str(), report["guest"].as_str()),
        (Some(engine.name()), Some("bare"))
    );
    let rounds = report["rounds"].as_array().expect("a list");
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert!(round["answers"].as_u64() > Some(0), "{round}");
        for name in ["lost", "repeated", "out_of_order"] {
            assert_eq!(round[name], 0, "{round}");
        }
        for name in [
            "longest_wait_ms",
            "killed_to_live_ms",
            "killed_to_first_answer_ms",
        ] {
            assert!(round[name].as_f64() > Some(0.0), "{name} in {round}");
        }
    }
    assert_eq!(interfaces(), before);
}

on_every_engine! {
    fn rounds_are_shown_and_told_as_json(engine) {
        show_rounds(engine);
    }

    fn every_durable_record_is_on_the_disk_after_a_failover(engine) {
        show_disk(engine);
    }
}

/// Each engine's backup reads in another way.
fn show_disk(engine: EngineKind) {
    let _one = serial();
    let reads = match engine {
        EngineKind::Soft => "log",
        EngineKind::Kvm => "self",
    };
    let options = [
        "--engine",
        engine.name(),
        "--kill-after",
        "0.5",
        "--disk",
        "--reads",
        reads,
        "--json",
    ];
    let output = Demo::of_linux(&options).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("file system clean"), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(report["disk"], format!("on a disk server, reads={reads}"));
    let durable = &report["rounds"][0]["durable"];
    for name in ["answered_before", "answered_after", "in_flight_at_kill"] {
        assert!(durable[name].as_u64() > Some(0), "{name} in {durable}");
    }
    assert_eq!(durable["on_disk"], durable["answered"], "{durable}");
    for name in ["lost", "contradicted", "repeated", "out_of_order", "torn"] {
        assert_eq!(durable[name], 0, "{name} in {durable}");
    }
    assert_eq!(durable["file_system_clean"], true, "{durable}");
    assert!(
        durable["killed_to_first_durable_ms"].as_f64() > Some(0.0),
        "{durable}"
    );
}

#[test]
fn a_demo_that_cannot_have_a_disk_says_why() {
    let _one = serial();
    let output = Demo::new(&images::bare("echo"), &["--disk"]).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Only the linux guest"), "{said}");

    let mut demo = Demo::of_linux(&["--disk"]);
    let programs = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("PATH").expect("programs are somewhere");
    let ip = std::env::split_paths(&path)
        .map(|folder| folder.join("ip"))
        .find(|ip| ip.exists())
        .expect("there is iproute2");
    std::os::unix::fs::symlink(ip, programs.path().join("ip")).expect("a link");
    demo.command.env("PATH", programs.path());
    let output = demo.output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("install the package e2fsprogs"), "{said}");
}

#[test]
fn nothing_is_left_after_an_interruption() {
    let _one = serial();
    let before = interfaces();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut demo = Demo::new(&images::bare("echo"), &["--kill-after", "3600"]);
        let (mut child, _stderr) = demo.start();
        kill_process(Pid::from_child(&child), signal).expect("signalled");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(1), "{status} after {signal:?}");
        demo.check_nothing_is_left();
    }
    assert_eq!(interfaces(), before);
}

#[test]
fn processes_do_not_outlive_a_demo_that_was_killed() {
    let _one = serial();
    let mut demo = Demo::new(&images::bare("echo"), &["--kill-after", "3600"]);
    let (mut child, _stderr) = demo.start();
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    let begun = Instant::now();
    while !demo.processes().is_empty() {
        assert!(
            begun.elapsed() < LIMIT,
            "waited in vain for the end of {:?}",
            demo.processes()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_demo_that_cannot_start_says_why() {
    let _one = serial();
    let output = Demo::new(Path::new("/nowhere/kernel"), &["--json"]).output();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the end of primary.stderr") && said.contains("/nowhere/kernel"),
        "{said}"
    );
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert!(
        report["error"]
            .as_str()
            .is_some_and(|error| error.contains("/nowhere/kernel")),
        "{report}"
    );
    assert_eq!(report["rounds"], serde_json::json!([]));
}
