//! A guest that checks the processor: one line for each check, and a verdict.
//!
//! The option `skip=NAME,NAME` leaves checks out, visibly: for processors of which it is known that they cannot do that.

use super::serial::Line;
use crate::options::Options;

/// The checks of one guest.
pub struct Checks {
    guest: &'static str,
    skip: &'static [u8],
    failed: u64,
}

impl Checks {
    /// None yet.
    #[must_use]
    pub fn new(guest: &'static str, options: &Options<'static>) -> Self {
        Self {
            guest,
            skip: options.value("skip").unwrap_or_default(),
            failed: 0,
        }
    }

    /// Whether the check `name` is wanted, for checks that do harm where they fail. Says so if it is not.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        let mut skipped = self.skip.split(|byte| *byte == b',');
        let wanted = !skipped.any(|word| word == name.as_bytes());
        if !wanted {
            self.line(name).text(" skipped").end();
        }
        wanted
    }

    /// Says that there is nothing to check, and why.
    pub fn absent(&self, name: &str, why: &str) {
        self.line(name).text(" absent: ").text(why).end();
    }

    /// One check, if it is wanted: each value, found and expected, by its name.
    pub fn check(&mut self, name: &str, values: &[(&str, u64, u64)]) {
        if !self.wants(name) {
            return;
        }
        let mut line = self.line(name);
        let mut is_right = true;
        for (value, found, expected) in values {
            if found != expected {
                is_right = false;
                line = line.text(" ").text(value).text("=").hex(*found);
                line = line.text(" expected=").hex(*expected);
            }
        }
        self.failed += u64::from(!is_right);
        line.text(if is_right { " ok" } else { " FAILED" }).end();
    }

    /// The verdict.
    pub fn end(self) {
        let line = Line.text(self.guest);
        if self.failed == 0 {
            line.text(": ok").end();
        } else {
            line.text(": FAILED checks=").decimal(self.failed).end();
        }
    }

    fn line(&self, name: &str) -> Line {
        Line.text(self.guest).text(" check=").text(name)
    }
}
