//! Both processors side by side.
//!
//! ```text
//!  cases ──┬─► real processor ──► outcomes ─┐
//!          └─► software CPU ────► outcomes ─┴─► compared ─► differences ─► minimised ─► report
//! ```

use crate::{
    case::{Case, Outcome},
    compare::{Difference, differences},
    kvm::{KvmError, RealCpu},
    program::assemble,
    soft::{Left, SoftCpu},
};

/// A case on which the two differ.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The case.
    pub case: Case,
    /// In what.
    pub differences: Vec<Difference>,
}

/// Both processors.
pub struct Rig {
    real: RealCpu,
    soft: SoftCpu,
}

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The exception that ended it on the real processor.
    pub vector: u8,
    /// The exception that ended it on the software CPU; `None` if it ended otherwise.
    pub soft_vector: Option<u8>,
    /// Whether the two agree.
    pub same: bool,
}

impl Rig {
    /// Both processors with the test program.
    ///
    /// # Errors
    /// [`KvmError::Open`] without a usable `/dev/kvm`.
    ///
    /// # Panics
    /// If the test program cannot be assembled, which would be a mistake in [`crate::program`].
    pub fn new() -> Result<Self, KvmError> {
        let program = || assemble().expect("the test program is valid");
        Ok(Self {
            real: RealCpu::new(program())?,
            soft: SoftCpu::new(program()),
        })
    }

    /// Runs a batch on both; returns how each case went.
    ///
    /// # Errors
    /// If KVM fails.
    pub fn batch(&mut self, cases: &[Case]) -> Result<Vec<Verdict>, KvmError> {
        let expected = self.real(cases)?;
        Ok(cases
            .iter()
            .zip(&expected)
            .map(|(case, expected)| {
                let actual = self.soft.run(case);
                Verdict {
                    vector: expected.vector,
                    soft_vector: actual.as_ref().ok().map(|outcome| outcome.vector),
                    same: compare(case, expected, &actual).is_empty(),
                }
            })
            .collect())
    }

    /// Runs a batch on both, the software CPU executing the test program itself; returns the cases that went wrong.
    ///
    /// # Errors
    /// If KVM fails.
    pub fn whole_program(&mut self, cases: &[Case]) -> Result<Vec<usize>, KvmError> {
        let expected = self.real(cases)?;
        let Ok(actual) = self.soft.run_batch(cases) else {
            return Ok((0..cases.len()).collect());
        };
        Ok((0..cases.len())
            .filter(|index| {
                !differences(&cases[*index], &expected[*index], &actual[*index]).is_empty()
            })
            .collect())
    }

    /// Whether the software CPU, going instruction by instruction, does what it does in one go.
    #[must_use]
    pub fn steps_as_it_runs(&mut self, case: &Case) -> bool {
        let ran = self.soft.run(case);
        let retired = self.soft.retired();
        let stepped = self.soft.step(case);
        ran == stepped && retired == self.soft.retired()
    }

    /// Runs one case on both.
    ///
    /// # Errors
    /// If KVM fails.
    pub fn compare(&mut self, case: &Case) -> Result<Vec<Difference>, KvmError> {
        let expected = self.real(std::slice::from_ref(case))?;
        let actual = self.soft.run(case);
        Ok(compare(case, &expected[0], &actual))
    }

    fn real(&mut self, cases: &[Case]) -> Result<Vec<Outcome>, KvmError> {
        let outcomes = self.real.run(cases);
        if outcomes.is_err() {
            // The guest is lost; the next case gets a new one.
            self.real = RealCpu::new(assemble().expect("the test program is valid"))?;
        }
        outcomes
    }
}

fn compare(case: &Case, expected: &Outcome, actual: &Result<Outcome, Left>) -> Vec<Difference> {
    match actual {
        Ok(actual) => differences(case, expected, actual),
        Err(left) => vec![Difference {
            what: "end".to_owned(),
            expected: format!("exception {} at {:#x}", expected.vector, expected.rip),
            actual: format!("{left:x?}"),
        }],
    }
}
