//! Who may write, and from when on.

use std::{sync::Arc, time::Duration};

use arbiter::State;
use disk_server::{
    Notice, Storage,
    client::{Claim, HandshakeError},
    wire::{Binding, Command, ErrorCode},
};

use crate::{
    held::Held,
    rig::{FIRST, Rig, SECOND, TIMEOUT, win},
};

const OLD: [u8; 512] = [0xaa; 512];
const NEW: [u8; 512] = [0xbb; 512];
/// Long enough for an answer that comes too early.
const A_WHILE: Duration = Duration::from_millis(300);

fn bound(term: u64, identity: arbiter::Identity) -> Claim {
    Claim::Bound(Binding { term, identity })
}

#[tokio::test]
async fn without_a_binding_nothing_can_be_changed() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    let mut reader = rig.connect(Claim::Reader).await.unwrap();
    let refused = Err(ErrorCode::NotPermitted);
    assert_eq!(reader.write(0, &OLD).await, refused);
    assert_eq!(reader.ask(Command::Trim, 0, 512).await, refused);
    assert_eq!(reader.ask(Command::WriteZeroes, 0, 512).await, refused);
    assert_eq!(reader.read(0, 512).await, Ok(vec![0; 512]));
    assert_eq!(storage.bytes(), vec![0; 4096]);
}

#[tokio::test]
async fn only_the_holder_of_the_term_is_bound_and_others_learn_the_term() {
    let mut rig = Rig::serving(Held::new(4096)).await;
    assert_eq!(win(&rig.arbiter, 0, FIRST).await, 1);
    for claim in [bound(1, SECOND), bound(0, SECOND), bound(2, FIRST)] {
        match rig.connect(claim).await.map(|client| client.opened) {
            Err(HandshakeError::OtherTerm { term: 1 }) => {}
            other => panic!("{claim:?}: {other:?}"),
        }
    }
    let mut first = rig.connect(bound(1, FIRST)).await.unwrap();
    assert_eq!(first.write(512, &NEW).await, Ok(()));
    assert_eq!(first.read(512, 512).await, Ok(NEW.to_vec()));
    let mut bound = 0;
    while let Ok(notice) = rig.notices.try_recv() {
        bound += usize::from(matches!(notice, Notice::Bound { term: 1, .. }));
    }
    assert_eq!(bound, 1);
}

