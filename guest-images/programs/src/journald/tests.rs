//! The service on a host's folder and a host's network.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use guest_journal::{PAYLOAD_BYTES, RECORD_BYTES, Record, read_back};

use super::*;

/// A folder and a port that no other test uses.
struct Setting {
    folder: PathBuf,
    journald: Journald,
}

impl Setting {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("journald-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let journald = Journald::listen(&folder, listener).expect("a journal");
        Self { folder, journald }
    }

    fn client(&self) -> BufReader<TcpStream> {
        let listener = self.journald.listener.as_ref().expect("listening");
        let address = listener.local_addr().expect("an address");
        BufReader::new(TcpStream::connect(address).expect("a connection"))
    }

    fn on_disk(&self) -> Vec<Record> {
        let bytes = std::fs::read(self.folder.join(JOURNAL)).expect("readable");
        let (records, fault) = read_back(&bytes);
        assert_eq!(fault, None);
        records
    }

    /// Turns until `client` has so many more lines.
    fn lines(&mut self, client: &mut BufReader<TcpStream>, count: usize) -> Vec<Answer> {
        client.get_ref().set_nonblocking(true).expect("a socket");
        let mut answers = Vec::new();
        let mut line = String::new();
        while answers.len() < count {
            match client.read_line(&mut line) {
                Ok(0) => panic!("the connection ended after {answers:?}"),
                Ok(_) => {
                    answers.push(Answer::parse(line.trim_end()).expect("an answer"));
                    line.clear();
                }
                Err(_) => assert_eq!(self.journald.turn(), None),
            }
        }
        answers
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn say(client: &BufReader<TcpStream>, text: &str) {
    let mut stream = client.get_ref();
    stream.write_all(text.as_bytes()).expect("sent");
}

fn numbers(answers: &[Answer]) -> Vec<u64> {
    answers
        .iter()
        .map(|answer| match answer {
            Answer::Appended { number, .. } => *number,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn records_of_two_clients_make_one_sequence() {
    let mut setting = Setting::new("two");
    let (mut first, mut second) = (setting.client(), setting.client());
    say(&first, "append a\nappend b\n");
    say(&second, "append c\r\n");
    let answers = setting.lines(&mut first, 2);
    let more = setting.lines(&mut second, 1);
    let mut all = [numbers(&answers), numbers(&more)].concat();
    assert!(all[0] < all[1]);
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    let records = setting.on_disk();
    assert_eq!(records.len(), 3);
    for answer in answers.iter().chain(&more) {
        let Answer::Appended { number, checksum } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(records[*number as usize - 1].checksum(), *checksum);
    }
}

#[test]
fn what_arrived_together_is_one_batch() {
    let mut setting = Setting::new("batch");
    let mut client = setting.client();
    say(&client, &"append x\n".repeat(100));
    // The connection, then what it brought.
    while setting.journald.connections.is_empty() {
        setting.journald.accept();
    }
    setting.journald.turn();
    assert_eq!(setting.on_disk().len(), 100);
    assert_eq!(numbers(&setting.lines(&mut client, 100))[99], 100);
}

#[test]
fn records_are_read_over_the_connection() {
    let mut setting = Setting::new("read");
    let mut client = setting.client();
    let payload = "p".repeat(PAYLOAD_BYTES);
    say(
        &client,
        &format!("append one\nappend {payload}\nread 2 9\nread 3 1\n"),
    );
    let answers = setting.lines(&mut client, 5);
    assert_eq!(answers[2], Answer::Records(1));
    let Answer::Record(bytes) = &answers[3] else {
        panic!("{answers:?}");
    };
    let record = Record::decode(&bytes[..]).expect("a record");
    assert_eq!(record.payload.bytes(), payload.as_bytes());
    assert_eq!(answers[4], Answer::Records(0));
}

#[test]
fn a_client_that_reads_nothing_is_not_served_without_bound() {
    let mut setting = Setting::new("bound");
    let client = setting.client();
    say(&client, &"append x\n".repeat(256));
    say(&client, &"read 1 256\n".repeat(300));
    let mut other = setting.client();
    say(&other, "append y\n");
    setting.lines(&mut other, 1);
    for _ in 0..1000 {
        if setting.journald.connections[0].has_requests() {
            setting.journald.turn();
        }
    }
    let unsent = setting.journald.connections[0].unsent_bytes();
    assert!(unsent < 3 * 64 * 1024, "{unsent} bytes");
    say(&other, "append z\n");
    assert_eq!(setting.lines(&mut other, 1).len(), 1);
}

#[test]
fn nonsense_is_answered_and_a_long_line_ends_the_connection() {
    let mut setting = Setting::new("nonsense");
    let mut client = setting.client();
    say(&client, "appendix\nappend x\nread 9 1\n");
    let answers = setting.lines(&mut client, 3);
    assert!(matches!(answers[0], Answer::Error(_)));
    assert_eq!(answers[2], Answer::Records(0));
    assert_eq!(
        answers[1],
        Answer::Appended {
            number: 1,
            checksum: setting.on_disk()[0].checksum()
        }
    );
    say(&client, &"x".repeat(1000));
    assert!(matches!(setting.lines(&mut client, 1)[0], Answer::Error(_)));
    assert!(setting.journald.connections.is_empty());
}

#[test]
fn a_disk_that_fails_is_an_error_for_each_request() {
    let mut setting = Setting::new("fails");
    let mut client = setting.client();
    say(&client, "append one\n");
    assert_eq!(numbers(&setting.lines(&mut client, 1)), [1]);
    let store = setting.journald.store.take();
    say(&client, "append two\nappend three\nread 1 1\n");
    let answers = setting.lines(&mut client, 3);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Answer::Error(_))),
        "{answers:?}"
    );
    setting.journald.store = store;
    say(&client, "append two\n");
    assert_eq!(numbers(&setting.lines(&mut client, 1)), [2]);
}

#[test]
fn a_shutdown_is_told_after_what_came_before_it() {
    let mut setting = Setting::new("shutdown");
    let client = setting.client();
    say(&client, "append one\nshutdown\nshutdown\n");
    let closer = loop {
        if let Some(closer) = setting.journald.turn() {
            break closer;
        }
    };
    assert_eq!(closer, 0);
    assert_eq!(setting.on_disk().len() * RECORD_BYTES, RECORD_BYTES);
}
