use super::*;
use crate::entry::{Digest, DiskOutcome, EndReason, Event, OutputKind, Position};

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
        memory_bytes: 64 << 20,
        command_line: "quiet".to_owned(),
        kernel: Digest([0; 16]),
        boot: "auto".to_owned(),
        initrd: None,
        devices: vec!["rng".to_owned()],
    }
}

fn boot() -> BootChoices {
    BootChoices {
        unix_time_s: 5,
        rng_seed: [1; 32],
    }
}

fn hello_from(identity: Identity) -> BackupEvent {
    BackupEvent::Message(Message::Hello {
        identity,
        boot: boot(),
        term: TERM,
        session: SESSION,
        failure_timeout_ms: 500,
    })
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

fn disk(seq: u64, outcome: DiskOutcome) -> Entry {
    Entry {
        event: Event::Disk {
            disk: 0,
            request: seq,
            outcome,
        },
        ..tick(seq)
    }
}

/// The primary may hold a write back until this is executed.
fn read_apart(seq: u64) -> Entry {
    disk(seq, DiskOutcome::DoneApart { checksum: 7 })
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

fn entries(entries: Vec<Entry>, released_through: u64) -> BackupEvent {
    BackupEvent::Message(Message::Entries {
        entries,
        released_through,
    })
}

fn ack(received: u64, executed: u64) -> BackupAction {
    BackupAction::Transmit(Message::Ack { received, executed })
}

fn claim() -> BackupAction {
    BackupAction::Claim {
        expected_term: TERM,
    }
}

fn heartbeat(counter: u64) -> BackupEvent {
    BackupEvent::Heartbeat(Heartbeat {
        role: Role::Primary,
        term: TERM,
        counter,
        heard: 0,
        session: SESSION,
    })
}

/// A backup, and what it does at each event but for reports and heartbeats.
struct Bench {
    core: Backup,
    reports: Vec<Report>,
    heartbeats: Vec<Heartbeat>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            core: Backup::new(identity(), Timing::default(), limits, ms(0)),
            reports: vec![],
            heartbeats: vec![],
        }
    }

    fn at(&mut self, now: Duration, event: BackupEvent) -> Vec<BackupAction> {
        self.core.handle(event, now);
        let mut actions = vec![];
        while let Some(action) = self.core.poll() {
            match action {
                BackupAction::Report(report) => self.reports.push(report),
                BackupAction::SendHeartbeat(heartbeat) => self.heartbeats.push(heartbeat),
                other => actions.push(other),
            }
        }
        actions
    }

    fn claimed(&mut self, now: Duration, answer: ClaimAnswer) -> Vec<BackupAction> {
        self.at(now, BackupEvent::Claim(answer))
    }
}

fn paired_with(limits: Limits) -> Bench {
    let mut bench = Bench::new(limits);
    let actions = bench.at(ms(0), hello_from(identity()));
    let start = BackupAction::Start {
        boot: boot(),
        term: TERM,
        session: SESSION,
    };
    assert_eq!(actions, [BackupAction::Transmit(Message::Welcome), start]);
    bench
}

fn paired() -> Bench {
    paired_with(Limits::default())
}

/// A backup whose primary closed the connection, and that has asked the arbiter at 2 ms.
fn claiming() -> Bench {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![tick(1), output(2)], 0));
    assert_eq!(
        bench.at(ms(2), BackupEvent::Disconnected),
        [BackupAction::Drain]
    );
    assert_eq!(bench.at(ms(2), BackupEvent::Drained), [claim()]);
    bench
}

