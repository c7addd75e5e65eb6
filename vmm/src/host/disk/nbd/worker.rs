//! The disk's thread: one loop while there is a connection, another while there is none.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use disk_server::{
    client::{Claim, HandshakeError},
    wire::{Binding, ErrorCode},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    NbdAddress, UnderWay,
    connection::{self, Answer, Connection, no_answer},
    table::{Finished, Table, is_known},
};
use crate::{
    effect::{DiskOperation, DiskRequest},
    host::disk::{DiskCompletion, DiskError, DiskEvent, DiskSink, Grant},
};

/// Between two attempts: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server that is connected may leave all requests without an answer before a new connection is tried.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// What the disk's thread is asked for.
pub(super) enum Command {
    Submit(DiskRequest),
    Grant {
        grant: Grant,
        tell: SyncSender<Result<(), String>>,
    },
}

/// A grant that is being asked for at the server.
struct Wanted {
    claim: Claim,
    tell: SyncSender<Result<(), String>>,
}

/// The disk's thread.
pub(super) struct Worker {
    disk: u8,
    address: NbdAddress,
    give_up_after: Duration,
    sink: Arc<dyn DiskSink>,
    under_way: Arc<UnderWay>,
    commands: mpsc::UnboundedReceiver<Command>,
    table: Table,
    /// By what right the next connection is made.
    claim: Claim,
    /// By what right it should be, if the server agrees.
    wanted: Option<Wanted>,
    /// The server is gone for too long: what is asked for fails at once.
    given_up: bool,
}

/// Why a connection was left.
enum Left {
    /// The disk was dropped.
    Dropped,
    /// Another right is wanted.
    Wanted,
    /// It ended.
    Lost(String),
}

/// Why there is no connection and will be none.
enum End {
    Dropped,
    CutOff { term: u64 },
}

