//! Rigs for the failover tests.

use std::{
    future::Future,
    net::{Ipv4Addr, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use vmm::{
    demo::{
        ArbiterKind, Client, DemoError, Guest, Images, Member, Rig, RigOptions,
        network::{Host, TAP},
    },
    engine::EngineKind,
    host::Event,
};

use crate::images;

/// How long anything may take that takes no time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Long enough that a busy machine is no failure.
pub const CALM: Duration = Duration::from_secs(20);
/// For tests that wait for silence to be noticed.
pub const NERVOUS: Duration = Duration::from_secs(2);

/// One rig at a time in this process: the machine has few cores.
pub fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Options for a pair that runs `guest` on `engine`.
#[must_use]
pub fn options(
    engine: EngineKind,
    guest: Guest,
    arbiter: ArbiterKind,
    failure_timeout: Duration,
) -> RigOptions {
    let images = match guest {
        Guest::Bare => Images::named(guest, images::bare("echo"), None, ""),
        Guest::Linux => Images::named(
            guest,
            images::variable("LOCKSTEP_LINUX_KERNEL").into(),
            Some(images::variable("LOCKSTEP_LINUX_INITRD").into()),
            &images::variable("LOCKSTEP_LINUX_CMDLINE"),
        ),
    };
    RigOptions {
        program: images::lockstep(),
        images,
        engine,
        arbiter,
        disk: None,
        failure_timeout: Some(failure_timeout),
        retransmit_after: None,
    }
}

/// Runs a test's story on a rig; if it fails, with what the rig's processes said.
///
/// # Panics
/// If the story fails.
pub fn play<S>(options: RigOptions, story: impl FnOnce(Scene) -> S)
where
    S: Future<Output = (Scene, Result<(), DemoError>)>,
{
    let _one = serial();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let rig = Rig::new(options).expect("a rig");
        let (scene, result) = story(Scene { rig }).await;
        if let Err(error) = result {
            let said: String = scene
                .rig
                .evidence()
                .iter()
                .map(|evidence| format!("--- {}\n{}\n", evidence.name, evidence.tail))
                .collect();
            panic!("{error}\n{said}");
        }
    });
}

/// A rig and the steps that stories are made of.
#[derive(Debug)]
pub struct Scene {
    /// The rig.
    pub rig: Rig,
}

impl Scene {
    /// Starts a pair and waits until its guest serves.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn begin(&mut self) -> Result<Client, DemoError> {
        self.rig.start_pair().await?;
        self.expect(Member::Primary, "a pair", |event| {
            matches!(event, Event::PairFormed { .. })
        })
        .await?;
        self.rig.wait_until_ready(Member::Primary).await?;
        self.rig.connect(1, PATIENCE).await
    }

    /// Waits for an event.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn expect(
        &mut self,
        member: Member,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event, DemoError> {
        let stamped = self
            .rig
            .wait_for_event(member, what, PATIENCE, wanted)
            .await?;
        Ok(stamped.event)
    }

    /// Waits until `member` is live alone, in term 2: the first after the pair's own.
    ///
    /// # Errors
    /// If it does not happen.
    pub async fn expect_live(&mut self, member: Member) -> Result<(), DemoError> {
        let live = |event: &Event| matches!(event, Event::Live { term: 2 });
        self.expect(member, "that it is live", live).await.map(drop)
    }

    /// Frames that the replica on `host` has sent to its tap so far.
    ///
    /// # Errors
    /// If the host cannot be visited.
    ///
    /// # Panics
    /// If there is no tap.
    pub fn frames_sent(&self, host: Host) -> Result<u64, DemoError> {
        let devices = self.rig.network().on_host(host, || {
            std::fs::read_to_string("/proc/thread-self/net/dev")
                .expect("the thread's network devices")
        })?;
        // What a tap's user writes is what the host receives: NAME: BYTES PACKETS …
        let tap = devices
            .lines()
            .find_map(|line| line.trim().strip_prefix(TAP)?.strip_prefix(':'));
        let packets = tap.and_then(|counts| counts.split_ascii_whitespace().nth(1)?.parse().ok());
        Ok(packets.expect("the host has a tap"))
    }

    /// Connects to somebody who may not listen yet.
    ///
    /// # Panics
    /// If nobody listens for long.
    #[must_use]
    pub fn patiently_connect(&self, address: (Ipv4Addr, u16)) -> TcpStream {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < give_up_at, "{address:?}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether `member` has reported such an event so far.
    ///
    /// # Errors
    /// If its events cannot be read.
    pub fn has(&self, member: Member, wanted: impl Fn(&Event) -> bool) -> Result<bool, DemoError> {
        let events = self.rig.events(member)?;
        Ok(events.iter().any(|stamped| wanted(&stamped.event)))
    }
}

/// Asks `count` times and waits for each answer.
///
/// # Errors
/// If the connection breaks or an answer does not come.
///
/// # Panics
/// If an answer is not the next number.
pub async fn ask(client: &mut Client, count: u64) -> Result<(), DemoError> {
    for _ in 0..count {
        let expected = client.tally().answers() + 1;
        client.fill_window()?;
        let answer = tokio::time::timeout(PATIENCE, client.next_answer()).await;
        let answer = answer.map_err(|_| DemoError::TimedOut {
            what: format!("answer {expected}"),
            waited: PATIENCE,
        })??;
        assert_eq!(answer.number, expected, "lost, repeated or out of order");
    }
    Ok(())
}
