//! What the demo has shown: as data (`--json`) and as text. The data's names are fixed: programs read them.

use std::fmt;

use serde::Serialize;

use super::{
    DurableReport, Guest, RigDisk, Tally, Timeline, client::Answer, timeline::longest_wait_ms,
};

/// All rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What ran the guests.
    pub engine: String,
    /// Which guest.
    pub guest: String,
    /// How the replicas came to their disk, if they had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Every round was faultless, and as many were run as were asked for.
    pub passed: bool,
    /// What kept a round from being run to its end, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// In order.
    pub rounds: Vec<RoundReport>,
}

impl Report {
    /// No rounds yet.
    #[must_use]
    pub fn new(engine: &str, guest: Guest, disk: Option<&RigDisk>) -> Self {
        let (engine, guest) = (engine.to_owned(), guest.name().to_owned());
        Self {
            engine,
            guest,
            disk: disk.map(RigDisk::to_string),
            passed: false,
            error: None,
            rounds: Vec::new(),
        }
    }

    /// What ran on what, a few words.
    #[must_use]
    pub fn title(&self) -> String {
        let Self { guest, engine, .. } = self;
        match &self.disk {
            Some(disk) => format!("{guest} guest on {engine}, disk: {disk}"),
            None => format!("{guest} guest on {engine}"),
        }
    }
}

/// One round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundReport {
    /// Answers that the client received.
    pub answers: u64,
    /// Of these, from the primary.
    pub answers_before: u64,
    /// Of these, from the backup, live.
    pub answers_after: u64,
    /// Numbers that never came.
    pub lost: u64,
    /// Numbers that came again.
    pub repeated: u64,
    /// Numbers that came after a later one.
    pub out_of_order: u64,
    /// Requests that were sent before the kill and that the primary did not answer.
    pub in_flight_at_kill: u64,
    /// The longest time from one answer to the next.
    pub longest_wait_ms: f64,
    /// The same while the primary was alive.
    pub longest_wait_before_ms: f64,
    /// From SIGKILL until the backup suspected the primary.
    pub killed_to_suspected_ms: Option<f64>,
    /// From SIGKILL until the backup had replayed all that it had received.
    pub killed_to_replayed_ms: Option<f64>,
    /// From SIGKILL until the arbiter had given the backup the term.
    pub killed_to_claimed_ms: Option<f64>,
    /// From SIGKILL until the backup was live.
    pub killed_to_live_ms: Option<f64>,
    /// From SIGKILL until the client read the backup's first answer.
    pub killed_to_first_answer_ms: Option<f64>,
    /// What the backup said of the primary.
    pub suspected_because: Option<String>,
    /// The term that the backup won.
    pub term: Option<u64>,
    /// What became of the guest's journal, if the pair had a disk and the round came so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<DurableReport>,
    /// What went wrong, in sentences; empty if all went well.
    pub faults: Vec<String>,
}

impl RoundReport {
    /// From what the client counted and the backup told. `sent_before` requests were sent before the kill; `faults` are those
    /// that are seen in neither.
    #[must_use]
    pub fn new(
        tally: &Tally,
        answers: &[Answer],
        timeline: &Timeline,
        sent_before: u64,
        faults: Vec<String>,
    ) -> Self {
        let before = timeline.answers_of_primary(answers);
        let since_kill = |step| timeline.since_kill_ms(step).map(rounded);
        let mut report = Self {
            answers: tally.answers(),
            answers_before: before as u64,
            answers_after: tally.answers() - before as u64,
            lost: tally.lost(),
            repeated: tally.repeated(),
            out_of_order: tally.out_of_order(),
            in_flight_at_kill: sent_before.saturating_sub(before as u64),
            longest_wait_ms: rounded(longest_wait_ms(answers)),
            longest_wait_before_ms: rounded(longest_wait_ms(&answers[..before])),
            killed_to_suspected_ms: since_kill(timeline.suspected_ns),
            killed_to_replayed_ms: since_kill(timeline.claiming_ns),
            killed_to_claimed_ms: since_kill(timeline.claimed_ns),
            killed_to_live_ms: since_kill(timeline.live_ns),
            killed_to_first_answer_ms: since_kill(timeline.first_answer_ns),
            suspected_because: timeline.suspected_because.clone(),
            term: timeline.term,
            durable: None,
            faults,
        };
        report.add_faults();
        report
    }

