use super::*;
use crate::entry::{Digest, EndReason, Event, OutputKind, Position};

const SESSION: u64 = 42;
const TERM: u64 = 3;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn identity() -> Identity {
    Identity {
        format_version: 1,
        clock: "exits".to_owned(),
        cpu_model: "model".to_owned(),
        memory_bytes: 1,
        command_line: String::new(),
        kernel: Digest([0; 16]),
        boot: "auto".to_owned(),
        initrd: None,
        devices: vec![],
    }
}

fn tick(seq: u64) -> Entry {
    Entry {
        seq,
        at: Position::default(),
        event: Event::Tick { guest_ns: seq },
    }
}

fn output(seq: u64) -> Entry {
    Entry {
        event: Event::Output {
            kind: OutputKind::Frame,
            digest: Digest([0; 16]),
        },
        ..tick(seq)
    }
}

fn end(seq: u64) -> Entry {
    Entry {
        event: Event::End {
            reason: EndReason::Reset,
            digest: Digest([0; 16]),
        },
        ..tick(seq)
    }
}

fn ack(received: u64, executed: u64) -> PrimaryEvent {
    PrimaryEvent::Message(Message::Ack { received, executed })
}

fn heartbeat(counter: u64, heard: u64) -> PrimaryEvent {
    PrimaryEvent::Heartbeat(Heartbeat {
        role: Role::Backup,
        term: TERM,
        counter,
        heard,
        session: SESSION,
    })
}

fn entries(entries: Vec<Entry>, released_through: u64) -> PrimaryAction {
    PrimaryAction::Transmit(Message::Entries {
        entries,
        released_through,
    })
}

fn claim() -> PrimaryAction {
    PrimaryAction::Claim {
        expected_term: TERM,
    }
}

/// A primary, and what it does at each event but for reports and heartbeats.
struct Bench {
    core: Primary,
    reports: Vec<Report>,
    heartbeats: Vec<Heartbeat>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let boot = BootChoices {
            unix_time_s: 0,
            rng_seed: [0; 32],
        };
        let timing = Timing::default();
        Self {
            core: Primary::new(identity(), boot, SESSION, TERM, timing, limits, ms(0)),
            reports: vec![],
            heartbeats: vec![],
        }
    }

    fn poll(&mut self) -> Vec<PrimaryAction> {
        let mut actions = vec![];
        while let Some(action) = self.core.poll() {
            match action {
                PrimaryAction::Report(report) => self.reports.push(report),
                PrimaryAction::SendHeartbeat(heartbeat) => self.heartbeats.push(heartbeat),
                other => actions.push(other),
            }
        }
        actions
    }

    fn at(&mut self, now: Duration, event: PrimaryEvent) -> Vec<PrimaryAction> {
        self.core.handle(event, now);
        self.poll()
    }

    fn append(&mut self, now: Duration, entries: Vec<Entry>) -> Vec<PrimaryAction> {
        self.at(now, PrimaryEvent::Append(entries))
    }

    fn claimed(&mut self, now: Duration, answer: ClaimAnswer) -> Vec<PrimaryAction> {
        self.at(now, PrimaryEvent::Claim(answer))
    }
}

fn paired_with(limits: Limits) -> Bench {
    let mut bench = Bench::new(limits);
    bench.poll();
    let actions = bench.at(ms(0), PrimaryEvent::Message(Message::Welcome));
    assert_eq!(actions, [PrimaryAction::Start]);
    bench
}

fn paired() -> Bench {
    paired_with(Limits::default())
}

