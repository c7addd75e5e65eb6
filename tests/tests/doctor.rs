//! `lockstep doctor`, and that `--engine auto` does what it says.

use std::{
    ffi::OsString,
    process::{Command, Output},
};

use lockstep_tests::{images, told};
use vmm::host::Event;

fn doctor(options: &[&str]) -> Output {
    let output = Command::new(images::lockstep())
        .arg("doctor")
        .args(options)
        .output()
        .expect("lockstep runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output
}

#[test]
fn it_tells_people_and_programs_the_same() {
    let report: serde_json::Value =
        serde_json::from_slice(&doctor(&["--json"]).stdout).expect("one JSON object");
    let engine = report["auto"]["engine"].as_str().expect("a name");
    assert!(["kvm", "soft"].contains(&engine), "{report}");
    // Tests need KVM; the software CPU is everywhere.
    assert_eq!(report["kvm"]["device"]["usable"], true, "{report}");
    for name in ["kvm", "soft"] {
        let speed = report["speed"][name]["mips"].as_f64();
        assert!(speed > Some(0.0), "{name} in {report}");
    }
    let text = String::from_utf8(doctor(&[]).stdout).expect("text");
    for line in text
        .lines()
        .filter(|line| line.starts_with("--count hardware"))
    {
        assert!(line.contains("never run on hardware"), "{line}");
    }
    assert!(text.contains("--count hardware"), "{text}");
    let verdict = format!("--engine auto takes {engine}: ");
    assert!(text.contains(&verdict), "{text}");
}

#[test]
fn auto_takes_the_engine_that_the_doctor_names() {
    let report: serde_json::Value =
        serde_json::from_slice(&doctor(&["--json"]).stdout).expect("one JSON object");
    let folder = tempfile::tempdir().expect("a folder");
    let mut arguments = ["run", "--memory", "16M", "--console", "none"]
        .map(OsString::from)
        .to_vec();
    arguments.extend(["--cmdline", "count=1 hz=200", "--kernel"].map(OsString::from));
    arguments.push(images::bare("sleeper").into());
    let (output, events) = told::run(arguments, folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let taken = events.iter().find_map(|event| match event {
        Event::Engine { engine, .. } => Some(engine.name()),
        _ => None,
    });
    assert_eq!(taken, report["auto"]["engine"].as_str());
    assert!(
        said.contains(&format!("engine {}: ", taken.expect("a name"))),
        "{said}"
    );
}

/// What `lockstep run` with these options refuses to do, and why.
fn refused(options: &[&str]) -> String {
    let output = Command::new(images::lockstep())
        .args(["run", "--console", "none", "--kernel"])
        .arg(images::bare("counter"))
        .args(options)
        .output()
        .expect("lockstep runs");
    assert!(!output.status.success(), "{options:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_cannot_be_counted_is_refused_with_the_reason() {
    let soft = refused(&["--engine", "soft", "--count", "step"]);
    assert!(soft.contains("give --engine kvm as well"), "{soft}");
    let report: serde_json::Value =
        serde_json::from_slice(&doctor(&["--json"]).stdout).expect("one JSON object");
    if report["clocks"]["hardware"]["usable"] == false {
        let hardware = refused(&["--engine", "kvm", "--count", "hardware"]);
        assert!(
            hardware.contains("Cannot count with hardware"),
            "{hardware}"
        );
        assert!(hardware.contains("--count step"), "{hardware}");
    }
}
