//! The workload of the twins test: processes, pipes, files, sleeping threads, floating point,
//! randomness. Everything here is this binary: Debian's static busybox asks the processor for its
//! identity when it starts, which on kvm-pvm tells the host's core, so its memory differs between
//! twins.
//!
//! ```text
//! numbers ── pipe ──► sorter ── pipe ──► digester ── pipe ──► compared with the digest computed here
//! ```

use std::io::{Error, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::console::say;

/// Numbers through the pipe: enough for a few reads and writes.
const NUMBERS: u64 = 200;
/// A file's size in bytes: some pages.
const FILE_BYTES: usize = 20_000;
const FILE: &str = "/tmp/selftest";

/// Runs all of it and says on the console what came out, at last `selftest ok` or `selftest FAILED`.
pub fn run() {
    match check() {
        Ok(()) => say("selftest ok"),
        Err(error) => say(&format!("selftest FAILED: {error}")),
    }
}

fn check() -> Result<(), Error> {
    let sleepers = [300, 100].map(|milliseconds| {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(milliseconds));
            root_sum()
        })
    });
    expect("pipe", pipe()?, fnv1a(sorted_text(&numbers()).as_bytes()))?;
    expect("file", file()?, fnv1a(&file_contents()))?;
    for sleeper in sleepers {
        let sum = sleeper
            .join()
            .map_err(|_| Error::other("a thread panicked"))?;
        expect("roots", sum.to_bits(), root_sum().to_bits())?;
    }
    // Differs from boot to boot, and must not differ between twins.
    let mut random = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    say(&format!(
        "selftest random {:016x}",
        u64::from_le_bytes(random)
    ));
    Ok(())
}

fn expect(what: &str, got: u64, wanted: u64) -> Result<(), Error> {
    say(&format!("selftest {what} {got:016x}"));
    if got == wanted {
        return Ok(());
    }
    Err(Error::other(format!("{what} should be {wanted:016x}")))
}

/// Sends the numbers through two processes and returns what the second one says.
fn pipe() -> Result<u64, Error> {
    let mut sorter = start("sorter", Stdio::piped())?;
    let (Some(mut input), Some(output)) = (sorter.stdin.take(), sorter.stdout.take()) else {
        return Err(Error::other("sorter has no pipes"));
    };
    let digester = start("digester", output.into())?;
    for number in numbers() {
        // In pieces, so that reader and writer take turns.
        writeln!(input, "{number}")?;
    }
    drop(input);
    sorter.wait()?;
    let text = digester.wait_with_output()?.stdout;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| Error::other("digester said no number"))
}

fn start(name: &str, input: Stdio) -> Result<Child, Error> {
    Command::new("/proc/self/exe")
        .arg0(name)
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()
}

/// The program `sorter`: numbers in, one to a line; sorted numbers out.
pub fn sorter() -> Result<(), Error> {
    let text = std::io::read_to_string(std::io::stdin())?;
    let mut numbers = Vec::new();
    for line in text.lines() {
        numbers.push(line.parse().map_err(Error::other)?);
    }
    std::io::stdout().write_all(sorted_text(&numbers).as_bytes())
}

/// The program `digester`: bytes in, their digest out.
pub fn digester() -> Result<(), Error> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    writeln!(std::io::stdout(), "{}", fnv1a(&bytes))
}

fn file() -> Result<u64, Error> {
    std::fs::write(FILE, file_contents())?;
    let digest = fnv1a(&std::fs::read(FILE)?);
    std::fs::remove_file(FILE)?;
    Ok(digest)
}

fn file_contents() -> Vec<u8> {
    (0..FILE_BYTES)
        .map(|index| (index * index % 251) as u8)
        .collect()
}

/// Each number below 1009 at most once, in no order.
fn numbers() -> Vec<u64> {
    (0..NUMBERS).map(|index| index * 7919 % 1009).collect()
}

fn sorted_text(numbers: &[u64]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.iter().map(|number| format!("{number}\n")).collect()
}

/// Floating point that two threads and `init` do in turns.
fn root_sum() -> f64 {
    let mut sum = 0.0;
    for number in 0..2000_u32 {
        sum += f64::from(number).sqrt();
        if number % 500 == 0 {
            thread::yield_now();
        }
    }
    sum
}

/// FNV-1a, 64 bits (RFC 9923): a digest, not a defence.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_numbers_are_distinct_and_unsorted() {
        let mut numbers = numbers();
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len() as u64, NUMBERS);
    }
}
