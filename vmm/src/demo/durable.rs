//! What the demo has shown of the disk: whether every record that was answered outlived the primary. Pure.
//!
//! In: what the journal's client was told, and the disk as it is after the guest's shutdown ([`LeftOnDisk`]). Out: counts for
//! programs and readers, and faults in sentences.

use std::fmt;

use serde::Serialize;

use super::{
    JournalVerdict, Timeline,
    journal::{Durable, RECORD_BYTES, read_back},
    report::rounded,
};

/// A disk that no machine uses any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOnDisk {
    /// How many records there are, as the guest said when it shut down.
    pub said: u64,
    /// The journal's bytes.
    pub journal: Vec<u8>,
    /// What `e2fsck` has against the file system.
    pub file_system_fault: Option<String>,
}

/// The journal's part of a round. The names are fixed: programs read them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DurableReport {
    /// Records that the guest said were durable.
    pub answered: u64,
    /// Of these, by the primary.
    pub answered_before: u64,
    /// Of these, by the backup, live.
    pub answered_after: u64,
    /// Records that were sent before the kill and that the primary did not answer.
    pub in_flight_at_kill: u64,
    /// Records that were found on the disk, whole and in order.
    pub on_disk: u64,
    /// Answered, and not among them.
    pub lost: u64,
    /// Answered, and something else is on the disk in their place.
    pub contradicted: u64,
    /// Answered, and more than once on the disk.
    pub repeated: u64,
    /// Answered with a number that was not above that before it.
    pub out_of_order: u64,
    /// On the disk from the first one on that is torn or out of its place.
    pub torn: u64,
    /// `e2fsck -fn` has nothing against the file system.
    pub file_system_clean: bool,
    /// From SIGKILL until the client was told of the first record that the backup made durable.
    pub killed_to_first_durable_ms: Option<f64>,
    #[serde(skip)]
    other_faults: Vec<String>,
}

impl DurableReport {
    /// Judges the records that were `answered`, of `sent_before` that were sent before the kill, by what is `left`.
    #[must_use]
    pub fn new(
        answered: &[Durable],
        sent_before: u64,
        timeline: &Timeline,
        left: &LeftOnDisk,
    ) -> Self {
        let (records, fault) = read_back(&left.journal);
        let verdict = JournalVerdict::new(answered, &records);
        let whole_bytes = records.len() * RECORD_BYTES;
        let before = timeline.durable_of_primary(answered);
        let first_of_backup = answered.get(before).map(|durable| durable.mono_ns);
        let mut other_faults = Vec::new();
        if let Some(fault) = fault {
            let number = records.len() + 1;
            other_faults.push(format!("record {number} on the disk {fault}"));
        }
        if left.said != verdict.in_journal {
            other_faults.push(format!(
                "the guest said that there were {} records, and {} are on the disk",
                left.said, verdict.in_journal
            ));
        }
        if let Some(fault) = &left.file_system_fault {
            other_faults.push(format!("the disk's file system is not clean: {fault}"));
        }
        Self {
            answered: verdict.answered,
            answered_before: before as u64,
            answered_after: verdict.answered - before as u64,
            in_flight_at_kill: sent_before.saturating_sub(before as u64),
            on_disk: verdict.in_journal,
            lost: verdict.lost,
            contradicted: verdict.contradicted,
            repeated: verdict.repeated,
            out_of_order: verdict.out_of_order,
            torn: (left.journal.len() - whole_bytes).div_ceil(RECORD_BYTES) as u64,
            file_system_clean: left.file_system_fault.is_none(),
            killed_to_first_durable_ms: timeline.since_kill_ms(first_of_backup).map(rounded),
            other_faults,
        }
    }

    /// What went wrong, in sentences; empty if all went well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let counts = [
            ("lost", self.lost),
            ("contradicted by the disk", self.contradicted),
            ("repeated on the disk", self.repeated),
            ("answered out of order", self.out_of_order),
        ];
        let counted = counts.into_iter().filter(|(_, count)| *count > 0);
        let mut faults: Vec<String> = counted
            .map(|(what, count)| format!("{count} durable records were {what}"))
            .collect();
        faults.extend_from_slice(&self.other_faults);
        if self.answered_after == 0 {
            faults.push("the backup has made no record durable".into());
        }
        faults
    }
}

/// Two lines.
impl fmt::Display for DurableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answered,
            answered_before,
            answered_after,
            on_disk,
            lost,
            contradicted,
            repeated,
            out_of_order,
            torn,
            ..
        } = self;
        writeln!(
            f,
            "  {answered} durable records ({answered_before} before, {answered_after} after): {lost} lost, {contradicted} contradicted, \
             {repeated} repeated, {out_of_order} out of order"
        )?;
        let clean = if self.file_system_clean {
            "clean"
        } else {
            "NOT CLEAN"
        };
        write!(
            f,
            "  the disk after the guest's shutdown: {on_disk} records in order, {torn} torn, file system {clean}"
        )
    }
}

#[cfg(test)]
mod tests {
    use guest_journal::{Chain, Payload, Record};

    use super::*;

    const BEFORE: u64 = 3;

    fn journal(texts: &[&str]) -> Vec<Record> {
        let mut chain = Chain::default();
        let payload = |text: &&str| Payload::new(text.as_bytes()).expect("it fits");
        texts
            .iter()
            .map(|text| chain.append(payload(text)))
            .collect()
    }

