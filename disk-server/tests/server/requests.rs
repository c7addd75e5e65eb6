//! Requests one by one: what they do to an image, and how they fail.

use std::{sync::Arc, time::Duration};

use disk_server::{
    DiskServerError, Export, Image, Server,
    client::{Claim, HandshakeError},
    wire::{
        Ask, Command, ErrorCode, GREETING_BYTES, MAX_DATA_BYTES, Request, command_flag,
        encode_option, flag,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::{
    held::Held,
    rig::{Client, FIRST, Rig, TIMEOUT},
};

#[tokio::test]
async fn what_is_written_is_in_the_image_and_what_is_given_back_is_zero() {
    let rig = Rig::with_image(&[7; 1 << 16]).await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    assert_eq!(client.opened.size_bytes, 1 << 16);
    assert_eq!(client.write(1000, &[9; 3000]).await, Ok(()));
    assert_eq!(client.ask(Command::Trim, 8192, 4096).await, Ok(()));
    let cookie = client
        .send(
            Command::WriteZeroes,
            command_flag::NO_HOLE | command_flag::FUA,
            20_000,
            10,
            &[],
        )
        .await;
    assert_eq!(client.reply().await.unwrap().cookie, cookie);
    assert_eq!(client.ask(Command::Flush, 0, 0).await, Ok(()));
    let mut expected = vec![7; 1 << 16];
    expected[1000..4000].fill(9);
    expected[8192..8192 + 4096].fill(0);
    expected[20_000..20_010].fill(0);
    assert_eq!(client.read(0, 1 << 16).await, Ok(expected.clone()));
    assert_eq!(rig.image(), expected);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_the_connection_goes_on() {
    let rig = Rig::with_image(&[7; 4096]).await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    assert_eq!(client.write(4000, &[9; 97]).await, Err(ErrorCode::NoSpace));
    assert_eq!(client.read(u64::MAX, 1).await, Err(ErrorCode::Invalid));
    let long = client.ask(Command::Read, 0, MAX_DATA_BYTES + 1).await;
    assert_eq!(long, Err(ErrorCode::Invalid));
    let unknown = client.ask(Command::Unknown(77), 0, 0).await;
    assert_eq!(unknown, Err(ErrorCode::Invalid));
    assert_eq!(client.read(0, 4096).await, Ok(vec![7; 4096]));
}

#[tokio::test]
async fn requests_do_not_wait_for_each_other() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    let holding = storage.hold();
    let slow = client.start_write(0, &[1; 512]).await;
    storage.until_waiting(1).await;
    assert_eq!(client.read(512, 512).await, Ok(vec![0; 512]));
    drop(holding);
    assert_eq!(client.reply().await.unwrap().cookie, slow);
}

#[tokio::test]
async fn who_says_goodbye_is_answered_first() {
    let storage = Held::new(4096);
    let rig = Rig::serving(storage.clone()).await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    let holding = storage.hold();
    let write = client.start_write(0, &[1; 512]).await;
    client.send(Command::Disconnect, 0, 0, 0, &[]).await;
    storage.until_waiting(1).await;
    drop(holding);
    assert_eq!(client.reply().await.unwrap().cookie, write);
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn the_old_way_in_works_too() {
    let rig = Rig::with_image(&[7; 4096]).await;
    // Client flags, and the zeroes that follow the export's size and flags.
    for (flags, zeroes) in [(0b01u32, 124), (0b11, 0)] {
        let mut stream = rig.raw().await;
        let mut bytes = flags.to_be_bytes().to_vec();
        bytes.extend(encode_option(&Ask::ExportName("disk".to_owned())));
        let goodbye = Request {
            flags: 0,
            command: Command::Disconnect,
            cookie: 0,
            offset: 0,
            length: 0,
        };
        bytes.extend(goodbye.encode());
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let described = &answer[GREETING_BYTES..];
        assert_eq!(described[..8], 4096u64.to_be_bytes());
        assert_eq!(described[10..], vec![0; zeroes]);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    // Every write to it finds no space left.
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::of(
        vec![Export {
            name: "disk".to_owned(),
            storage: Arc::new(Full),
            read_only: false,
        }],
        folder,
    )
    .await;
    let mut client = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    assert_eq!(client.write(0, &[1; 512]).await, Err(ErrorCode::NoSpace));
    assert_eq!(client.ask(Command::Flush, 0, 0).await, Err(ErrorCode::Io));
    assert_eq!(client.read(0, 512).await, Ok(vec![0; 512]));
}

/// A disk without space, whose flushes fail.
#[derive(Debug)]
struct Full;

impl disk_server::Storage for Full {
    fn size_bytes(&self) -> u64 {
        4096
    }

    fn read_at(&self, _offset: u64, data: &mut [u8]) -> std::io::Result<()> {
        data.fill(0);
        Ok(())
    }

    fn write_at(&self, _offset: u64, _data: &[u8]) -> std::io::Result<()> {
        Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
    }

    fn zero(&self, _offset: u64, _length: u64, _keep_space: bool) -> std::io::Result<()> {
        Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
    }

    fn flush(&self) -> std::io::Result<()> {
        Err(std::io::Error::from_raw_os_error(libc::EIO))
    }
}

#[tokio::test]
async fn a_read_only_image_stays_so_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, [7; 4096]).unwrap();
    let storage = Arc::new(Image::open(&path, true, Duration::ZERO).unwrap());
    let export = Export {
        name: "tools".to_owned(),
        storage,
        read_only: true,
    };
    let rig = Rig::of(vec![export], folder).await;
    let claim = Claim::TakeOver(FIRST);
    let mut client = Client::connect(rig.disks, "tools", claim).await.unwrap();
    assert_ne!(client.opened.flags & flag::READ_ONLY, 0);
    assert_eq!(
        client.write(0, &[1; 512]).await,
        Err(ErrorCode::NotPermitted)
    );
    let unknown = Client::connect(rig.disks, "disk", claim).await;
    assert!(matches!(
        unknown.map(|client| client.opened),
        Err(HandshakeError::NoExport)
    ));
}

#[test]
fn two_exports_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = || arbiter::Store::open(folder.path().join("state"), TIMEOUT).unwrap();
    let export = |name: &str| Export {
        name: name.to_owned(),
        storage: Held::new(512),
        read_only: false,
    };
    for names in [["a", "a"], ["", "a"], ["a", "b\n"]] {
        let server = Server::new(names.map(export).into(), store(), mpsc::channel(1).0);
        let error = server.map(drop).unwrap_err();
        assert!(matches!(error, DiskServerError::Name { .. }), "{error}");
    }
}