fn assert_halts(actions: &[BackupAction], why: &str) {
    let [BackupAction::Halt { reason }] = actions else {
        panic!("{actions:?}");
    };
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn another_machine_is_refused_and_the_difference_named() {
    let mut bench = Bench::new(Limits::default());
    let other = Identity {
        memory_bytes: 128 << 20,
        devices: vec![],
        ..identity()
    };
    let actions = bench.at(ms(1), hello_from(other));
    let [
        BackupAction::Transmit(Message::Refuse { mismatches, reason }),
        BackupAction::Refused { .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    let fields: Vec<&str> = mismatches.iter().map(|m| m.field.as_str()).collect();
    assert_eq!(fields, ["--memory", "devices"]);
    assert!(
        reason.contains("--memory differs: the primary has 134217728 bytes"),
        "{reason}"
    );
    assert_eq!(bench.core.next_wakeup(), None);
}

#[test]
fn without_a_pair_there_is_no_claim() {
    let fresh = || Bench::new(Limits::default());
    assert_halts(&fresh().at(ms(10_000), BackupEvent::Tick), "10000 ms");
    assert_halts(&fresh().at(ms(1), BackupEvent::Disconnected), "closed");
    assert_halts(&fresh().at(ms(1), entries(vec![], 0)), "instead of Hello");
}

#[test]
fn entries_are_delivered_and_then_acknowledged() {
    let mut bench = paired();
    let batch = vec![tick(1), output(2)];
    let actions = bench.at(ms(1), entries(batch.clone(), 0));
    assert_eq!(actions, [BackupAction::Deliver(batch), ack(2, 0)]);
    assert_eq!(bench.at(ms(2), BackupEvent::Executed { through: 1 }), []);
    let actions = bench.at(ms(3), entries(vec![tick(3)], 2));
    assert_eq!(
        actions,
        [
            BackupAction::Released { through: 2 },
            BackupAction::Deliver(vec![tick(3)]),
            ack(3, 1)
        ]
    );
    assert_eq!(bench.at(ms(4), entries(vec![], 2)), [], "no news");
}

#[test]
fn progress_is_told_with_the_next_heartbeat() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![tick(1)], 0));
    assert_eq!(bench.at(ms(2), BackupEvent::Executed { through: 1 }), []);
    assert_eq!(bench.core.next_wakeup(), Some(ms(50)));
    assert_eq!(bench.at(ms(50), BackupEvent::Tick), [ack(1, 1)]);
    assert_eq!(bench.at(ms(100), BackupEvent::Tick), [], "no news");
}

#[test]
fn progress_that_a_write_waits_for_is_told_at_once_and_once_for_several() {
    let mut bench = paired();
    let executed = |through| BackupEvent::Executed { through };
    let batch = vec![tick(1), read_apart(2), read_apart(3), tick(4)];
    bench.at(ms(1), entries(batch, 0));
    assert_eq!(bench.at(ms(2), executed(1)), []);
    assert_eq!(bench.at(ms(3), executed(3)), [ack(4, 3)]);
    assert_eq!(bench.at(ms(4), executed(4)), [], "nobody waits for it");
    bench.at(ms(5), entries(vec![read_apart(5), read_apart(6)], 0));
    assert_eq!(bench.at(ms(6), executed(5)), [ack(6, 5)]);
    assert_eq!(bench.at(ms(7), executed(5)), [], "no news");
    assert_eq!(bench.at(ms(8), executed(6)), [ack(6, 6)]);
}

#[test]
fn what_the_log_carries_is_not_waited_for() {
    let mut bench = paired();
    let done = DiskOutcome::Done {
        bytes: vec![1].into(),
    };
    bench.at(ms(1), entries(vec![disk(1, done)], 0));
    bench.at(ms(1), entries(vec![disk(2, DiskOutcome::Failed)], 0));
    assert_eq!(bench.at(ms(2), BackupEvent::Executed { through: 2 }), []);
    assert_eq!(bench.at(ms(50), BackupEvent::Tick), [ack(2, 2)]);
}

#[test]
fn nothing_is_told_to_a_primary_that_is_given_up() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![read_apart(1), tick(2)], 0));
    bench.at(ms(2), BackupEvent::Disconnected);
    assert_eq!(bench.at(ms(3), BackupEvent::Executed { through: 1 }), []);
    assert_eq!(bench.at(ms(4), BackupEvent::Drained), [claim()]);
}

#[test]
fn heartbeats_echo_the_newest_one_heard() {
    let mut bench = paired();
    bench.at(ms(10), heartbeat(3));
    bench.at(ms(11), heartbeat(2));
    bench.at(ms(50), BackupEvent::Tick);
    let heard: Vec<u64> = bench.heartbeats.iter().map(|h| h.heard).collect();
    assert_eq!(heard, [0, 3]);
}