    /// As told of `records`, one a millisecond.
    fn told(records: &[Record]) -> Vec<Durable> {
        let told = records.iter().zip(1..).map(|(record, ms)| Durable {
            mono_ns: ms * 1_000_000,
            number: record.number,
            checksum: record.checksum(),
            payload: record.payload,
        });
        told.collect()
    }

    fn left(records: &[Record]) -> LeftOnDisk {
        LeftOnDisk {
            said: records.len() as u64,
            journal: records.iter().flat_map(Record::encode).collect(),
            file_system_fault: None,
        }
    }

    /// The third answer is the last of the primary's.
    fn judge(answered: &[Durable], left: &LeftOnDisk) -> DurableReport {
        let timeline = Timeline {
            killed_ns: 2_500_000,
            claimed_ns: Some(3_500_000),
            ..Timeline::default()
        };
        DurableReport::new(answered, BEFORE + 1, &timeline, left)
    }

    fn five() -> Vec<Record> {
        journal(&["demo 1", "demo 2", "demo 3", "demo 4", "demo 5"])
    }

    /// One fault of a kind, said in this way.
    #[track_caller]
    fn expect_fault(report: &DurableReport, said: &str) {
        let faults = report.faults();
        assert!(faults.iter().any(|fault| fault == said), "{faults:?}");
    }

    #[test]
    fn a_disk_that_keeps_every_answer_is_faultless() {
        let records = five();
        let report = judge(&told(&records), &left(&records));
        assert_eq!(report.faults(), [""; 0]);
        assert_eq!(
            (
                report.answered_before,
                report.answered_after,
                report.in_flight_at_kill,
                report.on_disk
            ),
            (3, 2, 1, 5)
        );
        assert_eq!(report.killed_to_first_durable_ms, Some(1.5));
        let json = serde_json::to_value(&report).expect("plain data");
        for name in [
            "answered",
            "answered_before",
            "answered_after",
            "in_flight_at_kill",
            "on_disk",
            "lost",
            "contradicted",
            "repeated",
            "out_of_order",
            "torn",
            "killed_to_first_durable_ms",
        ] {
            assert!(json[name].is_number(), "{name} in {json}");
        }
        assert_eq!(json["file_system_clean"], true);
    }

    #[test]
    fn a_lost_record_is_a_fault() {
        let records = five();
        let report = judge(&told(&records), &left(&records[..4]));
        assert_eq!((report.lost, report.on_disk, report.torn), (1, 4, 0));
        assert_eq!(report.faults(), ["1 durable records were lost"]);
    }

    #[test]
    fn a_torn_record_is_a_fault_also_if_nobody_was_told_of_it() {
        let records = five();
        let mut disk = left(&records);
        let last = disk.journal.len() - 1;
        disk.journal[last] ^= 1;
        let report = judge(&told(&records), &disk);
        assert_eq!((report.lost, report.on_disk, report.torn), (1, 4, 1));
        expect_fault(&report, "record 5 on the disk has a wrong checksum");

        let mut disk = left(&records);
        disk.journal.extend_from_slice(&[7; 10]);
        let report = judge(&told(&records), &disk);
        assert_eq!((report.lost, report.on_disk, report.torn), (0, 5, 1));
        assert_eq!(report.faults(), ["record 6 on the disk is cut short"]);
    }

    #[test]
    fn reordered_records_are_a_fault() {
        let records = five();
        let swapped = [records[0], records[2], records[1], records[3], records[4]];
        let report = judge(&told(&records), &left(&swapped));
        assert_eq!((report.lost, report.on_disk, report.torn), (4, 1, 4));
        expect_fault(&report, "record 2 on the disk is numbered 3");

        let mut answered = told(&records);
        answered.swap(0, 1);
        let report = judge(&answered, &left(&records));
        assert_eq!(
            report.faults(),
            ["1 durable records were answered out of order"]
        );
    }

    #[test]
    fn a_contradicted_and_a_repeated_record_are_faults() {
        let records = five();
        let other = journal(&["demo 1", "demo 2", "demo 3", "demo 4", "other"]);
        let report = judge(&told(&records), &left(&other));
        assert_eq!(
            report.faults(),
            ["1 durable records were contradicted by the disk"]
        );
        let twice = journal(&["demo 1", "demo 2", "demo 3", "demo 4", "demo 5", "demo 4"]);
        let report = judge(&told(&records), &left(&twice));
        assert_eq!(
            report.faults(),
            ["1 durable records were repeated on the disk"]
        );
    }

    #[test]
    fn the_guest_the_file_system_and_the_backup_have_their_say() {
        let records = five();
        let disk = LeftOnDisk {
            said: 6,
            file_system_fault: Some("Inode 12 is damaged".into()),
            ..left(&records)
        };
        let report = judge(&told(&records)[..3], &disk);
        assert_eq!(
            report.faults(),
            [
                "the guest said that there were 6 records, and 5 are on the disk",
                "the disk's file system is not clean: Inode 12 is damaged",
                "the backup has made no record durable"
            ]
        );
        assert_eq!(report.killed_to_first_durable_ms, None);
        assert!(report.to_string().ends_with("file system NOT CLEAN"));
    }
}
