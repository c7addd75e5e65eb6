//! What became of a client's requests: pure.
//!
//! The service counts: the answer to the n-th request is n. A number that is missing was lost, one that comes again was
//! repeated, one that comes after a later one is out of order.

/// Counts answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    requests: u64,
    /// Every number up to here has been answered, or is in `missing`.
    highest: u64,
    missing: std::collections::BTreeSet<u64>,
    answers: u64,
    repeated: u64,
    out_of_order: u64,
}

/// More numbers than this are never kept as missing: an answer that far ahead is out of order.
const MAX_GAP: u64 = 65_536;

impl Tally {
    /// A request was sent.
    pub fn request(&mut self) {
        self.requests += 1;
    }

    /// `number` was received.
    pub fn answer(&mut self, number: u64) {
        self.answers += 1;
        let next = self.highest + 1;
        if number == next {
            self.highest = number;
        } else if number > next && number - next <= MAX_GAP {
            self.missing.extend(next..number);
            self.highest = number;
        } else if self.missing.remove(&number) || number > next {
            self.out_of_order += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// Requests sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Answers received, whatever they said.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Requests that wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.requests.saturating_sub(self.answers)
    }

    /// Numbers that should have come and have not: requests still in flight count.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.missing.len() as u64 + self.requests.saturating_sub(self.highest)
    }

    /// Numbers that came again.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Numbers that came late, or far too early.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lost, repeated, out of order.
    fn faults(requests: u64, answers: &[u64]) -> (u64, u64, u64) {
        let mut tally = Tally::default();
        (0..requests).for_each(|_| tally.request());
        answers.iter().for_each(|number| tally.answer(*number));
        (tally.lost(), tally.repeated(), tally.out_of_order())
    }

    #[test]
    fn every_fault_is_counted_once() {
        assert_eq!(faults(4, &[1, 2, 3, 4]), (0, 0, 0));
        assert_eq!(faults(4, &[1, 2]), (2, 0, 0));
        assert_eq!(faults(4, &[1, 2, 4]), (1, 0, 0));
        assert_eq!(faults(4, &[1, 2, 2, 3, 4]), (0, 1, 0));
        assert_eq!(faults(4, &[1, 3, 2, 4]), (0, 0, 1));
        assert_eq!(faults(4, &[1, 3, 2, 2, 4]), (0, 1, 1));
        assert_eq!(faults(2, &[1, 0]), (1, 1, 0));
    }

    #[test]
    fn a_request_that_was_counted_twice_loses_a_number() {
        assert_eq!(faults(4, &[1, 3, 4, 5]), (1, 0, 0));
    }

    #[test]
    fn a_wild_number_takes_no_memory() {
        assert_eq!(faults(2, &[1, u64::MAX]), (1, 0, 1));
    }

    #[test]
    fn what_is_in_flight_has_been_sent_and_not_answered() {
        let mut tally = Tally::default();
        tally.request();
        tally.request();
        tally.answer(1);
        assert_eq!(
            (tally.requests(), tally.answers(), tally.in_flight()),
            (2, 1, 1)
        );
    }
}
