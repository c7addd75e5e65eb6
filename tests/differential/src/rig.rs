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

/// Both processors.
pub struct Rig {
    real: RealCpu,
    soft: SoftCpu,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The exception that ended it on the real processor.
    pub vector: u8,
    /// The exception that ended it on the software CPU; `None` if it ended otherwise.
    pub soft_vector: Option<u8>,
    /// Whether the two agree.
    pub same: bool,
    /// What the real processor said, if they do not.
    pub expected: Option<Box<Outcome>>,
}

impl Verdict {
    /// Whether the software CPU lacks the instruction.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        const INVALID_OPCODE: u8 = 6;
        self.soft_vector == Some(INVALID_OPCODE) && self.vector != INVALID_OPCODE
    }
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

    /// Runs a batch on both; returns how each case went, and the numbers of those that go another way when the software CPU runs the
    /// whole test program, as the real processor does.
    ///
    /// # Errors
    /// If KVM fails.
    pub fn batch(&mut self, cases: &[Case]) -> Result<(Vec<Verdict>, Vec<usize>), KvmError> {
        let expected = self.real(cases)?;
        let alone: Vec<Result<Outcome, Left>> =
            cases.iter().map(|case| self.soft.run(case)).collect();
        let together = self.soft.run_batch(cases);
        let otherwise = (0..cases.len())
            .filter(|&index| match (&alone[index], &together) {
                (Ok(alone), Ok(together)) => {
                    !differences(&cases[index], alone, &together[index]).is_empty()
                }
                // Where a case does not end, the batch cannot.
                (alone, together) => alone.is_ok() && together.is_err(),
            })
            .collect();
        let verdicts = (0..cases.len())
            .map(|index| {
                let same = compare(&cases[index], &expected[index], &alone[index]).is_empty();
                Verdict {
                    vector: expected[index].vector,
                    soft_vector: alone[index].as_ref().ok().map(|outcome| outcome.vector),
                    same,
                    expected: (!same).then(|| Box::new(expected[index].clone())),
                }
            })
            .collect();
        Ok((verdicts, otherwise))
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

    /// Runs cases on the real processor alone.
    ///
    /// # Errors
    /// If KVM fails.
    pub fn real(&mut self, cases: &[Case]) -> Result<Vec<Outcome>, KvmError> {
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