fn assert_halts(actions: &[PrimaryAction], why: &str) {
    let [.., PrimaryAction::Halt { reason }] = actions else {
        panic!("{actions:?}");
    };
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn hello_goes_first_and_welcome_starts_the_guest() {
    let mut bench = Bench::new(Limits::default());
    let hello = bench.poll();
    assert!(
        matches!(
            &hello[..],
            [PrimaryAction::Transmit(Message::Hello {
                term: TERM,
                session: SESSION,
                failure_timeout_ms: 500,
                ..
            })]
        ),
        "{hello:?}"
    );
    let actions = bench.at(ms(5), PrimaryEvent::Message(Message::Welcome));
    assert_eq!(actions, [PrimaryAction::Start]);
    assert_eq!(bench.reports, [Report::PairFormed { term: TERM }]);
    assert_eq!(bench.heartbeats.len(), 1, "the first heartbeat at once");
}

#[test]
fn without_a_pair_there_is_no_claim() {
    let fresh = || {
        let mut bench = Bench::new(Limits::default());
        bench.poll();
        bench
    };
    assert_halts(&fresh().at(ms(10_000), PrimaryEvent::Tick), "10000 ms");
    assert_halts(&fresh().at(ms(1), PrimaryEvent::Disconnected), "closed");
    assert_halts(&fresh().at(ms(1), ack(0, 0)), "answered Hello with Ack");
    let refuse = Message::Refuse {
        mismatches: vec![],
        reason: "no".to_owned(),
    };
    let mut bench = fresh();
    let actions = bench.at(ms(1), PrimaryEvent::Message(refuse));
    assert!(matches!(&actions[..], [PrimaryAction::Refused { reason, .. }] if reason == "no"));
    assert_eq!(bench.core.next_wakeup(), None);
}

#[test]
fn outputs_wait_for_the_ack_of_their_own_entry() {
    let mut bench = paired();
    let actions = bench.append(ms(1), vec![tick(1), output(2)]);
    assert_eq!(actions, [entries(vec![tick(1), output(2)], 0)]);
    assert_eq!(bench.at(ms(2), ack(1, 0)), []);
    let actions = bench.at(ms(3), ack(2, 1));
    assert_eq!(actions, [PrimaryAction::Release { through: 2 }]);
    assert_eq!(bench.at(ms(4), ack(2, 2)), [], "only once");
}

#[test]
fn what_the_backup_has_executed_is_known_with_its_ack() {
    let mut bench = paired();
    bench.append(ms(1), vec![tick(1), output(2), tick(3)]);
    assert_eq!(bench.core.executed(), 0);
    bench.at(ms(2), ack(2, 1));
    assert_eq!(bench.core.executed(), 1);
    assert_eq!(bench.at(ms(3), ack(2, 2)), []);
    assert_eq!(bench.core.executed(), 2);
    bench.at(ms(4), PrimaryEvent::Disconnected);
    bench.at(ms(5), ack(3, 3));
    assert_eq!(bench.core.executed(), 2, "said too late");
}

#[test]
fn entries_without_an_output_wait_for_the_flush_interval() {
    let mut bench = paired();
    assert_eq!(bench.append(ms(10), vec![tick(1)]), []);
    assert_eq!(bench.core.next_wakeup(), Some(ms(11)));
    assert_eq!(
        bench.at(ms(11), PrimaryEvent::Tick),
        [entries(vec![tick(1)], 0)]
    );
    assert_eq!(bench.append(ms(12), vec![tick(2)]), []);
    assert_eq!(
        bench.at(ms(12), PrimaryEvent::Flush),
        [entries(vec![tick(2)], 0)]
    );
}

#[test]
fn batches_are_cut_at_their_limit() {
    let mut bench = paired_with(Limits {
        batch_bytes: 2 * tick(1).size_bytes(),
        ..Limits::default()
    });
    let actions = bench.append(ms(1), (1..=5).map(tick).collect());
    assert_eq!(
        actions,
        [
            entries(vec![tick(1), tick(2)], 0),
            entries(vec![tick(3), tick(4)], 0),
            entries(vec![tick(5)], 0)
        ]
    );
}

#[test]
fn the_backup_is_told_what_was_released() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    bench.at(ms(2), ack(1, 0));
    assert_eq!(bench.at(ms(3), PrimaryEvent::Released { through: 1 }), []);
    assert_eq!(bench.core.next_wakeup(), Some(ms(4)));
    assert_eq!(bench.at(ms(4), PrimaryEvent::Tick), [entries(vec![], 1)]);
    assert_eq!(bench.at(ms(5), PrimaryEvent::Tick), []);
}

#[test]
#[should_panic(expected = "left before its entry was acknowledged")]
fn releasing_what_was_not_permitted_is_a_broken_contract() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    bench.at(ms(2), PrimaryEvent::Released { through: 1 });
}

#[test]
#[should_panic(expected = "the log has no gap")]
fn a_gap_is_a_broken_contract() {
    paired().append(ms(1), vec![tick(2)]);
}

#[test]
fn a_closed_connection_is_suspected_at_once_and_nothing_more_is_sent() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    assert_eq!(bench.at(ms(2), PrimaryEvent::Disconnected), [claim()]);
    let why = LossReason::ConnectionClosed;
    assert_eq!(
        bench.reports[1..],
        [
            Report::PeerLost { why },
            Report::Claiming { term: TERM + 1 }
        ]
    );
    bench.heartbeats.clear();
    assert_eq!(bench.append(ms(3), vec![output(2)]), [], "held");
    assert_eq!(bench.at(ms(4), ack(1, 1)), [], "an ack comes too late");
    assert_eq!(bench.at(ms(60), PrimaryEvent::Tick), []);
    assert!(bench.heartbeats.is_empty());
}

