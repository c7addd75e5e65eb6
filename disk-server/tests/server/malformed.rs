//! Whatever a connection sends ends itself at most.

use disk_server::{
    client::Claim,
    wire::{
        Ask, Command, GREETING_BYTES, MAX_DATA_BYTES, MAX_OPTION_BYTES, OPTION_REPLY_BYTES,
        ReplyHeader, Request, client_flags, encode_option, kind,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    held::Held,
    rig::{FIRST, Rig},
};

/// The same random numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What a client that reads sends.
fn honest() -> Vec<u8> {
    let info = |go| Ask::Info {
        name: "disk".to_owned(),
        block_size: true,
        go,
    };
    let asks = [Ask::List, info(false), Ask::TakeOver(FIRST), info(true)];
    let mut bytes = client_flags().to_vec();
    asks.iter().for_each(|ask| bytes.extend(encode_option(ask)));
    for (cookie, command) in [Command::Read, Command::Write, Command::Flush, Command::Trim]
        .into_iter()
        .enumerate()
    {
        let request = Request {
            flags: 0,
            command,
            cookie: cookie as u64,
            offset: 512,
            length: 512,
        };
        bytes.extend(request.encode());
        bytes.extend(vec![3; request.data_bytes()]);
    }
    bytes
}

/// Sends all that the server takes, ends its own side and reads until the server ends too.
async fn pour(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let mut answers = Vec::new();
    let (_, _) = tokio::join!(
        async {
            // The server may have hung up already.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        },
        reader.read_to_end(&mut answers),
    );
    answers
}

#[tokio::test]
async fn changed_bytes_end_their_own_connection_alone() {
    let rig = Rig::serving(Held::new(4096)).await;
    let mut good = rig.connect(Claim::Reader).await.unwrap();
    let honest = honest();
    let mut random = Random(0x6c6f_636b_7374_6570);
    for _ in 0..600 {
        let mut bytes = honest.clone();
        for _ in 0..=random.next() % 4 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        if random.next().is_multiple_of(4) {
            bytes.truncate(random.next() as usize % bytes.len());
        }
        let answers = pour(rig.raw().await, &bytes).await;
        assert!(answers.len() >= GREETING_BYTES);
        good.read(0, 512).await.unwrap();
    }
}

#[tokio::test]
async fn noise_ends_its_own_connection_alone() {
    let rig = Rig::serving(Held::new(4096)).await;
    let mut random = Random(1);
    for length in (0..4000).step_by(37) {
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let answers = pour(rig.raw().await, &noise).await;
        assert_eq!(answers.len(), GREETING_BYTES);
    }
    rig.connect(Claim::Reader).await.unwrap();
}

#[tokio::test]
async fn options_that_make_no_sense_are_answered_and_the_next_is_understood() {
    let rig = Rig::serving(Held::new(4096)).await;
    let mut stream = rig.raw().await;
    stream.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
    stream.write_all(&client_flags()).await.unwrap();
    let long = vec![0; MAX_OPTION_BYTES as usize + 1];
    // Number, data, and the answer's kind.
    let options: [(u32, &[u8], u32); 6] = [
        (77, b"whatever", kind::UNSUPPORTED),
        // Structured replies and TLS.
        (8, b"", kind::UNSUPPORTED),
        (5, b"", kind::UNSUPPORTED),
        (3, b"no data belong here", kind::INVALID),
        (7, &[0xff; 4], kind::INVALID),
        (6, &long, kind::TOO_BIG),
    ];
    for (option, data, expected) in options {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        stream.write_all(&bytes).await.unwrap();
        let mut header = [0; OPTION_REPLY_BYTES];
        stream.read_exact(&mut header).await.unwrap();
        let header = ReplyHeader::decode(&header).unwrap();
        assert_eq!((header.option, header.kind), (option, expected));
        let mut text = vec![0; header.length as usize];
        stream.read_exact(&mut text).await.unwrap();
    }
    stream.write_all(&encode_option(&Ask::Abort)).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), OPTION_REPLY_BYTES);
}

#[tokio::test]
async fn a_write_beyond_all_limits_ends_the_connection() {
    let rig = Rig::serving(Held::new(4096)).await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    client
        .send(Command::Write, 0, 0, MAX_DATA_BYTES + 1, &[])
        .await;
    assert_eq!(client.reply().await, None);
    rig.connect(Claim::Reader).await.unwrap();
}