#[test]
fn holes_and_contradictions_are_violations() {
    let cases = [
        (entries(vec![tick(4)], 1), "entry 4 after entry 2"),
        (entries(vec![tick(2)], 1), "entry 2 after entry 2"),
        (entries(vec![tick(3), tick(5)], 1), "entry 5 after entry 3"),
        (entries(vec![end(3), tick(4)], 1), "after the end"),
        (entries(vec![tick(3)], 3), "acknowledged only 2"),
        (entries(vec![], 0), "went back"),
        (hello_from(identity()), "Hello"),
        (BackupEvent::Message(Message::Welcome), "Welcome"),
    ];
    for (event, expected) in cases {
        let mut bench = paired();
        bench.at(ms(1), entries(vec![output(1), tick(2)], 0));
        bench.at(ms(2), entries(vec![], 1));
        assert_eq!(bench.at(ms(3), event), [BackupAction::Drain]);
        let lost = bench.reports[1].to_string();
        assert!(
            lost.contains("broke the protocol") && lost.contains(expected),
            "{lost}"
        );
    }
}

#[test]
fn reading_stops_while_replay_is_behind_and_heartbeats_still_count() {
    let mut bench = paired_with(Limits {
        undelivered_bytes: 2 * tick(1).size_bytes(),
        ..Limits::default()
    });
    bench.at(ms(1), entries(vec![tick(1)], 0));
    assert!(bench.core.has_room());
    bench.at(ms(2), entries(vec![tick(2), tick(3)], 0));
    assert!(!bench.core.has_room());
    for round in 1..40 {
        assert_eq!(bench.at(ms(round * 100), heartbeat(round)), []);
    }
    bench.at(ms(4000), BackupEvent::Executed { through: 3 });
    assert!(bench.core.has_room());
}

#[test]
fn too_many_outputs_to_keep_are_a_violation() {
    let mut bench = paired_with(Limits {
        kept_outputs: 2,
        ..Limits::default()
    });
    bench.at(ms(1), entries((1..=4).map(output).collect(), 0));
    let actions = bench.at(ms(2), entries(vec![output(5)], 0));
    assert_eq!(actions, [BackupAction::Drain]);
    assert!(bench.reports[1].to_string().contains("5 outputs"));
}

#[test]
fn silence_is_suspected_but_never_before_the_primarys_own_timeout() {
    let mut bench = paired();
    bench.at(ms(100), heartbeat(1));
    assert_eq!(bench.at(ms(599), BackupEvent::Tick), []);
    assert_eq!(bench.core.next_wakeup(), Some(ms(600)));
    assert_eq!(bench.at(ms(600), BackupEvent::Tick), [BackupAction::Drain]);

    let mut patient = Bench::new(Limits::default());
    patient.at(
        ms(0),
        BackupEvent::Message(Message::Hello {
            identity: identity(),
            boot: boot(),
            term: TERM,
            session: SESSION,
            failure_timeout_ms: 2000,
        }),
    );
    assert_eq!(patient.at(ms(1999), BackupEvent::Tick), []);
    assert_eq!(
        patient.at(ms(2000), BackupEvent::Tick),
        [BackupAction::Drain]
    );
}

/// A backup that was stopped for long: whatever waits in its sockets comes too late.
#[test]
fn after_suspicion_nothing_is_accepted_and_nothing_sent() {
    for first in [
        entries(vec![tick(1)], 0),
        heartbeat(1),
        BackupEvent::Message(Message::Goodbye),
        BackupEvent::Tick,
    ] {
        let mut bench = paired();
        bench.heartbeats.clear();
        assert_eq!(bench.at(ms(500), first), [BackupAction::Drain]);
        assert!(!bench.core.has_room());
        assert_eq!(bench.at(ms(501), entries(vec![tick(1)], 0)), []);
        assert_eq!(bench.at(ms(502), heartbeat(9)), []);
        assert_eq!(bench.at(ms(503), BackupEvent::Drained), [claim()]);
        assert_eq!(bench.at(ms(504), entries(vec![tick(1)], 0)), []);
        assert!(bench.heartbeats.is_empty());
        let lost = bench.claimed(ms(505), ClaimAnswer::Lost { term: TERM + 1 });
        assert_halts(&lost, "the primary runs the guest");
    }
}

