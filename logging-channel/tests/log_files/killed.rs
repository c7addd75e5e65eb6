//! SIGKILL loses nothing that was flushed.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use logging_channel::log_file::{LogError, LogOptions, LogWriter, cut_torn_tail};

use crate::fixture::{Random, entries, header, read};

const CHILD: &str = "killed::a_child_that_writes_until_it_is_killed";
const PATH: &str = "LOG_OF_A_CHILD_TO_BE_KILLED";
/// More than it can say into a pipe that nobody reads: it is alive when it is killed.
const ENTRIES: u64 = 40_000;

#[test]
#[ignore = "the child of the test below, which kills it"]
fn a_child_that_writes_until_it_is_killed() {
    let Some(path) = env::var_os(PATH).map(PathBuf::from) else {
        return;
    };
    let options = LogOptions {
        rotate_bytes: Some(3000),
        images: vec![],
    };
    let mut writer = LogWriter::create(&path, &header(), &options).unwrap();
    let mut said = std::io::stdout().lock();
    for batch in entries(ENTRIES).chunks(3) {
        writer.append(batch.to_vec()).unwrap();
        writer.flush().unwrap();
        writeln!(said, "flushed {}", writer.last_entry()).unwrap();
    }
}

/// How much the child said that it had flushed; it is killed when it has said so a few times.
fn kill_a_writer(log: &Path, times: u64) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .env(PATH, log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    // The harness has its own words, also on the same line.
    let flushed = |line: String| line.rsplit_once("flushed ")?.1.parse().ok();
    let mut last = 0;
    let mut heard = 0;
    for line in said.lines() {
        if let Some(seq) = flushed(line.unwrap()) {
            last = seq;
            heard += 1;
        }
        if heard == times {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success(), "it was killed");
    last
}

#[test]
fn what_was_flushed_survives_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let written = entries(ENTRIES);
    let mut random = Random::new(3);
    for round in 0..20 {
        let path = folder.path().join(format!("log-{round}"));
        let flushed = kill_a_writer(&path, 1 + random.below(200));
        assert!(flushed > 0);
        let (found, end) = read(&path);
        assert!(
            found.len() as u64 >= flushed,
            "{} of {flushed}",
            found.len()
        );
        assert_eq!(found, written[..found.len()]);
        assert!(
            matches!(end, Ok(()) | Err(LogError::Torn { .. })),
            "{end:?}"
        );
        cut_torn_tail(&path).unwrap();
        let (left, end) = read(&path);
        end.unwrap();
        assert_eq!(left.len(), found.len());
    }
}
