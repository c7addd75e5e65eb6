//! Date and time of day as the clock's registers hold them.

use serde::{Deserialize, Serialize};

/// Seconds in a day.
pub(super) const DAY_S: i64 = 86_400;
/// 0000-01-01 00:00:00, seconds since 1970.
const FIRST_S: i64 = -62_167_219_200;
/// 9999-12-31 23:59:59, seconds since 1970.
const LAST_S: i64 = 253_402_300_799;

/// Seconds since 1970, brought into the years that the registers can show (0 to 9999).
pub(super) fn clamp_s(unix_s: i64) -> i64 {
    unix_s.clamp(FIRST_S, LAST_S)
}

/// A point in time, in the proleptic Gregorian calendar. Fields that a guest wrote may be out of
/// range until they are converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Calendar {
    pub(super) second: u8,
    pub(super) minute: u8,
    pub(super) hour: u8,
    /// 1 to 31.
    pub(super) day: u8,
    /// 1 to 12.
    pub(super) month: u8,
    /// Years of the century, 0 to 99.
    pub(super) year: u8,
    pub(super) century: u8,
}

impl Calendar {
    /// The calendar at `unix_s`, clamped by [`clamp_s`].
    pub(super) fn at(unix_s: i64) -> Self {
        let unix_s = clamp_s(unix_s);
        let (days, second_of_day) = (unix_s.div_euclid(DAY_S), unix_s.rem_euclid(DAY_S));
        let (year, month, day) = civil_from_days(days);
        Self {
            second: (second_of_day % 60) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            hour: (second_of_day / 3600) as u8,
            day,
            month,
            year: (year % 100) as u8,
            century: (year / 100) as u8,
        }
    }

    /// Seconds since 1970, clamped by [`clamp_s`]. Fields out of range carry over; a month out of range is
    /// the nearest one.
    pub(super) fn unix_s(&self) -> i64 {
        let year = i64::from(self.century) * 100 + i64::from(self.year);
        let month = i64::from(self.month.clamp(1, 12));
        let days = days_from_civil(year, month) + i64::from(self.day) - 1;
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute);
        clamp_s(days * DAY_S + minutes * 60 + i64::from(self.second))
    }

    /// 1 (Sunday) to 7.
    pub(super) fn weekday(&self) -> u8 {
        // 1970-01-01 was a Thursday, the fifth day.
        ((self.unix_s().div_euclid(DAY_S) + 4).rem_euclid(7) + 1) as u8
    }
}

/// Days from 1970-01-01 to the first day of a month.
/// H. Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01; the same source's `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8;
    let month = ((shifted_month + 2) % 12 + 1) as u8;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        let date = |unix_s| {
            let at = Calendar::at(unix_s);
            (
                at.century,
                at.year,
                at.month,
                at.day,
                at.hour,
                at.minute,
                at.second,
                at.weekday(),
            )
        };
        assert_eq!(date(0), (19, 70, 1, 1, 0, 0, 0, 5));
        assert_eq!(date(951_782_400), (20, 0, 2, 29, 0, 0, 0, 3));
        assert_eq!(date(1_763_706_541), (20, 25, 11, 21, 6, 29, 1, 6));
        assert_eq!(date(i64::MAX), (99, 99, 12, 31, 23, 59, 59, 6));
        assert_eq!(date(i64::MIN).0, 0);
    }

    proptest! {
        #[test]
        fn there_and_back(unix_s in FIRST_S..=LAST_S) {
            prop_assert_eq!(Calendar::at(unix_s).unix_s(), unix_s);
        }

        #[test]
        fn any_fields_are_a_time(fields: [u8; 7]) {
            let [second, minute, hour, day, month, year, century] = fields;
            let unix_s = Calendar { second, minute, hour, day, month, year, century }.unix_s();
            prop_assert!((FIRST_S..=LAST_S).contains(&unix_s));
        }
    }
}
