//! `lockstep disk-server` as a process, to be killed and started again on its ports.

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use arbiter::{Arbiter, Identity, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use vmm::host::disk::nbd::NbdDisk;

use crate::recorder::{Recorder, TIMEOUT};

pub const FIRST: Identity = Identity::from_bytes([1; 16]);
pub const SECOND: Identity = Identity::from_bytes([2; 16]);

/// A server of one image, killed when dropped.
pub struct Server {
    process: Option<Child>,
    disks: String,
    claims: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// Serves an image of so many sectors, all of this byte.
    pub fn start(sectors: usize, byte: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("image"), vec![byte; sectors * 512]).unwrap();
        let host = own_host();
        let mut server = Self {
            process: None,
            disks: format!("{host}:0"),
            claims: format!("{host}:0"),
            folder,
        };
        server.start_again();
        server
    }

    /// A server of the same image, on these ports.
    pub fn command(&self, disks: &str, claims: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        let image = format!("disk={}", self.path().display());
        command
            .args(["disk-server", "--listen", disks])
            .args(["--arbiter-listen", claims, "--state"])
            .arg(self.folder.path().join("state"))
            .arg(image)
            .stderr(Stdio::piped());
        command
    }

    /// Starts it, on the ports of before if there were any.
    pub fn start_again(&mut self) {
        let mut process = self.command(&self.disks, &self.claims).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("listening on"))
            .expect("the server says where it listens");
        let mut words = listening
            .split([' ', ','])
            .filter(|word| word.starts_with("127."));
        self.disks = words.next().unwrap().to_owned();
        self.claims = words.next().unwrap().to_owned();
        // What it says later is shown when a test fails, and must not fill the pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        self.process = Some(process);
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub fn image(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    /// SIGKILL; gone when this returns.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.process.take().unwrap().wait().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    pub fn open(&self, give_up_after: Duration, recorder: &Arc<Recorder>) -> NbdDisk {
        let address = format!("nbd://{}/disk", self.disks).parse().unwrap();
        let sink = Arc::clone(recorder);
        NbdDisk::open(0, address, give_up_after, sink).unwrap()
    }

    /// Takes the next term in this name.
    pub fn win(&self, identity: Identity) -> u64 {
        let arbiter = Arbiter::new(format!("tcp:{}", self.claims).parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let term = arbiter.read(TIMEOUT).await.unwrap().term;
            match arbiter.claim(term, identity, TIMEOUT).await.unwrap() {
                Outcome::Won { term } => term,
                lost => panic!("{lost:?}"),
            }
        })
    }
}

/// An address of this host that nobody else uses, so that a server finds its ports free when it comes back.
fn own_host() -> Ipv4Addr {
    static STARTED: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, STARTED.fetch_add(1, Ordering::Relaxed))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