#[test]
fn silence_is_suspected_after_the_failure_timeout() {
    let mut bench = paired();
    assert_eq!(bench.at(ms(499), PrimaryEvent::Tick), []);
    assert_eq!(bench.core.next_wakeup(), Some(ms(500)));
    assert_eq!(bench.at(ms(500), PrimaryEvent::Tick), [claim()]);
    let why = LossReason::Silence { lasted: ms(500) };
    assert_eq!(bench.reports[1], Report::PeerLost { why });
}

#[test]
fn a_backup_that_diverged_is_given_up_and_its_words_passed_on() {
    let mut bench = paired();
    let description = "output 7 at 9+0".to_owned();
    let told = PrimaryEvent::Message(Message::Diverged {
        description: description.clone(),
    });
    assert_eq!(bench.at(ms(2), told), [claim()]);
    let why = LossReason::Diverged(description);
    assert_eq!(bench.reports[1], Report::PeerLost { why });
}

#[test]
fn heartbeats_keep_a_silent_pair_alive() {
    let mut bench = paired();
    for round in 1..100 {
        let sent = bench.heartbeats.last().unwrap().counter;
        assert_eq!(bench.at(ms(round * 50), heartbeat(round, sent)), []);
    }
    assert_eq!(bench.heartbeats.len(), 100);
}

/// A heartbeat that does not echo anything new may have waited for ever.
#[test]
fn a_sign_of_life_counts_from_what_it_echoes() {
    let mut bench = paired();
    bench.at(ms(50), PrimaryEvent::Tick);
    assert_eq!(bench.heartbeats.len(), 2);
    bench.at(ms(400), heartbeat(1, 2));
    bench.at(ms(450), heartbeat(2, 2));
    assert_eq!(bench.at(ms(549), PrimaryEvent::Tick), []);
    assert_eq!(bench.at(ms(550), PrimaryEvent::Tick), [claim()]);
}

/// SIGSTOP past the timeout, with acks and heartbeats waiting in the sockets when it goes on.
#[test]
fn a_process_that_was_stopped_releases_nothing_when_it_wakes() {
    for first in [ack(2, 2), heartbeat(1, 1), PrimaryEvent::Tick] {
        let mut bench = paired();
        bench.append(ms(1), vec![output(1), output(2)]);
        let waking = ms(700);
        assert_eq!(bench.at(waking, first), [claim()]);
        assert_eq!(bench.at(waking, heartbeat(2, 1)), []);
        assert_eq!(bench.at(waking, ack(2, 2)), []);
        let lost = bench.claimed(ms(710), ClaimAnswer::Lost { term: TERM + 1 });
        assert_halts(&lost, "the backup runs the guest");
        assert_eq!(bench.append(ms(711), vec![output(3)]), []);
        assert_eq!(bench.core.next_wakeup(), None);
    }
}

#[test]
fn after_a_won_claim_everything_is_released_at_once() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    bench.at(ms(2), PrimaryEvent::Disconnected);
    bench.append(ms(3), vec![output(2), tick(3)]);
    let won = bench.claimed(ms(4), ClaimAnswer::Won { term: TERM + 1 });
    let alone = PrimaryAction::RunAlone { term: TERM + 1 };
    assert_eq!(won, [alone, PrimaryAction::Release { through: 3 }]);
    assert_eq!(bench.reports.last(), Some(&Report::Live { term: TERM + 1 }));
    let actions = bench.append(ms(5), vec![tick(4), output(5)]);
    assert_eq!(actions, [PrimaryAction::Release { through: 5 }]);
    assert_eq!(bench.append(ms(6), vec![tick(6)]), []);
    assert_eq!(bench.at(ms(7), PrimaryEvent::Released { through: 5 }), []);
    assert_eq!(bench.at(ms(7), PrimaryEvent::Disconnected), []);
    assert_eq!(bench.core.next_wakeup(), None);
}

#[test]
fn an_unreachable_arbiter_is_asked_again_for_ever_and_nothing_leaves() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    bench.at(ms(2), PrimaryEvent::Disconnected);
    let mut now = ms(2);
    for _ in 0..50 {
        assert_eq!(bench.claimed(now, ClaimAnswer::Unreachable), []);
        now = bench.core.next_wakeup().unwrap();
        assert_eq!(bench.at(now, PrimaryEvent::Tick), [claim()]);
    }
    let waiting = bench
        .reports
        .iter()
        .filter(|&r| *r == Report::WaitingForArbiter);
    assert_eq!(waiting.count(), 1, "told once");
}