    /// Adds the journal's part, and its faults.
    #[must_use]
    pub fn with_durable(mut self, durable: DurableReport) -> Self {
        self.faults.extend(durable.faults());
        self.durable = Some(durable);
        self
    }

    /// Nothing lost, repeated or out of order, and a failover.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    fn in_flight(&self) -> String {
        let requests = self.in_flight_at_kill;
        match &self.durable {
            Some(durable) => format!(
                "SIGKILL, {requests} requests and {} records in flight",
                durable.in_flight_at_kill
            ),
            None => format!("SIGKILL, {requests} requests in flight"),
        }
    }

    fn add_faults(&mut self) {
        let counts = [
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("out of order", self.out_of_order),
        ];
        let counted = counts.into_iter().filter(|(_, count)| *count > 0);
        self.faults
            .extend(counted.map(|(what, count)| format!("{count} answers were {what}")));
        match (self.killed_to_suspected_ms, self.killed_to_live_ms) {
            (_, None) => self.faults.push("the backup did not go live".into()),
            (Some(suspected_ms), _) if suspected_ms < 0.0 => {
                let early = "the backup had given the primary up before it was killed";
                self.faults.push(early.into());
            }
            _ if self.answers_after == 0 => {
                self.faults.push("the backup has answered nothing".into());
            }
            _ => {}
        }
    }
}

/// To a microsecond, which is what is known.
pub(super) fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// The timeline and the verdict, a few lines.
impl fmt::Display for RoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = self.suspected_because.as_deref().unwrap_or_default();
        let term = self
            .term
            .map(|term| format!("term {term}"))
            .unwrap_or_default();
        let in_flight = self.in_flight();
        let steps = [
            ("killed", Some(0.0), in_flight.as_str()),
            ("suspected", self.killed_to_suspected_ms, because),
            ("replayed", self.killed_to_replayed_ms, ""),
            ("claimed", self.killed_to_claimed_ms, &term),
            ("live", self.killed_to_live_ms, ""),
            ("first answer", self.killed_to_first_answer_ms, ""),
        ];
        for (step, at_ms, remark) in steps {
            let line = format!("  {step:<13}{:>11}  {remark}", ms(at_ms));
            writeln!(f, "{}", line.trim_end())?;
        }
        if let Some(durable) = &self.durable {
            let first = ms(durable.killed_to_first_durable_ms);
            writeln!(f, "  first durable{first:>11}")?;
        }
        let Self {
            answers,
            answers_before,
            answers_after,
            lost,
            repeated,
            out_of_order,
            ..
        } = self;
        writeln!(
            f,
            "  {answers} answers ({answers_before} before, {answers_after} after): {lost} lost, {repeated} repeated, {out_of_order} out of order"
        )?;
        writeln!(
            f,
            "  longest wait {} ({} before the kill)",
            ms(Some(self.longest_wait_ms)),
            ms(Some(self.longest_wait_before_ms))
        )?;
        if let Some(durable) = &self.durable {
            writeln!(f, "{durable}")?;
        }
        match self.faults.as_slice() {
            [] if self.durable.is_some() => write!(
                f,
                "  passed: both connections outlived the primary, and so did every durable record"
            ),
            [] => write!(f, "  passed: the client's connection outlived the primary"),
            faults => write!(f, "  FAILED: {}", faults.join("; ")),
        }
    }
}

/// A table of all rounds, one line each.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        write!(
            f,
            "round  answers   lost  repeated  out of order  longest wait       live  first answer"
        )?;
        if self.disk.is_some() {
            write!(f, "  durable  first durable")?;
        }
        for (index, round) in self.rounds.iter().enumerate() {
            write!(
                f,
                "\n{:>5}  {:>7}  {:>5}  {:>8}  {:>12}  {:>12}  {:>9}  {:>12}",
                index + 1,
                round.answers,
                round.lost,
                round.repeated,
                round.out_of_order,
                ms(Some(round.longest_wait_ms)),
                ms(round.killed_to_live_ms),
                ms(round.killed_to_first_answer_ms),
            )?;
            if self.disk.is_some() {
                let durable = round.durable.as_ref();
                let answered = durable.map_or(0, |durable| durable.answered);
                let first = durable.and_then(|durable| durable.killed_to_first_durable_ms);
                write!(f, "  {answered:>7}  {:>13}", ms(first))?;
            }
            write!(f, "  {}", if round.passed() { "passed" } else { "FAILED" })?;
        }
        Ok(())
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "never".into(), |value| format!("{value:.1} ms"))
}

