//! What CI runs of the differential test: a bounded number of cases, the regression cases, and that the test itself finds mistakes.

use std::{fs, path::Path};

use lockstep_differential::{
    case::Case,
    generate::Generator,
    hunt::{Plan, hunt, smaller},
    kvm::KvmError,
    rig::Rig,
    text,
};

/// Cases of a run in CI: about half a minute.
const CASES: u64 = 100_000;
const SEED: u64 = 1;

/// Both processors, or `None` with a message where there is no KVM.
fn rig() -> Option<Rig> {
    match Rig::new() {
        Ok(rig) => Some(rig),
        Err(KvmError::Open(error)) => {
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED: no real processor to compare with: /dev/kvm: {error}\n"),
            );
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn random_cases_are_the_same_on_both() {
    let Some(mut rig) = rig() else { return };
    let generator = Generator::new(SEED, |_| true);
    let plan = Plan {
        seed: SEED,
        from: 0,
        cases: CASES,
        reports: 1,
    };
    let summary = hunt(&mut rig, &generator, &plan, |_| {}).expect("KVM runs");
    let reports: Vec<String> = summary.reports.iter().map(ToString::to_string).collect();
    assert!(
        summary.is_clean(),
        "{} of {CASES} cases differ:\n{}",
        summary.different,
        reports.join("\n")
    );
    assert!(
        summary.unsteady <= CASES / 10_000,
        "the real processor changed its mind {} times",
        summary.unsteady
    );
    let never = summary.coverage.never();
    assert!(never.is_empty(), "never tried: {never:?}");
    let fewest = summary.coverage.iter().map(|(_, count)| count.cases).min();
    assert!(fewest >= Some(20), "an encoding was tried {fewest:?} times");
}

fn regressions() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut cases: Vec<(String, Case)> = fs::read_dir(folder)
        .expect("the folder of regression cases")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path).expect("a regression case");
            let case = text::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.into_owned(), case)
        })
        .collect();
    cases.sort_by(|one, other| one.0.cmp(&other.0));
    cases
}

#[test]
fn what_once_differed_is_the_same() {
    let Some(mut rig) = rig() else { return };
    let regressions = regressions();
    assert!(!regressions.is_empty());
    for (name, case) in regressions {
        let differences = rig.compare(&case).expect("KVM runs");
        assert!(
            differences.is_empty(),
            "{name}: {:?}\n{differences:#?}",
            text::disassembly(&case)
        );
    }
}

#[test]
fn the_real_processor_is_the_same_twice() {
    let Some(mut rig) = rig() else { return };
    let generator = Generator::new(7, |_| true);
    let cases: Vec<Case> = (0..200).map(|number| generator.case(number)).collect();
    let first = rig.real(&cases).expect("KVM runs");
    for (index, case) in cases.iter().enumerate().rev() {
        let again = rig.real(std::slice::from_ref(case)).expect("KVM runs");
        assert_eq!(again[0], first[index], "case {index}, in a batch and alone");
    }
}

/// Two cases that differ in one register stand for two processors that differ.
#[test]
fn a_difference_is_found_and_made_small() {
    let Some(mut rig) = rig() else { return };
    let case = text::read(
        "code = 48 01 d8 48 31 c9 # add rax,rbx; xor rcx,rcx
         rax = 0x7fffffffffffffff
         rbx = 0x1
         r9 = 0x1234
         xmm3 = 0x55",
    )
    .expect("a case");
    let mistaken = Case {
        general: {
            let mut general = case.general;
            general[3] = 2;
            general
        },
        ..case.clone()
    };
    let outcomes = rig.real(&[case.clone(), mistaken]).expect("KVM runs");
    let found = lockstep_differential::compare::differences(&case, &outcomes[0], &outcomes[1]);
    let what: Vec<&str> = found
        .iter()
        .map(|difference| difference.what.as_str())
        .collect();
    assert_eq!(what, ["rax", "rbx"]);
    let small = lockstep_differential::minimise::minimise(&case, |candidate| {
        candidate.general[0] >> 32 == 0x7FFF_FFFF && candidate.code.starts_with(&[0x48, 1, 0xD8])
    });
    assert_eq!(small.code, [0x48, 1, 0xD8]);
    assert_eq!(small.general[9], 0);
    assert_eq!(small.float.xmm[3], 0);
    // Where nothing differs there is nothing to keep.
    assert_eq!(smaller(&mut rig, &small).expect("KVM runs").general[3], 0);
}