#[test]
fn what_a_backup_would_not_say_is_a_violation() {
    let cases = [
        (Message::Welcome, "Welcome"),
        (Message::Goodbye, "Goodbye"),
        (
            Message::Ack {
                received: 2,
                executed: 0,
            },
            "only 1 were sent",
        ),
        (
            Message::Ack {
                received: 1,
                executed: 2,
            },
            "received only 1",
        ),
    ];
    for (message, expected) in cases {
        let mut bench = paired();
        bench.append(ms(1), vec![output(1)]);
        assert_eq!(bench.at(ms(2), PrimaryEvent::Message(message)), [claim()]);
        let lost = bench.reports[1].to_string();
        assert!(
            lost.contains("broke the protocol") && lost.contains(expected),
            "{lost}"
        );
    }
    let mut bench = paired();
    bench.append(ms(1), vec![output(1)]);
    bench.at(ms(2), ack(1, 1));
    assert_eq!(bench.at(ms(3), ack(1, 0)), [claim()]);
    assert!(bench.reports[1].to_string().contains("went back"));
}

#[test]
fn the_vcpu_stops_at_a_full_backlog_and_at_too_many_outputs() {
    let limits = Limits {
        backlog_bytes: 3 * tick(1).size_bytes(),
        kept_outputs: 2,
        ..Limits::default()
    };
    let mut bench = paired_with(limits);
    bench.append(ms(1), vec![tick(1), tick(2)]);
    assert!(bench.core.has_room());
    bench.append(ms(2), vec![tick(3)]);
    assert!(!bench.core.has_room(), "backlog");
    bench.at(ms(3), PrimaryEvent::Flush);
    assert!(!bench.core.has_room(), "sent is not acknowledged");
    bench.at(ms(4), ack(3, 0));
    assert!(bench.core.has_room());
    bench.append(ms(5), vec![output(4), output(5)]);
    bench.at(ms(6), ack(5, 0));
    assert!(!bench.core.has_room(), "permitted is not released");
    bench.at(ms(7), PrimaryEvent::Released { through: 4 });
    assert!(bench.core.has_room());

    bench.at(ms(8), PrimaryEvent::Disconnected);
    bench.append(ms(9), vec![tick(6), tick(7), tick(8)]);
    assert!(!bench.core.has_room(), "held while claiming");
    bench.claimed(ms(10), ClaimAnswer::Won { term: TERM + 1 });
    assert!(bench.core.has_room(), "alone");
}

#[test]
fn goodbye_when_the_guest_ended_and_all_is_acknowledged_and_released() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1), end(2)]);
    assert_eq!(bench.at(ms(1), PrimaryEvent::GuestEnded), []);
    let actions = bench.at(ms(2), ack(2, 0));
    assert_eq!(actions, [PrimaryAction::Release { through: 2 }]);
    let actions = bench.at(ms(3), PrimaryEvent::Released { through: 1 });
    let goodbye = PrimaryAction::Transmit(Message::Goodbye);
    assert_eq!(actions, [goodbye, PrimaryAction::Finish]);
    assert_eq!(bench.at(ms(4), PrimaryEvent::Disconnected), []);
}

#[test]
fn a_guest_that_ends_while_the_backup_is_lost_ends_when_the_claim_is_won() {
    let mut bench = paired();
    bench.append(ms(1), vec![output(1), end(2)]);
    bench.at(ms(1), PrimaryEvent::GuestEnded);
    bench.at(ms(2), PrimaryEvent::Disconnected);
    let won = bench.claimed(ms(3), ClaimAnswer::Won { term: TERM + 1 });
    assert_eq!(won.last(), Some(&PrimaryAction::Release { through: 2 }));
    let done = bench.at(ms(4), PrimaryEvent::Released { through: 1 });
    assert_eq!(done, [PrimaryAction::Finish]);
}

#[test]
fn a_lagging_backup_slows_the_vcpu_and_a_lost_one_lets_it_go() {
    let mut bench = paired();
    let mut slowed = 0;
    let mut seq = 0;
    for round in 1..60 {
        let now = ms(round * 50);
        let sent = bench.heartbeats.last().unwrap().counter;
        bench.at(now, heartbeat(round, sent));
        seq += 1;
        for action in bench.append(now, vec![tick(seq)]) {
            assert!(matches!(action, PrimaryAction::Transmit(_)), "{action:?}");
        }
        for action in bench.at(now, PrimaryEvent::Tick) {
            if let PrimaryAction::Pace { sleep_percent } = action {
                slowed = sleep_percent;
            }
        }
        let pace = |report: &Report| match report {
            Report::Paced { sleep_percent } => Some(*sleep_percent),
            _ => None,
        };
        slowed = bench
            .reports
            .iter()
            .filter_map(pace)
            .next_back()
            .unwrap_or(slowed);
    }
    assert!(slowed > 10, "slowed to {slowed}%");
    let lag = |report: &&Report| matches!(report, Report::Lag { entries: 1.., .. });
    assert!(bench.reports.iter().any(|r| lag(&r)), "{:?}", bench.reports);
    let actions = bench.at(ms(3000), PrimaryEvent::Disconnected);
    assert_eq!(actions[0], PrimaryAction::Pace { sleep_percent: 0 });
}