/// A replica that claims the next term is cut off by its own win, and may connect again before it has heard the answer.
#[tokio::test]
async fn who_has_won_a_later_term_itself_goes_on_in_it() {
    let rig = Rig::serving(Held::new(4096)).await;
    assert_eq!(win(&rig.arbiter, 0, FIRST).await, 1);
    let mut first = rig.connect(bound(1, FIRST)).await.unwrap();
    assert_eq!(first.write(0, &OLD).await, Ok(()));
    assert_eq!(win(&rig.arbiter, 1, FIRST).await, 2);
    let mut again = rig.connect(bound(1, FIRST)).await.unwrap();
    let (term, identity) = (2, FIRST);
    assert_eq!(again.opened.binding, Some(Binding { term, identity }));
    assert_eq!(again.write(0, &NEW).await, Ok(()));
    // Another's win is the end of it, whatever it asks for.
    assert_eq!(win(&rig.arbiter, 2, SECOND).await, 3);
    for term in [1, 2, 3] {
        match rig
            .connect(bound(term, FIRST))
            .await
            .map(|client| client.opened)
        {
            Err(HandshakeError::OtherTerm { term: 3 }) => {}
            other => panic!("{term}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_machine_alone_takes_over_once_whatever_disks_it_has() {
    let rig = Rig::serving(Held::new(4096)).await;
    win(&rig.arbiter, 0, SECOND).await;
    let mut first = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    let again = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    let expected = Some(Binding {
        term: 2,
        identity: FIRST,
    });
    assert_eq!(
        (first.opened.binding, again.opened.binding),
        (expected, expected)
    );
    let holder = Some(FIRST);
    let state = rig.arbiter.read(TIMEOUT).await.unwrap();
    assert_eq!(state, State { term: 2, holder });
    // It was the same disk, and so the same client connecting anew.
    assert_eq!(first.reply().await, None);
}

/// A primary's write is on its way to the disk when the backup takes the term; the backup writes
/// the same block; then the first write reaches the disk. `old` and `new` are the servers that
/// they use, which have one storage. Gives what is on the disk in the end.
async fn a_write_that_is_late(storage: &Arc<Held>, old: &Rig, new: &Rig) -> Vec<u8> {
    let term = win(&old.arbiter, 0, FIRST).await;
    let mut primary = old.connect(bound(term, FIRST)).await.unwrap();
    let holding = storage.hold();
    primary.start_write(0, &OLD).await;
    storage.until_waiting(1).await;

    if old.disks == new.disks {
        let early = new.arbiter.claim(term, SECOND, A_WHILE).await;
        let early = early.expect_err("a win before the storage was at rest");
        assert!(early.is_unreachable(), "{early}");
        // Cut off all the same, with its write under way.
        assert_eq!(primary.reply().await, None);
        drop(holding);
        let term = win(&new.arbiter, term, SECOND).await;
        assert_eq!(storage.bytes()[..512], OLD);
        let mut backup = new.connect(bound(term, SECOND)).await.unwrap();
        assert_eq!(backup.write(0, &NEW).await, Ok(()));
    } else {
        let term = win(&new.arbiter, 0, SECOND).await;
        let mut backup = new.connect(bound(term, SECOND)).await.unwrap();
        let written = backup.start_write(0, &NEW).await;
        storage.until_waiting(2).await;
        storage.let_pass_newest();
        let reply = backup.reply().await.map(|reply| reply.cookie);
        assert_eq!(reply, Some(written));
        drop(holding);
        let reply = primary.reply().await.map(|reply| reply.result);
        assert_eq!(reply, Some(Ok(())));
    }
    storage.bytes()[..512].to_vec()
}

#[tokio::test]
async fn a_win_is_answered_when_the_older_terms_writes_have_ended() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    let found = a_write_that_is_late(&storage, &rig, &rig).await;
    assert_eq!(found, NEW);
}

/// What the fence is for: the same where arbiter and storage know nothing of each other.
#[tokio::test]
async fn without_a_fence_a_late_write_destroys_newer_data() {
    let storage = Held::new(4096);
    let old = Rig::serving(storage.clone()).await;
    let new = Rig::serving(storage.clone()).await;
    let found = a_write_that_is_late(&storage, &old, &new).await;
    assert_eq!(found, OLD, "the naive scheme lost no data: is it naive?");
}

#[tokio::test]
async fn a_client_that_connects_anew_finds_its_older_writes_ended() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    win(&rig.arbiter, 0, FIRST).await;
    let mut older = rig.connect(bound(1, FIRST)).await.unwrap();
    let holding = storage.hold();
    older.start_write(0, &OLD).await;
    storage.until_waiting(1).await;
    let address = rig.disks;
    let newer = tokio::spawn(crate::rig::Client::connect(
        address,
        "disk",
        bound(1, FIRST),
    ));
    assert_eq!(older.reply().await, None);
    assert!(
        !newer.is_finished(),
        "connected with an older write under way"
    );
    drop(holding);
    let mut newer = newer.await.unwrap().unwrap();
    assert_eq!(storage.bytes()[..512], OLD);
    assert_eq!(newer.write(0, &NEW).await, Ok(()));
    assert_eq!(storage.bytes()[..512], NEW);
}

#[tokio::test]
async fn a_server_that_starts_again_goes_on_in_its_term() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    win(&rig.arbiter, 0, FIRST).await;
    win(&rig.arbiter, 1, SECOND).await;
    let state = rig.folder.path().join("state");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(state, folder.path().join("state")).unwrap();
    rig.stop().await;
    let export = disk_server::Export {
        name: "disk".to_owned(),
        storage: storage as Arc<dyn Storage>,
        read_only: false,
    };
    let rig = Rig::of(vec![export], folder).await;
    let refused = rig.connect(bound(1, FIRST)).await;
    assert!(matches!(
        refused.map(|client| client.opened),
        Err(HandshakeError::OtherTerm { term: 2 })
    ));
    let mut second = rig.connect(bound(2, SECOND)).await.unwrap();
    assert_eq!(second.write(0, &NEW).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_stops_lets_what_is_under_way_end() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    win(&rig.arbiter, 0, FIRST).await;
    let mut client = rig.connect(bound(1, FIRST)).await.unwrap();
    let holding = storage.hold();
    client.start_write(0, &NEW).await;
    storage.until_waiting(1).await;
    let stopped = tokio::spawn(rig.stop());
    assert_eq!(client.reply().await, None);
    assert!(!stopped.is_finished(), "stopped with a write under way");
    drop(holding);
    stopped.await.unwrap();
    assert_eq!(storage.bytes()[..512], NEW);
}
