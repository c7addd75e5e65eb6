//! A server in this process, and a client that sends one request at a time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arbiter::{Address, Arbiter, Identity, Outcome, Store};
use disk_server::{
    Export, Image, Notice, Server, Storage,
    client::{self, Claim, HandshakeError, Opened},
    wire::{Command, ErrorCode, REPLY_BYTES, Reply, Request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Generous: only a failure waits for so long.
pub const TIMEOUT: Duration = Duration::from_secs(120);

pub const FIRST: Identity = Identity::from_bytes([1; 16]);
pub const SECOND: Identity = Identity::from_bytes([2; 16]);

/// A server, until dropped.
pub struct Rig {
    pub disks: SocketAddr,
    pub arbiter: Arbiter,
    pub folder: tempfile::TempDir,
    pub notices: mpsc::Receiver<Notice>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), disk_server::DiskServerError>>,
}

impl Rig {
    /// Serves `storage` as `disk`.
    pub async fn serving(storage: Arc<dyn Storage>) -> Self {
        let name = "disk".to_owned();
        let read_only = false;
        let folder = tempfile::tempdir().unwrap();
        let export = Export {
            name,
            storage,
            read_only,
        };
        Self::of(vec![export], folder).await
    }

    /// Serves an image of these bytes as `disk`.
    pub async fn with_image(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        let storage = Arc::new(Image::open(&path, false, Duration::ZERO).unwrap());
        let export = Export {
            name: "disk".to_owned(),
            storage,
            read_only: false,
        };
        Self::of(vec![export], folder).await
    }

    /// Serves these.
    pub async fn of(exports: Vec<Export>, folder: tempfile::TempDir) -> Self {
        let store = Store::open(folder.path().join("state"), TIMEOUT).unwrap();
        let (tell, notices) = mpsc::channel(1000);
        let server = Server::new(exports, store, tell).unwrap();
        let disks_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let claims_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let disks = disks_listener.local_addr().unwrap();
        let port = claims_listener.local_addr().unwrap().port();
        let host = "127.0.0.1".to_owned();
        let arbiter = Arbiter::new(Address::Tcp { host, port });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(disks_listener, claims_listener, async {
            let _ = stopped.await;
        }));
        Self {
            disks,
            arbiter,
            folder,
            notices,
            stop: Some(stop),
            task,
        }
    }

    /// The bytes of the image.
    pub fn image(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("image")).unwrap()
    }

    pub async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.disks).await.unwrap()
    }

    pub async fn connect(&self, claim: Claim) -> Result<Client, HandshakeError> {
        Client::connect(self.disks, "disk", claim).await
    }

    /// Stops the server, and waits until it has ended.
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// Claims as a replica does: a claim without an answer is asked again.
pub async fn win(arbiter: &Arbiter, expected_term: u64, identity: Identity) -> u64 {
    loop {
        match arbiter.claim(expected_term, identity, TIMEOUT).await {
            Ok(Outcome::Won { term }) => return term,
            Ok(lost) => panic!("{lost:?}"),
            Err(error) => assert!(error.is_unreachable(), "{error}"),
        }
    }
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    pub opened: Opened,
    next_cookie: u64,
}

impl Client {
    pub async fn connect(
        address: SocketAddr,
        export: &str,
        claim: Claim,
    ) -> Result<Self, HandshakeError> {
        let mut stream = TcpStream::connect(address).await?;
        let opened = client::negotiate(&mut stream, export, claim).await?;
        Ok(Self {
            stream,
            opened,
            next_cookie: 1,
        })
    }

    /// Sends a request; gives its cookie.
    pub async fn send(
        &mut self,
        command: Command,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> u64 {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let request = Request {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        let bytes = [&request.encode(), data].concat();
        self.stream.write_all(&bytes).await.unwrap();
        cookie
    }

    /// The next answer; `None` if the connection ends instead.
    pub async fn reply(&mut self) -> Option<Reply> {
        let mut bytes = [0; REPLY_BYTES];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some(Reply::decode(&bytes).unwrap())
    }

    /// Asks and waits.
    pub async fn ask(
        &mut self,
        command: Command,
        offset: u64,
        length: u32,
    ) -> Result<(), ErrorCode> {
        let cookie = self.send(command, 0, offset, length, &[]).await;
        let reply = self.reply().await.expect("an answer");
        assert_eq!(reply.cookie, cookie);
        reply.result
    }

    pub async fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, ErrorCode> {
        self.ask(Command::Read, offset, length).await?;
        let mut data = vec![0; length as usize];
        self.stream.read_exact(&mut data).await.unwrap();
        Ok(data)
    }

    /// Sends a write.
    pub async fn start_write(&mut self, offset: u64, data: &[u8]) -> u64 {
        self.send(Command::Write, 0, offset, data.len() as u32, data)
            .await
    }

    pub async fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), ErrorCode> {
        let cookie = self.start_write(offset, data).await;
        let reply = self.reply().await.expect("an answer");
        assert_eq!(reply.cookie, cookie);
        reply.result
    }
}
