//! A run over many cases: batches, counts, and a report for each kind of difference.

use std::{collections::BTreeMap, slice};

use iced_x86::{Code, Decoder, DecoderOptions};

use crate::{
    case::Case,
    compare::{Difference, differences},
    coverage::Coverage,
    generate::Generator,
    kvm::KvmError,
    layout::BATCH,
    minimise::minimise,
    rig::{Rig, Verdict},
    text,
};

/// Every so many cases one is run instruction by instruction as well.
const STEPPED: u64 = 16;
/// Reports of a run; beyond, differences are only counted.
const LIMIT_REPORTS: usize = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides all cases.
    pub seed: u64,
    /// The first case's number.
    pub from: u64,
    /// How many.
    pub cases: u64,
    /// Reports for each instruction.
    pub reports: u64,
}

/// A difference, made small.
#[derive(Clone, Debug)]
pub struct Report {
    /// Seed and number of the case that it was found in.
    pub found_in: (u64, u64),
    /// The case.
    pub case: Case,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Summary {
    /// Cases that ran.
    pub cases: u64,
    /// Cases that differ.
    pub different: u64,
    /// Cases in which the real processor did something else when it was asked again: the host's doing.
    pub unsteady: u64,
    /// Cases in which the software CPU did something else when it went instruction by instruction.
    pub stepped_otherwise: u64,
    /// Cases that differ when the software CPU runs the whole test program.
    pub in_program: u64,
    /// What was tried.
    pub coverage: Coverage,
    /// By the instructions of the smallest case: how many differences.
    pub kinds: BTreeMap<String, u64>,
    /// Reports.
    pub reports: Vec<Report>,
}

impl Summary {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.different == 0 && self.stepped_otherwise == 0 && self.in_program == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seed, number) = self.found_in;
        writeln!(f, "# Found with --seed {seed} --from {number} --cases 1")?;
        for line in text::disassembly(&self.case) {
            writeln!(f, "# {line}")?;
        }
        f.write_str(&text::write(&self.case))?;
        for difference in &self.differences {
            let Difference {
                what,
                expected,
                actual,
            } = difference;
            writeln!(
                f,
                "# {what}: expected {expected}, the software CPU has {actual}"
            )?;
        }
        Ok(())
    }
}

/// Runs a plan. `progress` is told how many cases are done.
///
/// # Errors
/// If KVM fails.
pub fn hunt(
    rig: &mut Rig,
    generator: &Generator,
    plan: &Plan,
    mut progress: impl FnMut(u64),
) -> Result<Summary, KvmError> {
    let mut summary = Summary {
        cases: 0,
        different: 0,
        unsteady: 0,
        stepped_otherwise: 0,
        in_program: 0,
        coverage: Coverage::new(generator.candidates()),
        kinds: BTreeMap::new(),
        reports: Vec::new(),
    };
    let end = plan.from + plan.cases;
    let mut number = plan.from;
    while number < end {
        let last = end.min(number + BATCH as u64);
        let cases: Vec<Case> = (number..last).map(|n| generator.case(n)).collect();
        let (verdicts, in_program) = rig.batch(&cases)?;
        for (index, verdict) in verdicts.into_iter().enumerate() {
            let case = &cases[index];
            summary.coverage.add(case, &verdict);
            if !verdict.same {
                report(
                    rig,
                    plan,
                    number + index as u64,
                    case,
                    &verdict,
                    &mut summary,
                )?;
            }
            if (number + index as u64).is_multiple_of(STEPPED) && !rig.steps_as_it_runs(case) {
                summary.stepped_otherwise += 1;
                summary.note(case, number + index as u64, plan, stepping());
            }
        }
        // What differs alone was reported; what differs in the program only is a matter of caches or of the harness's own instructions.
        for index in in_program {
            summary.in_program += 1;
            summary.note(&cases[index], number + index as u64, plan, program());
        }
        number = last;
        summary.cases = number - plan.from;
        progress(summary.cases);
    }
    Ok(summary)
}

fn stepping() -> Vec<Difference> {
    vec![Difference {
        what: "state after stepping".to_owned(),
        expected: "that of running".to_owned(),
        actual: "another, or another count".to_owned(),
    }]
}

fn program() -> Vec<Difference> {
    vec![Difference {
        what: "outcome within the test program".to_owned(),
        expected: "that of the case alone".to_owned(),
        actual: "another".to_owned(),
    }]
}

impl Summary {
    fn note(&mut self, case: &Case, number: u64, plan: &Plan, differences: Vec<Difference>) {
        if self.reports.len() < LIMIT_REPORTS {
            self.reports.push(Report {
                found_in: (plan.seed, number),
                case: case.clone(),
                differences,
            });
        }
    }
}

/// Counts a difference, and reports it if it is one of the first of its kind.
fn report(
    rig: &mut Rig,
    plan: &Plan,
    number: u64,
    case: &Case,
    verdict: &Verdict,
    summary: &mut Summary,
) -> Result<(), KvmError> {
    if rig.compare(case)?.is_empty() {
        let again = &rig.real(slice::from_ref(case))?[0];
        let first = verdict.expected.as_deref().unwrap_or(again);
        summary.unsteady += 1;
        summary.note(case, number, plan, differences(case, first, again));
        return Ok(());
    }
    summary.different += 1;
    if verdict.is_missing() && !summary.reports.is_empty() {
        // An instruction that is not there: the table says which.
        return Ok(());
    }
    if summary.reports.len() >= LIMIT_REPORTS {
        return Ok(());
    }
    let small = smaller(rig, case)?;
    let kind: Vec<String> = codes(&small).map(|code| format!("{code:?}")).collect();
    let count = summary.kinds.entry(kind.join(" ")).or_default();
    *count += 1;
    if *count <= plan.reports {
        let differences = rig.compare(&small)?;
        summary.note(&small, number, plan, differences);
    }
    Ok(())
}

fn codes(case: &Case) -> impl Iterator<Item = Code> + '_ {
    Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE)
        .into_iter()
        .map(|instruction| instruction.code())
}

/// The smallest case with a difference of the same kind.
///
/// # Errors
/// If KVM fails at the beginning.
pub fn smaller(rig: &mut Rig, case: &Case) -> Result<Case, KvmError> {
    let wanted = kind(&rig.compare(case)?);
    Ok(minimise(case, |candidate| {
        rig.compare(candidate)
            .is_ok_and(|differences| kind(&differences) == wanted)
    }))
}

/// What makes two differences of one kind: what differs first, and, if it is the exception, in what way.
fn kind(differences: &[Difference]) -> Option<(String, String)> {
    let first = differences.first()?;
    let way = if first.what == "vector" {
        format!("{} {}", first.expected, first.actual)
    } else {
        String::new()
    };
    Some((first.what.clone(), way))
}
