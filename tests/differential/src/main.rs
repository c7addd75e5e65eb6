//! The long run: `differential --cases 2000000`.

use std::{collections::BTreeMap, io::Write, time::Instant};

use clap::Parser;
use lockstep_differential::{
    case::Case, coverage::Coverage, generate::Generator, layout::BATCH, minimise::minimise,
    rig::Rig, text,
};

/// Random instructions on the real processor and on the software CPU; ends with 1 if they differ.
#[derive(Parser)]
struct Options {
    /// Cases.
    #[arg(long, default_value_t = 100_000)]
    cases: u64,
    /// Decides all cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first case's number.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only encodings whose name (iced-x86's, such as Add_rm8_r8) begins with this; several are separated by commas.
    #[arg(long, default_value = "")]
    only: String,
    /// Differences to report for each mnemonic.
    #[arg(long, default_value_t = 1)]
    reports: u64,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Prints the counts of every mnemonic.
    #[arg(long)]
    table: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let prefixes: Vec<&str> = options.only.split(',').collect();
    let generator = Generator::new(options.seed, |code| {
        let name = format!("{code:?}");
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
    let mut rig = Rig::new()?;
    let mut coverage = Coverage::new(generator.candidates());
    let mut reported: BTreeMap<String, u64> = BTreeMap::new();
    let mut out = std::io::stdout().lock();
    let start = Instant::now();
    let mut different = 0;
    let mut number = options.from;
    let end = options.from + options.cases;
    while number < end {
        let last = end.min(number + BATCH as u64);
        let cases: Vec<Case> = (number..last)
            .map(|number| generator.case(number))
            .collect();
        let verdicts = rig.batch(&cases)?;
        for (index, verdict) in verdicts.into_iter().enumerate() {
            coverage.add(&cases[index], verdict);
            if verdict.same {
                continue;
            }
            different += 1;
            let case = &cases[index];
            let lines = text::disassembly(case);
            let small = if lines.len() > 1 {
                smaller(&mut rig, case)?
            } else {
                case.clone()
            };
            let key = text::disassembly(&small)
                .iter()
                .map(|l| l.split(['(', ')']).nth_back(1).unwrap_or("?").to_owned())
                .collect::<Vec<_>>()
                .join(";");
            let count = reported.entry(key).or_default();
            *count += 1;
            if *count > options.reports {
                continue;
            }
            let small = smaller(&mut rig, case)?;
            writeln!(
                out,
                "--- seed {} case {}",
                options.seed,
                number + index as u64
            )?;
            for line in text::disassembly(&small) {
                writeln!(out, "# {line}")?;
            }
            write!(out, "{}", text::write(&small))?;
            for d in rig.compare(&small)? {
                writeln!(out, "#   {}: real {} soft {}", d.what, d.expected, d.actual)?;
            }
        }
        number = last;
    }
    eprintln!(
        "{} cases, {different} different, {:.1} us a case",
        options.cases,
        start.elapsed().as_micros() as f64 / options.cases as f64
    );
    for (k, n) in &reported {
        eprintln!("{n:6} {k}");
    }
    if options.table {
        for (m, c) in coverage.by_mnemonic() {
            writeln!(
                out,
                "{m:16} {:8} {:8} {:8} {:8}",
                c.cases, c.faults, c.missing, c.differences
            )?;
        }
    }
    eprintln!("never: {:?}", coverage.never());
    let missing: Vec<_> = coverage
        .iter()
        .filter(|(_, c)| c.missing > 0)
        .map(|(c, _)| c)
        .collect();
    eprintln!("missing: {:?}", missing);
    let _ = options.json;
    Ok(())
}

fn smaller(rig: &mut Rig, case: &Case) -> anyhow::Result<Case> {
    let kind = |differences: &[lockstep_differential::compare::Difference]| {
        differences.first().map(|d| {
            if d.what == "vector" {
                (d.what.clone(), d.expected.clone(), d.actual.clone())
            } else {
                (d.what.clone(), String::new(), String::new())
            }
        })
    };
    let wanted = kind(&rig.compare(case)?);
    Ok(minimise(case, |c| {
        rig.compare(c).is_ok_and(|d| kind(&d) == wanted)
    }))
}
