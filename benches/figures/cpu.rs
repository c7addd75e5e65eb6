//! The software CPU: instructions a second, against QEMU's and against KVM; what recording costs, and replaying.
//!
//! ```text
//!  lockstep run ─┐
//!  qemu ─────────┼─► console ─► lines, each with its time ──────────┐
//!  this process ─┴─► inputs ──► lines, each with instructions, too ─┴─► spans ─► medians ─► tables
//! ```
//!
//! All ways of running a guest take turns, so that what else the host does meets all of them.

mod guest;
mod run;

use std::path::Path;

use vmm::engine::EngineKind;

use guest::Guest;
use run::{Cost, Run, Span};

/// Rounds of the workloads.
const ROUNDS: usize = 5;
/// Rounds of what takes long under QEMU.
const LONG_ROUNDS: usize = 3;
/// Rounds of what takes less than a second.
const SHORT_ROUNDS: usize = 15;

const TO_INIT: Span = Span {
    name: "to /init",
    from: "",
    to: "lockstep: init",
};
const TO_BYE: Span = Span {
    name: "to power-off",
    from: "",
    to: "lockstep: bye",
};

macro_rules! workload {
    ($name:literal) => {
        Span {
            name: $name,
            from: concat!("workload ", $name, " begin"),
            to: concat!("workload ", $name, " end"),
        }
    };
}

const WORKLOADS: [Span; 5] = [
    workload!("mix"),
    workload!("copy"),
    workload!("memcpy"),
    workload!("calls"),
    workload!("sse"),
];

/// The ways a guest is run.
#[derive(Default)]
struct Ways {
    counted: Vec<Run>,
    soft: Vec<Run>,
    tcg: Vec<Run>,
    icount: Vec<Run>,
    kvm: Vec<Run>,
}

impl Ways {
    /// Runs `guest` in every way, `rounds` times in turn; and `kvm` on KVM once.
    fn run(guest: &Guest, kvm: Option<&Guest>, rounds: usize, folder: &Path) -> Self {
        let mut ways = Self::default();
        let qemu = guest::qemu_version().is_some();
        for _ in 0..rounds {
            ways.counted.push(Run::counted(&guest.machine()));
            let command = guest.lockstep("run", EngineKind::Soft);
            ways.soft.push(Run::of_process(command));
            if qemu {
                ways.tcg.push(Run::of_process(guest.qemu(None)));
                let log = folder.join("qemu");
                ways.icount.push(Run::of_process(guest.qemu(Some(&log))));
            }
        }
        if let Some(guest) = kvm.filter(|_| guest::has_kvm()) {
            let command = guest.lockstep("run", EngineKind::Kvm);
            ways.kvm.push(Run::of_process(command));
        }
        ways.compare_checksums();
        ways
    }

    /// Whatever runs it, a workload computes the same.
    fn compare_checksums(&self) {
        let expected = self.counted[0].checksums();
        for run in [&self.counted, &self.soft, &self.tcg, &self.icount].map(|runs| runs.iter()) {
            run.for_each(|run| assert_eq!(run.checksums(), expected));
        }
        for checksum in self.kvm.iter().flat_map(Run::checksums) {
            assert!(expected.contains(&checksum), "{checksum} on KVM");
        }
    }

    fn row(&self, name: &str, span: Span) {
        let counted = Medians::of(&self.counted, span).expect("every run has it");
        let soft = Medians::of(&self.soft, span).expect("every run has it");
        let other = |runs| match Medians::of(runs, span) {
            Some(other) => {
                let ratio = other.busy_seconds / soft.busy_seconds;
                format!("{:8.3} {ratio:5.2}", other.busy_seconds)
            }
            None => format!("{:>14}", "-"),
        };
        println!(
            "  {name:20} {:10.1} {:8.1} {:10.3} {} {} {}",
            counted.instructions / 1e6,
            counted.rate / 1e6,
            soft.busy_seconds,
            other(&self.tcg),
            other(&self.icount),
            other(&self.kvm),
        );
    }

    /// Wall time from the start of the process on.
    fn wall(&self, span: Span) {
        for (name, runs) in [
            ("lockstep run", &self.soft),
            ("QEMU tcg", &self.tcg),
            ("QEMU recording", &self.icount),
            ("lockstep run on KVM", &self.kvm),
        ] {
            if let Some(medians) = Medians::of(runs, span) {
                println!("  {name:20} {:10.3} s", medians.seconds);
            }
        }
    }
}

/// What a part took, over some runs.
struct Medians {
    seconds: f64,
    busy_seconds: f64,
    instructions: f64,
    /// Instructions a second of processor time.
    rate: f64,
}

