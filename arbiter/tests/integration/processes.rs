//! Real processes to kill: this test binary, run again as a server or as a claimant. What a process
//! is to do comes in by its environment, what it has done goes out as marked lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use arbiter::{Address, Arbiter, Identity, Outcome, Store, serve};
use tokio::net::TcpListener;

/// Generous: only a failure waits for so long.
pub const TIMEOUT: Duration = Duration::from_secs(120);

const STATE: &str = "ARBITER_TEST_STATE";
const ADDRESS: &str = "ARBITER_TEST_ADDRESS";
const TERMS: &str = "ARBITER_TEST_TERMS";

/// A child of this test, killed when dropped.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// A server on the state file at `path`, and its address.
    pub fn server(path: &Path) -> (Self, Address) {
        let mut process = Self::start("processes::run_server", &[(STATE, path.to_str().unwrap())]);
        let address = process
            .next_line("LISTENING")
            .expect("the server's address");
        (process, format!("tcp:{address}").parse().unwrap())
    }

    /// A claimant that, once released, claims every term up to `terms`.
    pub fn claimant(address: &Address, terms: u64) -> Self {
        let variables = [
            (ADDRESS, &*address.to_string()),
            (TERMS, &terms.to_string()),
        ];
        let mut process = Self::start("processes::run_claimant", &variables);
        process.next_line("READY").expect("the claimant to start");
        process
    }

    fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--ignored", "--nocapture"])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    /// What follows `mark` on the next line that has it; none when the process ends without.
    pub fn next_line(&mut self, mark: &str) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            // The test harness writes on the same line.
            if let Some((_, rest)) = line.split_once(&format!("{mark} ")) {
                return Some(rest.trim().to_owned());
            }
            line.clear();
        }
        None
    }

    /// Lets a claimant begin.
    pub fn release(&mut self) {
        let input = self.input.as_mut().unwrap();
        input.write_all(b"go\n").unwrap();
    }

    /// Kills the process with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Claims as a replica does: a claim without an answer is asked again.
pub async fn claim(arbiter: &Arbiter, expected_term: u64, identity: Identity) -> Outcome {
    loop {
        match arbiter.claim(expected_term, identity, TIMEOUT).await {
            Ok(outcome) => return outcome,
            // The server gives up on a slow disk sooner than this test does.
            Err(error) => assert!(error.is_unreachable(), "{error}"),
        }
    }
}

fn tell(mark: &str, what: impl std::fmt::Display) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{mark} {what}").unwrap();
    output.flush().unwrap();
}

/// Serves until its parent is gone.
#[tokio::test]
#[ignore = "a process of other tests"]
async fn run_server() {
    let Ok(path) = std::env::var(STATE) else {
        return;
    };
    let store = Store::open(path, TIMEOUT).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tell("LISTENING", listener.local_addr().unwrap());
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = gone.send(());
    });
    let shutdown = async {
        let _ = parent_gone.await;
    };
    serve(listener, store, shutdown).await.unwrap();
}

/// Claims term after term against all others, and tells which it won.
#[tokio::test]
#[ignore = "a process of other tests"]
async fn run_claimant() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let terms: u64 = std::env::var(TERMS).unwrap().parse().unwrap();
    let arbiter = Arbiter::new(address.parse().unwrap());
    let identity = Identity::random().unwrap();
    tell("READY", identity);
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut expected_term = 0;
    while expected_term < terms {
        expected_term = match claim(&arbiter, expected_term, identity).await {
            Outcome::Won { term } => {
                tell("WON", term);
                term
            }
            Outcome::Lost { term, .. } => term,
        };
    }
}
