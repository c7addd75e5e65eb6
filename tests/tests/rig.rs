//! The rig that failover is tested with: what it does to a pair has the effect that its name says.

use std::time::Duration;

use lockstep_tests::images;
use vmm::{
    demo::{ArbiterKind, Cable, Client, Guest, Images, Member, Rig, RigOptions},
    host::Event,
};

/// Generous: only a failure waits for so long.
const LIMIT: Duration = Duration::from_secs(120);

/// A pair of bare guests that answers, and a client that has had an answer.
async fn pair(arbiter: ArbiterKind) -> (Rig, Client) {
    let options = RigOptions {
        program: images::lockstep(),
        images: Images::named(Guest::Bare, images::bare("echo"), None, ""),
        engine: "kvm".into(),
        arbiter,
        failure_timeout: None,
        retransmit_after: None,
    };
    let mut rig = Rig::new(options).expect("a rig");
    rig.start_pair().await.expect("started");
    rig.wait_until_ready(Member::Primary)
        .await
        .expect("a guest");
    let mut client = rig.connect(4, LIMIT).await.expect("a connection");
    ask(&mut client, 100).await;
    (rig, client)
}

/// Asks until there are `count` more answers; then none is in flight, and all were right.
async fn ask(client: &mut Client, count: usize) {
    let wanted = client.answers().len() + count;
    while client.answers().len() < wanted || client.tally().in_flight() > 0 {
        if client.answers().len() < wanted {
            client.fill_window().expect("sent");
        }
        tokio::time::timeout(LIMIT, client.next_answer())
            .await
            .expect("an answer in time")
            .expect("an answer");
    }
    let tally = client.tally();
    assert_eq!(
        (tally.lost(), tally.repeated(), tally.out_of_order()),
        (0, 0, 0)
    );
}

fn is_live(event: &Event) -> bool {
    matches!(event, Event::Live { .. })
}

/// Waits until `member` has found that it may not go on, and has stopped.
async fn expect_halt(rig: &mut Rig, member: Member) {
    let halted = |event: &Event| matches!(event, Event::Halted { .. });
    rig.wait_for_event(member, "that it halted", LIMIT, halted)
        .await
        .expect("it halts");
    let status = rig.wait_for_end(member, LIMIT).await.expect("it ends");
    assert_eq!(
        status.code(),
        Some(3),
        "{}",
        rig.stderr(member).expect("readable")
    );
    assert!(
        !rig.events(member)
            .expect("readable")
            .iter()
            .any(|stamped| is_live(&stamped.event))
    );
}

#[tokio::test]
async fn a_killed_primary_is_followed_by_its_backup_with_an_arbiter_of_either_kind() {
    for arbiter in [ArbiterKind::Tcp, ArbiterKind::File] {
        let (mut rig, mut client) = pair(arbiter).await;
        rig.kill(Member::Primary).expect("killed");
        rig.wait_for_event(Member::Backup, "that it is live", LIMIT, is_live)
            .await
            .expect("it goes live");
        ask(&mut client, 100).await;
    }
}

#[tokio::test]
async fn a_primary_without_its_backup_goes_on() {
    let (mut rig, mut client) = pair(ArbiterKind::Tcp).await;
    rig.kill(Member::Backup).expect("killed");
    rig.wait_for_event(Member::Primary, "that it is live", LIMIT, is_live)
        .await
        .expect("it goes on");
    ask(&mut client, 100).await;
}

#[tokio::test]
async fn a_primary_that_slept_too_long_halts() {
    let (mut rig, mut client) = pair(ArbiterKind::Tcp).await;
    rig.stop(Member::Primary).expect("stopped");
    rig.wait_for_event(Member::Backup, "that it is live", LIMIT, is_live)
        .await
        .expect("it goes live");
    ask(&mut client, 100).await;
    rig.resume(Member::Primary).expect("resumed");
    expect_halt(&mut rig, Member::Primary).await;
    ask(&mut client, 100).await;
}

#[tokio::test]
async fn of_two_that_are_cut_apart_one_goes_on() {
    let (mut rig, mut client) = pair(ArbiterKind::Tcp).await;
    rig.network().unplug(Cable::Channel).expect("unplugged");
    let lost = |event: &Event| matches!(event, Event::PeerLost { .. });
    for member in [Member::Primary, Member::Backup] {
        rig.wait_for_event(member, "that its peer is lost", LIMIT, lost)
            .await
            .expect("it notices");
    }
    let won = |event: &Event| matches!(event, Event::ClaimWon { .. } | Event::ClaimLost { .. });
    let claim = rig
        .wait_for_event(Member::Primary, "its claim", LIMIT, won)
        .await
        .expect("it claims");
    let (survivor, loser) = match claim.event {
        Event::ClaimWon { .. } => (Member::Primary, Member::Backup),
        _ => (Member::Backup, Member::Primary),
    };
    rig.wait_for_event(survivor, "that it is live", LIMIT, is_live)
        .await
        .expect("it goes on");
    expect_halt(&mut rig, loser).await;
    ask(&mut client, 100).await;
    rig.network().plug(Cable::Channel).expect("plugged in");
    ask(&mut client, 100).await;
}

#[tokio::test]
async fn without_an_arbiter_nobody_goes_live_until_it_is_back() {
    let (mut rig, mut client) = pair(ArbiterKind::Tcp).await;
    rig.kill(Member::Arbiter).expect("killed");
    ask(&mut client, 100).await;
    rig.kill(Member::Primary).expect("killed");
    let waiting = |event: &Event| matches!(event, Event::WaitingForArbiter);
    rig.wait_for_event(
        Member::Backup,
        "that it waits for the arbiter",
        LIMIT,
        waiting,
    )
    .await
    .expect("it waits");
    rig.start_arbiter().await.expect("started again");
    rig.wait_for_event(Member::Backup, "that it is live", LIMIT, is_live)
        .await
        .expect("it goes live");
    ask(&mut client, 100).await;
}
