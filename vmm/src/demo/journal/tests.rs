//! The client and a journal that is played by the test.

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// What answers as `journald` does, and keeps its records in memory.
struct Played {
    stream: BufReader<TcpStream>,
    chain: Chain,
    records: Vec<Record>,
}

impl Played {
    async fn with_client(window: usize) -> (JournalClient, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(
            JournalClient::connect(address, "client", window, LIMIT),
            listener.accept()
        );
        let played = Self {
            stream: BufReader::new(accepted.expect("a connection").0),
            chain: Chain::default(),
            records: Vec::new(),
        };
        (client.expect("a connection"), played)
    }

    async fn request(&mut self) -> Request {
        let mut line = Vec::new();
        self.stream
            .read_until(b'\n', &mut line)
            .await
            .expect("a line");
        Request::parse(line.strip_suffix(b"\n").expect("a whole line")).expect("a request")
    }

    async fn say(&mut self, answer: Answer) {
        let line = format!("{answer}\n");
        self.stream
            .write_all(line.as_bytes())
            .await
            .expect("written");
    }

    /// Takes a request and does it.
    async fn serve(&mut self) {
        match self.request().await {
            Request::Append(payload) => {
                let record = self.chain.append(payload);
                self.records.push(record);
                let (number, checksum) = (record.number, record.checksum());
                self.say(Answer::Appended { number, checksum }).await;
            }
            Request::Read { from, count } => {
                let first = (from as usize - 1).min(self.records.len());
                let end = (first + count as usize).min(self.records.len());
                self.say(Answer::Records((end - first) as u64)).await;
                for index in first..end {
                    let bytes = self.records[index].encode();
                    self.say(Answer::Record(Box::new(bytes))).await;
                }
            }
            Request::Shutdown => {
                let records = self.chain.records();
                self.say(Answer::Bye { records }).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_answered_is_kept_with_what_was_sent() {
    let (mut client, mut played) = Played::with_client(3).await;
    client.fill_window().expect("sent");
    assert_eq!((client.sent(), client.in_flight()), (3, 3));
    for number in 1..=3 {
        played.serve().await;
        let durable = client.next_durable().await.expect("an answer");
        assert_eq!(durable.number, number);
        assert_eq!(
            durable.payload.bytes(),
            format!("client {number}").as_bytes()
        );
    }
    assert!(client.take_arrived().expect("no failure").is_none());
    assert_eq!(client.in_flight(), 0);
    assert!(JournalVerdict::new(client.durable(), &played.records).passed());
}

#[tokio::test]
async fn a_refusal_answers_one_record() {
    let (mut client, mut played) = Played::with_client(2).await;
    client.fill_window().expect("sent");
    played.request().await;
    played
        .say(Answer::Error("cannot append: no space".into()))
        .await;
    let error = client.next_durable().await.expect_err("refused");
    assert!(error.to_string().contains("no space"), "{error}");
    played.serve().await;
    let durable = client.next_durable().await.expect("an answer");
    assert_eq!(durable.payload.bytes(), b"client 2");
    assert_eq!(
        (client.refused(), client.in_flight(), client.durable().len()),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn the_whole_journal_is_read_in_pieces() {
    let (mut client, mut played) = Played::with_client(1).await;
    for records in [0, 1, READ_LIMIT - 1, READ_LIMIT, READ_LIMIT + 1] {
        while played.chain.records() < records {
            let payload = Payload::new(b"somebody else's").expect("it fits");
            let record = played.chain.append(payload);
            played.records.push(record);
        }
        let reads = 1 + records / READ_LIMIT;
        let serve = async {
            for _ in 0..reads {
                played.serve().await;
            }
        };
        let (read, ()) = tokio::join!(client.read_all(), serve);
        assert_eq!(read.expect("records"), played.records);
    }
}

#[tokio::test]
async fn a_record_of_elsewhere_is_told() {
    let (mut client, mut played) = Played::with_client(1).await;
    let payload = Payload::new(b"x").expect("it fits");
    let (first, second) = (played.chain.append(payload), played.chain.append(payload));
    played.records = vec![first, second, second];
    let (read, ()) = tokio::join!(client.read_all(), played.serve());
    let error = read.expect_err("the third is the second");
    assert_eq!(
        error.to_string(),
        "Record 3 of the guest's journal is numbered 2"
    );
}

#[tokio::test]
async fn a_shutdown_says_how_many_records_there_are() {
    let (mut client, mut played) = Played::with_client(1).await;
    client.fill_window().expect("sent");
    played.serve().await;
    client.next_durable().await.expect("an answer");
    let (records, ()) = tokio::join!(client.shut_down(), played.serve());
    assert_eq!(records.expect("an answer"), 1);
}

#[tokio::test]
async fn answers_to_nothing_and_no_answers_are_errors() {
    let (mut client, mut played) = Played::with_client(1).await;
    played.say(Answer::Records(1)).await;
    let error = client.next_durable().await.expect_err("nothing was asked");
    assert!(error.to_string().contains("records 1"), "{error}");
    drop(played);
    assert!(matches!(
        client.next_durable().await,
        Err(DemoError::Client { .. })
    ));
}

#[test]
fn names_are_cut_where_a_character_ends() {
    assert_eq!(name_in_a_line("a\nb"), "a b");
    assert_eq!(name_in_a_line("fifteen bytes..é"), "fifteen bytes..");
}