#[test]
fn a_won_claim_goes_live_after_the_log_was_replayed() {
    let mut bench = claiming();
    let won = bench.claimed(ms(3), ClaimAnswer::Won { term: TERM + 1 });
    assert_eq!(won, [BackupAction::GoLive { term: TERM + 1 }]);
    assert_eq!(
        bench.reports[1..],
        [
            Report::PeerLost {
                why: LossReason::ConnectionClosed
            },
            Report::Draining { entries: 2 },
            Report::Claiming { term: TERM + 1 },
            Report::ClaimWon { term: TERM + 1 },
            Report::Live { term: TERM + 1 }
        ]
    );
    assert_eq!(bench.core.next_wakeup(), None);
}

#[test]
fn an_answer_before_the_log_was_replayed_is_not_for_us() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![tick(1)], 0));
    bench.at(ms(2), BackupEvent::Disconnected);
    assert_eq!(
        bench.claimed(ms(3), ClaimAnswer::Won { term: TERM + 1 }),
        []
    );
}

#[test]
fn an_unreachable_arbiter_is_asked_again_for_ever() {
    let mut bench = claiming();
    let mut now = ms(2);
    for _ in 0..50 {
        assert_eq!(bench.claimed(now, ClaimAnswer::Unreachable), []);
        now = bench.core.next_wakeup().unwrap();
        assert_eq!(bench.at(now, BackupEvent::Tick), [claim()]);
    }
    let waiting = bench
        .reports
        .iter()
        .filter(|&r| *r == Report::WaitingForArbiter);
    assert_eq!(waiting.count(), 1, "told once");
}

#[test]
fn a_diverged_backup_tells_its_primary_and_never_claims() {
    let diverged = || BackupEvent::Diverged {
        description: "output 7 at 9+0".to_owned(),
    };
    let actions = paired().at(ms(1), diverged());
    let description = "output 7 at 9+0".to_owned();
    assert_eq!(
        actions[0],
        BackupAction::Transmit(Message::Diverged { description })
    );
    assert_halts(&actions[1..], "output 7 at 9+0");
    let mut bench = paired();
    bench.at(ms(1), BackupEvent::Disconnected);
    assert_halts(&bench.at(ms(2), diverged()), "of no use");
    assert_eq!(bench.at(ms(3), BackupEvent::Drained), []);
    let mut late = claiming();
    assert_halts(&late.at(ms(3), diverged()), "of no use");
    assert_eq!(late.claimed(ms(4), ClaimAnswer::Won { term: TERM + 1 }), []);
}

#[test]
fn goodbye_ends_the_pair_without_a_claim_once_the_log_was_replayed() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![end(1)], 0));
    let actions = bench.at(ms(2), BackupEvent::Message(Message::Goodbye));
    assert_eq!(actions, [BackupAction::Drain]);
    assert_eq!(bench.at(ms(3), BackupEvent::Disconnected), []);
    assert_eq!(
        bench.at(ms(5000), BackupEvent::Drained),
        [BackupAction::Finish]
    );
}

#[test]
fn an_ended_guest_without_goodbye_is_claimed() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![output(1), end(2)], 0));
    bench.at(ms(2), BackupEvent::Executed { through: 2 });
    assert_eq!(
        bench.at(ms(3), BackupEvent::Disconnected),
        [BackupAction::Drain]
    );
    assert_eq!(bench.at(ms(3), BackupEvent::Drained), [claim()]);
    let won = bench.claimed(ms(4), ClaimAnswer::Won { term: TERM + 1 });
    assert_eq!(won, [BackupAction::GoLive { term: TERM + 1 }]);
}

#[test]
#[should_panic(expected = "entry 2 was executed, but only 1 were received")]
fn executing_what_was_not_delivered_is_a_broken_contract() {
    let mut bench = paired();
    bench.at(ms(1), entries(vec![tick(1)], 0));
    bench.at(ms(2), BackupEvent::Executed { through: 2 });
}