impl Medians {
    fn of(runs: &[Run], span: Span) -> Option<Self> {
        let costs: Option<Vec<Cost>> = runs.iter().map(|run| run.cost(span)).collect();
        let costs = costs.filter(|costs| !costs.is_empty())?;
        let median = |value: fn(&Cost) -> f64| median(costs.iter().map(value).collect());
        Some(Self {
            seconds: median(|cost| cost.seconds),
            busy_seconds: median(|cost| cost.busy_seconds),
            instructions: median(|cost| cost.instructions),
            rate: median(|cost| cost.instructions / cost.busy_seconds),
        })
    }
}

fn median(values: Vec<f64>) -> f64 {
    super::median_and_maximum(values).0
}

/// Prints the section.
pub fn print() {
    let folder = tempfile::tempdir().expect("a folder");
    println!(
        "\ncpu: the software CPU side by side with {}",
        guest::qemu_version().unwrap_or_else(|| "nothing: install qemu-system-x86".to_owned())
    );
    println!(
        "  Seconds of processor time between two lines of the console, median of {ROUNDS} rounds in turn ({SHORT_ROUNDS} of the short"
    );
    println!(
        "  boot, {LONG_ROUNDS} of Debian's kernel; KVM once), and the quotient by the software CPU's. Instructions are counted in runs of their own."
    );
    println!(
        "  {:20} {:>10} {:>8} {:>10} {:>14} {:>14} {:>14}",
        "", "million", "M/s", "soft, s", "QEMU tcg", "QEMU recording", "KVM"
    );
    let boot = Guest::linux("lockstep.run=poweroff");
    let boots = Ways::run(&boot, Some(&boot), SHORT_ROUNDS, folder.path());
    boots.row("Linux to /init", TO_INIT);
    boots.row("Linux to power-off", TO_BYE);
    let work = Guest::linux("lockstep.run=workloads");
    // Where KVM emulates the guest's kernel, system calls would take a minute.
    let user_mode = Guest::linux("lockstep.run=workloads lockstep.workloads=mix,copy,memcpy,sse");
    let ways = Ways::run(&work, Some(&user_mode), ROUNDS, folder.path());
    for span in WORKLOADS {
        ways.row(span.name, span);
    }
    let stock = Guest::stock("lockstep.run=poweroff");
    Ways::run(&stock, None, LONG_ROUNDS, folder.path()).row("Debian's kernel", TO_INIT);
    println!("\ncpu: process start to /init, wall time, median of {SHORT_ROUNDS} rounds");
    boots.wall(TO_INIT);
    println!("\ncpu: log of a boot to power-off, bytes");
    logs("Linux", &boot, folder.path());
    logs("Debian's kernel", &stock, folder.path());
    recording(
        "Linux, power-on to power-off",
        &boot,
        SHORT_ROUNDS,
        folder.path(),
    );
    recording("all workloads", &work, ROUNDS, folder.path());
}

/// How large a recorded boot is.
fn logs(name: &str, boot: &Guest, folder: &Path) {
    let bytes = |path: &Path| std::fs::metadata(path).expect("a log").len();
    let log = folder.join("log");
    let mut command = boot.lockstep("record", EngineKind::Soft);
    command.arg("--log").arg(&log);
    Run::of_process(command);
    println!("  {name:20} lockstep {:>10}", bytes(&log));
    if guest::qemu_version().is_some() {
        let log = folder.join("qemu");
        Run::of_process(boot.qemu(Some(&log)));
        println!("  {name:20} QEMU     {:>10}", bytes(&log));
    }
}

/// What recording costs against not recording, and replaying against recording.
fn recording(name: &str, guest: &Guest, rounds: usize, folder: &Path) {
    let log = folder.join("log");
    let (mut run, mut record, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (verb, runs) in [
            ("run", &mut run),
            ("record", &mut record),
            ("replay", &mut replay),
        ] {
            let mut command = guest.lockstep(verb, EngineKind::Soft);
            if verb != "run" {
                command.arg("--log").arg(&log);
            }
            runs.push(Run::of_process(command));
        }
    }
    let medians = |runs| Medians::of(runs, TO_BYE).expect("rounds");
    let (run, record, replay) = (medians(&run), medians(&record), medians(&replay));
    println!("\ncpu: {name}, median of {rounds} rounds in turn: wall time, processor time");
    let row = |name: &str, is: &Medians, of: &Medians, other: &str| {
        println!(
            "  {name:8} {:8.3} s  {:6.3}   {:8.3} s  {:6.3} of {other}",
            is.seconds,
            is.seconds / of.seconds,
            is.busy_seconds,
            is.busy_seconds / of.busy_seconds
        );
    };
    row("run", &run, &run, "run");
    row("record", &record, &run, "run");
    row("replay", &replay, &record, "record");
}
