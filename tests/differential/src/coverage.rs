//! Which instructions were tried, and how they ended.

use std::collections::BTreeMap;

use iced_x86::{Code, Decoder, DecoderOptions};

use crate::{case::Case, rig::Verdict};

/// #GP: the HLT behind a case.
const GENERAL_PROTECTION: u8 = 13;

/// How often an encoding was the first of a case.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Count {
    /// Cases.
    pub cases: u64,
    /// Those that ended by another exception than HLT's #GP.
    pub faults: u64,
    /// Those in which the software CPU raised #UD and the real processor did not.
    pub missing: u64,
    /// Those with a difference.
    pub differences: u64,
}

/// Counts by encoding.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<Code, Count>,
}

impl Coverage {
    /// Nothing yet, for these encodings.
    #[must_use]
    pub fn new(candidates: &[Code]) -> Self {
        let counts = candidates
            .iter()
            .map(|code| (*code, Count::default()))
            .collect();
        Self { counts }
    }

    /// Adds a case.
    pub fn add(&mut self, case: &Case, verdict: &Verdict) {
        let decoder = Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE);
        for (index, instruction) in decoder.into_iter().enumerate() {
            let count = self.counts.entry(instruction.code()).or_default();
            count.cases += 1;
            if index == 0 {
                count.faults += u64::from(verdict.vector != GENERAL_PROTECTION);
                count.differences += u64::from(!verdict.same);
                count.missing += u64::from(verdict.is_missing());
            }
        }
    }

    /// Encodings and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Code, Count)> + '_ {
        self.counts.iter().map(|(code, count)| (*code, *count))
    }

    /// Encodings that were never tried.
    #[must_use]
    pub fn never(&self) -> Vec<Code> {
        self.iter()
            .filter(|(_, count)| count.cases == 0)
            .map(|(code, _)| code)
            .collect()
    }

    /// Counts by mnemonic.
    #[must_use]
    pub fn by_mnemonic(&self) -> BTreeMap<String, Count> {
        let mut sums: BTreeMap<String, Count> = BTreeMap::new();
        for (code, count) in self.iter() {
            let sum = sums.entry(format!("{:?}", code.mnemonic())).or_default();
            sum.cases += count.cases;
            sum.faults += count.faults;
            sum.missing += count.missing;
            sum.differences += count.differences;
        }
        sums
    }
}
