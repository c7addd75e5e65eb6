//! A round's clients: the counter's, and the journal's if the pair has a disk. What either is answered is waited for at once.

use super::{
    Client, DemoError, Host, JournalClient, Rig,
    client::Answer,
    journal::{Durable, JOURNAL_PORT},
    network::GUEST_ADDRESS,
    round::PATIENCE,
};

/// Requests in flight to the counter. More than one, so that at any moment some are, wherever the guest is in its work.
const COUNTER_WINDOW: u64 = 4;
/// Records in flight to the journal: enough that some wait while others are on their way to the disk.
const JOURNAL_WINDOW: usize = 4;
/// Whose records they are; the disk is new.
const NAME: &str = "demo";
/// How often requests are sent to have some in flight at the kill; on an idle host the first time is enough.
const IN_FLIGHT_TRIES: u32 = 1000;

/// The clients of one guest.
#[derive(Debug)]
pub(super) struct Clients {
    counter: Client,
    journal: Option<JournalClient>,
}

/// What they have sent so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// To the counter.
    pub requests: u64,
    /// To the journal.
    pub records: u64,
}

impl Clients {
    /// Connects to the services of the rig's guest.
    pub async fn connect(rig: &Rig) -> Result<Self, DemoError> {
        Ok(Self {
            counter: rig.connect(COUNTER_WINDOW, PATIENCE).await?,
            journal: match rig.image(Host::Backup) {
                Some(_) => {
                    let address = (GUEST_ADDRESS, JOURNAL_PORT).into();
                    Some(JournalClient::connect(address, NAME, JOURNAL_WINDOW, PATIENCE).await?)
                }
                None => None,
            },
        })
    }

    /// The counter's.
    pub fn counter(&self) -> &Client {
        &self.counter
    }

    /// The journal's, if there is one. From then on there is none here.
    pub fn take_journal(&mut self) -> Option<JournalClient> {
        self.journal.take()
    }

    /// The numbers that the counter has answered so far.
    pub fn answers(&self) -> &[Answer] {
        self.counter.answers()
    }

    /// The records that the journal has answered so far.
    fn durable(&self) -> Option<&[Durable]> {
        self.journal.as_ref().map(JournalClient::durable)
    }

    /// How many those are.
    pub fn durable_records(&self) -> Option<u64> {
        self.durable().map(|durable| durable.len() as u64)
    }

    /// What has been sent.
    pub fn sent(&self) -> Sent {
        Sent {
            requests: self.counter.tally().requests(),
            records: self.journal.as_ref().map_or(0, JournalClient::sent),
        }
    }

    /// Whether each has been answered once at least.
    pub fn all_answered(&self) -> bool {
        let durable = self.durable();
        !self.answers().is_empty() && durable.is_none_or(|durable| !durable.is_empty())
    }

    /// Whether anything waits for its answer.
    pub fn in_flight(&self) -> bool {
        let records = self.journal.as_ref().map_or(0, JournalClient::in_flight);
        self.counter.tally().in_flight() > 0 || records > 0
    }

    /// Sends what the windows hold.
    pub fn fill_windows(&mut self) -> Result<(), DemoError> {
        self.counter.fill_window()?;
        self.journal
            .as_mut()
            .map_or(Ok(()), JournalClient::fill_window)
    }

    /// Waits for the next answer to either; sends nothing new. Cancel-safe.
    pub async fn next_answer(&mut self) -> Result<(), DemoError> {
        let Some(journal) = &mut self.journal else {
            return self.counter.next_answer().await.map(drop);
        };
        tokio::select! {
            answer = self.counter.next_answer() => answer.map(drop),
            durable = journal.next_durable() => durable.map(drop),
        }
    }

    /// Sends until requests are on their way to which no answer has come. (Sending wakes the guest, which may be faster than we are.)
    pub fn put_in_flight(&mut self) -> Result<(), DemoError> {
        for _ in 0..IN_FLIGHT_TRIES {
            while self.take_arrived()? {}
            self.fill_windows()?;
            if !self.take_arrived()? {
                break;
            }
        }
        Ok(())
    }

    /// Whether an answer had arrived already, which is taken.
    fn take_arrived(&mut self) -> Result<bool, DemoError> {
        if self.counter.take_arrived()?.is_some() {
            return Ok(true);
        }
        match &mut self.journal {
            Some(journal) => Ok(journal.take_arrived()?.is_some()),
            None => Ok(false),
        }
    }
}
