//! Whether a journal keeps what was promised of it: pure.
//!
//! A journal that was read back is one chain already ([`guest_journal::Chain`]): no record of it is torn or out of its place. What is left to
//! compare is the chain with the answers: each answered record is in it, with the number and the checksum that were answered.

use std::collections::BTreeMap;

use guest_journal::{Payload, Record};

use super::Durable;

/// What became of one client's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalVerdict {
    /// Records that the client was told were durable.
    pub answered: u64,
    /// Records in the journal, of whomever.
    pub in_journal: u64,
    /// Answered, and not in the journal: it ends before them.
    pub lost: u64,
    /// Answered, and another record stands at their number.
    pub contradicted: u64,
    /// Answered, and in the journal more than once.
    pub repeated: u64,
    /// Answered with a number that is not above that of the answer before.
    pub out_of_order: u64,
}

impl JournalVerdict {
    /// Compares `answers`, in the order in which one client got them, with a journal that was read back after the last of them. (Records that were sent
    /// and never answered may be in it or not.)
    #[must_use]
    pub fn new(answers: &[Durable], journal: &[Record]) -> Self {
        let mut occurrences: BTreeMap<Payload, u64> = BTreeMap::new();
        for record in journal {
            *occurrences.entry(record.payload).or_default() += 1;
        }
        let mut verdict = Self {
            answered: answers.len() as u64,
            in_journal: journal.len() as u64,
            ..Self::default()
        };
        let mut highest = 0;
        for answer in answers {
            verdict.out_of_order += u64::from(answer.number <= highest);
            highest = highest.max(answer.number);
            verdict.compare(answer, journal);
            let times = occurrences.get(&answer.payload).copied().unwrap_or(0);
            verdict.repeated += u64::from(times > 1);
        }
        verdict
    }

    fn compare(&mut self, answer: &Durable, journal: &[Record]) {
        let index = answer.number.checked_sub(1);
        let record = index.and_then(|index| journal.get(usize::try_from(index).ok()?));
        match record {
            None => self.lost += 1,
            Some(record) => {
                let same = record.payload == answer.payload && record.checksum() == answer.checksum;
                self.contradicted += u64::from(!same);
            }
        }
    }

    /// Whether every answer was kept.
    #[must_use]
    pub fn passed(&self) -> bool {
        let faults = [
            self.lost,
            self.contradicted,
            self.repeated,
            self.out_of_order,
        ];
        faults == [0; 4]
    }
}

#[cfg(test)]
mod tests {
    use guest_journal::Chain;

    use super::*;

    fn payload(text: &str) -> Payload {
        Payload::new(text.as_bytes()).expect("it fits")
    }

    fn journal(texts: &[&str]) -> Vec<Record> {
        let mut chain = Chain::default();
        texts
            .iter()
            .map(|text| chain.append(payload(text)))
            .collect()
    }

    fn answered(record: &Record) -> Durable {
        Durable {
            mono_ns: 0,
            number: record.number,
            checksum: record.checksum(),
            payload: record.payload,
        }
    }

    /// Lost, contradicted, repeated, out of order.
    fn faults(answers: &[Durable], journal: &[Record]) -> [u64; 4] {
        let verdict = JournalVerdict::new(answers, journal);
        let faults = [
            verdict.lost,
            verdict.contradicted,
            verdict.repeated,
            verdict.out_of_order,
        ];
        assert_eq!(verdict.passed(), faults == [0; 4]);
        faults
    }

    #[test]
    fn what_is_there_between_the_records_of_others_is_no_fault() {
        let journal = journal(&["other 1", "a 1", "other 2", "a 2", "a 3"]);
        let answers = [answered(&journal[1]), answered(&journal[3])];
        assert_eq!(faults(&answers, &journal), [0; 4]);
        let verdict = JournalVerdict::new(&answers, &journal);
        assert_eq!((verdict.answered, verdict.in_journal), (2, 5));
    }

    #[test]
    fn every_fault_is_counted() {
        let whole = journal(&["a 1", "a 2", "a 3"]);
        let answers: Vec<Durable> = whole.iter().map(answered).collect();
        assert_eq!(faults(&answers, &whole[..1]), [2, 0, 0, 0]);
        let other = journal(&["a 1", "b 2", "a 3"]);
        assert_eq!(faults(&answers, &other), [0, 2, 0, 0]);
        let twice = journal(&["a 1", "a 2", "a 3", "a 2"]);
        assert_eq!(faults(&answers, &twice), [0, 0, 1, 0]);
        let swapped = [answers[1], answers[0], answers[2]];
        assert_eq!(faults(&swapped, &whole), [0, 0, 0, 1]);
        let mut zero = answers[0];
        zero.number = 0;
        assert_eq!(faults(&[zero], &whole), [1, 0, 0, 1]);
    }
}