impl Worker {
    pub(super) fn new(
        disk: u8,
        address: NbdAddress,
        give_up_after: Duration,
        sink: Arc<dyn DiskSink>,
        under_way: Arc<UnderWay>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            disk,
            address,
            give_up_after,
            sink,
            under_way,
            commands,
            table: Table::default(),
            claim: Claim::Reader,
            wanted: None,
            given_up: false,
        }
    }

    /// Runs until the disk is dropped.
    pub(super) async fn run(mut self, mut connection: Connection) {
        loop {
            let lost = match self.serve(connection).await {
                Left::Dropped => return,
                Left::Wanted => None,
                Left::Lost(error) => Some(error),
            };
            connection = match self.reconnect(lost).await {
                Ok(connection) => connection,
                Err(End::Dropped) => return,
                Err(End::CutOff { term }) => return self.be_cut_off(term).await,
            };
        }
    }

    /// Requests out, answers in, until something is wrong or another right is wanted.
    async fn serve(&mut self, mut connection: Connection) -> Left {
        for number in self.table.numbers() {
            self.send(number, &connection);
        }
        let patience = (self.give_up_after / 2).clamp(LEAST_PATIENCE, MOST_PATIENCE);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                answer = connection.answer() => {
                    heard = Instant::now();
                    match answer {
                        Ok(answer) => if let Err(error) = self.answered(answer) {
                            return Left::Lost(error);
                        },
                        Err(error) => return Left::Lost(error.to_string()),
                    }
                }
                command = self.commands.recv() => match command {
                    None => return Left::Dropped,
                    Some(Command::Submit(request)) => {
                        if self.table.is_empty() {
                            heard = Instant::now();
                        }
                        let number = self.table.insert(request);
                        self.send(number, &connection);
                    }
                    Some(Command::Grant { grant, tell }) => {
                        let claim = self.claim_for(grant);
                        if claim == self.claim {
                            // Nobody waits for it if this fails.
                            let _ = tell.send(Ok(()));
                        } else {
                            self.wanted = Some(Wanted { claim, tell });
                            return Left::Wanted;
                        }
                    }
                },
                () = sleep_until(heard + patience), if !self.table.is_empty() => {
                    return Left::Lost(no_answer(patience).to_string());
                }
            }
        }
    }

    /// A connection in the place of one that is gone: with the right that is wanted, or the one that there was.
    async fn reconnect(&mut self, lost: Option<String>) -> Result<Connection, End> {
        let mut waiting = false;
        if let Some(error) = lost {
            self.tell_waiting(&mut waiting, error);
        }
        let give_up = Instant::now() + self.give_up_after;
        let mut pause = FIRST_PAUSE;
        loop {
            let (address, claim) = (self.address.clone(), self.next_claim());
            let attempt = async move { connection::open(&address, claim).await };
            let Some(made) = self.meanwhile(attempt, give_up).await? else {
                // Something else is wanted now.
                continue;
            };
            match made {
                Ok(connection) => {
                    self.adopt(&connection);
                    if waiting {
                        self.sink.tell(DiskEvent::Back {
                            disk: self.disk,
                            place: self.address.to_string(),
                        });
                    }
                    self.given_up = false;
                    return Ok(connection);
                }
                Err(error) if is_final(&error) && self.wanted.is_some() => {
                    self.answer_wanted(Err(error.to_string()));
                    continue;
                }
                Err(HandshakeError::OtherTerm { term }) => return Err(End::CutOff { term }),
                Err(error) => {
                    if self.given_up {
                        self.answer_wanted(Err(error.to_string()));
                    }
                    self.tell_waiting(&mut waiting, error.to_string());
                }
            }
            let next = Instant::now() + pause;
            pause = LONGEST_PAUSE.min(pause * 2);
            self.meanwhile(sleep_until(next), give_up).await?;
        }
    }

    /// Waits for `what`, and takes commands; `None` if another right is wanted now. Gives the server up when it is time.
    async fn meanwhile<T>(
        &mut self,
        what: impl Future<Output = T>,
        give_up: Instant,
    ) -> Result<Option<T>, End> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Ok(Some(done)),
                command = self.commands.recv() => match command {
                    None => return Err(End::Dropped),
                    Some(Command::Submit(request)) if self.given_up => {
                        self.complete(&request, Err(self.gone()));
                    }
                    Some(Command::Submit(request)) => {
                        self.table.insert(request);
                    }
                    Some(Command::Grant { grant, tell }) => {
                        self.answer_wanted(Err("another grant came before the server answered".to_owned()));
                        let claim = self.claim_for(grant);
                        self.wanted = Some(Wanted { claim, tell });
                        return Ok(None);
                    }
                },
                () = sleep_until(give_up), if !self.given_up => self.give_up(),
            }
        }
    }

    /// All that waits fails. Nothing of it is sent any more, and what was sent is over when the server answers again.
    fn give_up(&mut self) {
        self.given_up = true;
        self.sink.tell(DiskEvent::GivenUp {
            disk: self.disk,
            place: self.address.to_string(),
            seconds: self.give_up_after.as_secs(),
        });
        for number in self.table.numbers() {
            if let Some(request) = self.table.remove(number) {
                self.complete(&request, Err(self.gone()));
            }
        }
        self.answer_wanted(Err(self.gone().to_string()));
    }

    /// Nothing completes from here on.
    async fn be_cut_off(mut self, term: u64) {
        self.sink.tell(DiskEvent::CutOff {
            disk: self.disk,
            place: self.address.to_string(),
            term,
        });
        self.under_way.change(|count| count.cut_off = true);
        while let Some(command) = self.commands.recv().await {
            if let Command::Grant { tell, .. } = command {
                let text = format!("{} is cut off: the server is in term {term}", self.address);
                // Nobody waits for it if this fails.
                let _ = tell.send(Err(text));
            }
        }
    }

    fn claim_for(&self, grant: Grant) -> Claim {
        match (grant, self.claim) {
            (Grant::ReadOnly, _) => Claim::Reader,
            (Grant::Live { term, identity }, _) => Claim::Bound(Binding { term, identity }),
            // It has taken over already, and goes on in the term that it got.
            (Grant::Alone { identity }, Claim::Bound(binding)) if binding.identity == identity => {
                self.claim
            }
            (Grant::Alone { identity }, _) => Claim::TakeOver(identity),
        }
    }

    fn next_claim(&self) -> Claim {
        self.wanted
            .as_ref()
            .map_or(self.claim, |wanted| wanted.claim)
    }

    /// The server agreed to [`Worker::next_claim`].
    fn adopt(&mut self, connection: &Connection) {
        self.claim = connection
            .opened()
            .binding
            .map_or(Claim::Reader, Claim::Bound);
        self.answer_wanted(Ok(()));
    }

    fn answer_wanted(&mut self, answer: Result<(), String>) {
        if let Some(wanted) = self.wanted.take() {
            // Nobody waits for it if this fails.
            let _ = wanted.tell.send(answer);
        }
    }

    fn tell_waiting(&self, waiting: &mut bool, error: String) {
        if !std::mem::replace(waiting, true) {
            self.sink.tell(DiskEvent::Waiting {
                disk: self.disk,
                place: self.address.to_string(),
                error,
            });
        }
    }

    fn gone(&self) -> DiskError {
        DiskError::Failed(format!("the server of {} is gone", self.address))
    }

    /// Sends a request, unless this server cannot do it.
    fn send(&mut self, number: u64, connection: &Connection) {
        let opened = connection.opened();
        let Some(request) = self.table.request(number) else {
            return;
        };
        let end = request.operation.range().map_or(0, |range| range.end);
        let refused = if !is_known(&request.operation, opened.flags) {
            DiskError::Unsupported
        } else if end > opened.size_bytes {
            let size_bytes = opened.size_bytes;
            self.failed(
                request,
                &format!("the image is shorter than promised, {size_bytes} bytes"),
            )
        } else {
            for piece in self.table.start(number) {
                connection.send(piece);
            }
            return;
        };
        if let Some(request) = self.table.remove(number) {
            self.complete(&request, Err(refused));
        }
    }

    fn answered(&mut self, (cookie, result): Answer) -> Result<(), String> {
        if result == Err(ErrorCode::Shutdown) {
            return Err("it is shutting down".to_owned());
        }
        let finished = self.table.answer(cookie, result);
        let finished = finished.map_err(|_| "it answers what was not asked".to_owned())?;
        if let Some((request, result)) = finished {
            self.finish((request, result));
        }
        Ok(())
    }

    fn finish(&self, (request, result): Finished) {
        let result = result.map_err(|code| match code {
            ErrorCode::NotSupported => DiskError::Unsupported,
            ErrorCode::NoSpace => self.failed(&request, "the server's disk is full"),
            ErrorCode::NotPermitted => {
                self.failed(&request, "this replica may not write it, or nobody may")
            }
            ErrorCode::Io => {
                self.failed(&request, "the server's disk failed; its messages say more")
            }
            other => self.failed(&request, &format!("the server refuses it ({other:?})")),
        });
        self.complete(&request, result);
    }

    /// Tells the user.
    fn failed(&self, request: &DiskRequest, error: &str) -> DiskError {
        self.sink.tell(DiskEvent::Failed {
            disk: self.disk,
            place: self.address.to_string(),
            what: describe(&request.operation),
            error: error.to_owned(),
        });
        DiskError::Failed(error.to_owned())
    }

    fn complete(&self, request: &DiskRequest, result: Result<Vec<u8>, DiskError>) {
        self.sink.complete(DiskCompletion {
            disk: request.disk,
            request: request.id,
            result,
        });
        self.under_way.change(|count| count.requests -= 1);
    }
}

/// Whether asking again gives the same answer.
fn is_final(error: &HandshakeError) -> bool {
    matches!(
        error,
        HandshakeError::OtherTerm { .. } | HandshakeError::NoFence | HandshakeError::NoExport
    )
}

fn describe(operation: &DiskOperation) -> String {
    let what = match operation {
        DiskOperation::Read { .. } => "a read",
        DiskOperation::Write { .. } => "a write",
        DiskOperation::Flush => return "a flush".to_owned(),
        DiskOperation::Discard { .. } => "a discard",
        DiskOperation::WriteZeroes { .. } => "a write of zeroes",
    };
    let range = operation.range().unwrap_or(0..0);
    format!(
        "{what} of {} bytes at byte {}",
        range.end - range.start,
        range.start
    )
}