#[cfg(test)]
mod tests {
    use super::{super::durable::LeftOnDisk, *};

    fn answers(times_ms: &[u64]) -> (Tally, Vec<Answer>) {
        let mut tally = Tally::default();
        let list = times_ms.iter().zip(1..).map(|(at_ms, number)| {
            tally.request();
            tally.answer(number);
            Answer {
                mono_ns: at_ms * 1_000_000,
                number,
            }
        });
        let list = list.collect();
        (tally, list)
    }

    fn failover() -> Timeline {
        Timeline {
            killed_ns: 20_000_000,
            suspected_ns: Some(21_000_000),
            claimed_ns: Some(22_000_000),
            live_ns: Some(23_000_000),
            first_answer_ns: Some(24_500_000),
            ..Timeline::default()
        }
    }

    #[test]
    fn a_faultless_round_passes() {
        let (tally, answers) = answers(&[10, 15, 30, 32]);
        let report = RoundReport::new(&tally, &answers, &failover(), 3, Vec::new());
        assert!(report.passed(), "{report}");
        assert_eq!(
            (
                report.answers_before,
                report.answers_after,
                report.in_flight_at_kill
            ),
            (2, 2, 1)
        );
        assert_eq!(
            (report.longest_wait_ms, report.longest_wait_before_ms),
            (15.0, 5.0)
        );
        assert_eq!(
            (report.killed_to_live_ms, report.killed_to_first_answer_ms),
            (Some(3.0), Some(4.5))
        );
        let json = serde_json::to_value(&report).expect("plain data");
        for name in [
            "answers",
            "lost",
            "repeated",
            "out_of_order",
            "longest_wait_ms",
            "killed_to_live_ms",
            "killed_to_first_answer_ms",
        ] {
            assert!(json[name].is_number(), "{name} in {json}");
        }
    }

    #[test]
    fn a_round_without_a_disk_says_nothing_of_one() {
        let (tally, answers) = answers(&[10, 15, 30, 32]);
        let round = RoundReport::new(&tally, &answers, &failover(), 3, Vec::new());
        let json = serde_json::to_value(&round).expect("plain data");
        assert_eq!(json.get("durable"), None);
        assert!(!round.to_string().contains("durable"), "{round}");
        let mut report = Report::new("soft", Guest::Linux, None);
        report.rounds.push(round);
        let table = report.to_string();
        assert!(
            table.starts_with("linux guest on soft\n") && !table.contains("durable"),
            "{table}"
        );
    }

    #[test]
    fn a_disk_that_failed_fails_the_round() {
        let (tally, answers) = answers(&[10, 15, 30, 32]);
        let left = LeftOnDisk {
            said: 1,
            ..LeftOnDisk::default()
        };
        let timeline = failover();
        let durable = DurableReport::new(&[], 2, &timeline, &left);
        let round = RoundReport::new(&tally, &answers, &timeline, 3, Vec::new());
        let round = round.with_durable(durable);
        assert!(!round.passed());
        let text = round.to_string();
        assert!(
            text.contains("SIGKILL, 1 requests and 2 records in flight")
                && text.contains("FAILED: the guest said that there were 1 records"),
            "{text}"
        );
    }

    #[test]
    fn what_went_wrong_is_said() {
        let (mut tally, answers) = answers(&[10, 15]);
        tally.request();
        let report = RoundReport::new(
            &tally,
            &answers,
            &Timeline::default(),
            3,
            vec!["something else".into()],
        );
        assert_eq!(
            report.faults,
            [
                "something else",
                "1 answers were lost",
                "the backup did not go live"
            ]
        );
        let early = Timeline {
            suspected_ns: Some(19_000_000),
            ..failover()
        };
        let report = RoundReport::new(&tally, &answers, &early, 3, Vec::new());
        assert!(
            report
                .faults
                .contains(&"the backup had given the primary up before it was killed".to_owned())
        );
    }
}
