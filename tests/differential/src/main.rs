//! The long run: `differential --cases 2000000`. Ends with 1 if the processors differ, with 2 if it could not run.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    slice,
    time::Instant,
};

use anyhow::Context;
use clap::Parser;
use lockstep_differential::{
    compare::Difference,
    coverage::Count,
    exclusions,
    generate::Generator,
    hunt::{Plan, Summary, hunt},
    rig::Rig,
    text,
};

/// Random instructions on the real processor and on the software CPU.
#[derive(Parser)]
struct Options {
    /// Cases
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// Decides all cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first case's number
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only encodings whose names (iced-x86's, such as Add_rm8_r8) begin so; separated by commas
    #[arg(long, default_value = "")]
    only: String,
    /// Reports for each instruction
    #[arg(long, default_value_t = 1)]
    reports: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the case with number FROM, and run nothing
    #[arg(long)]
    show: bool,
    /// Run the case in this file alone
    #[arg(long)]
    case: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "Error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    let prefixes: Vec<&str> = options.only.split(',').collect();
    let generator = Generator::new(options.seed, |code| {
        let name = format!("{code:?}");
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
    if generator.candidates().is_empty() {
        anyhow::bail!(
            "No encoding begins with {:?}: give names as iced-x86 has them",
            options.only
        );
    }
    let mut out = io::stdout().lock();
    if options.show {
        let case = generator.case(options.from);
        for line in text::disassembly(&case) {
            writeln!(out, "# {line}")?;
        }
        out.write_all(text::write(&case).as_bytes())?;
        return Ok(true);
    }
    if let Some(path) = &options.case {
        return one(&mut out, path);
    }
    let plan = Plan {
        seed: options.seed,
        from: options.from,
        cases: options.cases,
        reports: options.reports,
    };
    let mut rig = Rig::new()?;
    let start = Instant::now();
    let mut shown = 0;
    let summary = hunt(&mut rig, &generator, &plan, |done| {
        let seconds = start.elapsed().as_secs();
        if seconds >= shown + PROGRESS_SECONDS {
            shown = seconds;
            let _ = writeln!(io::stderr(), "{done} cases in {seconds} s");
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    if options.json {
        writeln!(out, "{}", json(&plan, &summary, seconds))?;
    } else {
        print(&mut out, &plan, &summary, seconds)?;
    }
    Ok(summary.is_clean())
}

/// Runs a case from a file.
fn one(out: &mut impl Write, path: &Path) -> anyhow::Result<bool> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("Cannot read the case {}", path.display()))?;
    let case = text::read(&text).with_context(|| format!("{} holds no case", path.display()))?;
    let mut rig = Rig::new()?;
    let outcome = &rig.real(slice::from_ref(&case))?[0];
    writeln!(
        out,
        "Exception {} (error code {:#x}, CR2 {:#x}) at {:#x}, RFLAGS {:#x}",
        outcome.vector, outcome.error_code, outcome.fault_address, outcome.rip, outcome.rflags
    )?;
    let differences = rig.compare(&case)?;
    for difference in &differences {
        let Difference {
            what,
            expected,
            actual,
        } = difference;
        writeln!(
            out,
            "{what}: expected {expected}, the software CPU has {actual}"
        )?;
    }
    Ok(differences.is_empty())
}

/// Between two lines of progress.
const PROGRESS_SECONDS: u64 = 10;

fn print(out: &mut impl Write, plan: &Plan, summary: &Summary, seconds: f64) -> io::Result<()> {
    writeln!(
        out,
        "{:16} {:>10} {:>10} {:>10}",
        "mnemonic", "cases", "faults", "different"
    )?;
    let table = summary.coverage.by_mnemonic();
    for (mnemonic, count) in &table {
        let Count {
            cases,
            faults,
            differences,
            ..
        } = count;
        writeln!(
            out,
            "{mnemonic:16} {cases:>10} {faults:>10} {differences:>10}"
        )?;
    }
    for report in &summary.reports {
        writeln!(out, "\n{report}")?;
    }
    for (kind, count) in &summary.kinds {
        writeln!(out, "{count:>8} {kind}")?;
    }
    let missing: Vec<String> = names(summary, |count| count.missing > 0);
    if !missing.is_empty() {
        writeln!(out, "The software CPU lacks {}", missing.join(" "))?;
    }
    let never = names(summary, |count| count.cases == 0);
    if !never.is_empty() {
        writeln!(out, "Never tried: {}", never.join(" "))?;
    }
    writeln!(
        out,
        "{} cases of seed {} in {seconds:.0} s ({:.0} a second): {} mnemonics in {} encodings, {} not compared; {} different, {} when stepped, {} within the program; the real processor changed its mind {} times",
        summary.cases,
        plan.seed,
        summary.cases as f64 / seconds,
        table.len(),
        summary.coverage.iter().count(),
        exclusions::EXCLUDED
            .iter()
            .map(|(mnemonics, _)| mnemonics.len())
            .sum::<usize>(),
        summary.different,
        summary.stepped_otherwise,
        summary.in_program,
        summary.unsteady,
    )
}

fn names(summary: &Summary, wanted: impl Fn(Count) -> bool) -> Vec<String> {
    summary
        .coverage
        .iter()
        .filter(|(_, count)| wanted(*count))
        .map(|(code, _)| format!("{code:?}"))
        .collect()
}

fn json(plan: &Plan, summary: &Summary, seconds: f64) -> serde_json::Value {
    serde_json::json!({
        "seed": plan.seed,
        "from": plan.from,
        "cases": summary.cases,
        "seconds": seconds,
        "different": summary.different,
        "stepped_otherwise": summary.stepped_otherwise,
        "in_program": summary.in_program,
        "unsteady": summary.unsteady,
        "mnemonics": summary.coverage.by_mnemonic(),
        "missing": names(summary, |count| count.missing > 0),
        "never": names(summary, |count| count.cases == 0),
        "excluded": exclusions::EXCLUDED.iter().map(|(mnemonics, reason)| {
            let names: Vec<String> = mnemonics.iter().map(|mnemonic| format!("{mnemonic:?}")).collect();
            serde_json::json!({"mnemonics": names, "reason": reason})
        }).collect::<Vec<_>>(),
        "reports": summary.reports.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
