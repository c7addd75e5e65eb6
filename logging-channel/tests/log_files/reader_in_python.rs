//! `scripts/show-log.py`, which was written from the documentation alone, reads the same as our reader.

use std::path::Path;
use std::process::{Command, Output};

use logging_channel::identity::BootChoices;
use logging_channel::log_file::{LogHeader, LogReader};
use logging_channel::{Digest, DiskOutcome, EndReason, Entry, Event, OutputKind, PageRange};

use crate::fixture::{Log, header, initrd, kernel, read};

fn show(log: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/show-log.py");
    let output = Command::new("python3").arg(script).arg(log).output();
    output.expect("python3 is there: scripts/packages.sh")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the script should print of an event.
fn fields(event: &Event) -> (&'static str, String) {
    let time = |ns: u64| format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000);
    let data = |bytes: &[u8]| {
        let more = if bytes.len() > 32 { "…" } else { "" };
        let start = &bytes[..bytes.len().min(32)];
        format!("{} bytes  {}{more}", bytes.len(), hex(start))
    };
    let with_digest = |what: &str, digest: &Digest| format!("{what}  {digest}");
    match event {
        Event::Time { guest_ns } => ("Time", time(*guest_ns)),
        Event::Tick { guest_ns } => ("Tick", time(*guest_ns)),
        Event::Interrupt { vector } => ("Interrupt", format!("vector {vector:#x}")),
        Event::Frame { bytes } => ("Frame", data(bytes)),
        Event::ConsoleInput { bytes } => ("ConsoleInput", data(bytes)),
        Event::Entropy { bytes } => ("Entropy", data(bytes)),
        Event::Step { limit } => ("Step", format!("limit {limit}")),
        Event::Output { kind, digest } => {
            let kind = match kind {
                OutputKind::Frame => "frame",
                OutputKind::Console => "console",
                OutputKind::Disk => "disk",
                OutputKind::DiskRead => "disk read",
            };
            ("Output", with_digest(kind, digest))
        }
        Event::Digest { digest } => ("Digest", digest.to_string()),
        Event::End { reason, digest } => {
            let reason = match reason {
                EndReason::Reset => "reset",
                EndReason::Halted => "halted",
                EndReason::TripleFault => "triple fault",
            };
            ("End", with_digest(reason, digest))
        }
        Event::Clock {
            guest_ns,
            ps_per_instruction,
        } => {
            let rate = format!("  {ps_per_instruction} ps an instruction");
            ("Clock", time(*guest_ns) + &rate)
        }
        Event::Pages {
            part,
            ranges,
            bytes,
        } => {
            let range = |range: &PageRange| format!("{}+{}", range.first, range.count);
            let ranges: Vec<String> = ranges.iter().map(range).collect();
            let fields = format!("part {part}  pages {}  {}", ranges.join(", "), data(bytes));
            ("Pages", fields)
        }
        Event::Disk {
            disk,
            request,
            outcome,
        } => {
            let outcome = match outcome {
                DiskOutcome::Done { bytes } => format!("done  {}", data(bytes)),
                DiskOutcome::DoneApart { checksum } => format!("done apart  {checksum:08x}"),
                DiskOutcome::Failed => "failed".to_owned(),
                DiskOutcome::Unsupported => "unsupported".to_owned(),
            };
            ("Disk", format!("disk {disk}  request {request}  {outcome}"))
        }
        Event::State { parts, bytes } => ("State", format!("after {parts} parts  {}", data(bytes))),
    }
}

fn line(entry: &Entry) -> String {
    let (name, fields) = fields(&entry.event);
    let at = entry.at.to_string();
    format!("{:>8}  {at:>12}  {name:<12}  {fields}", entry.seq)
}

fn header_lines(header: &LogHeader) -> Vec<String> {
    let LogHeader {
        identity,
        boot: BootChoices {
            unix_time_s,
            rng_seed,
        },
        keeper,
        program,
        written_unix_s,
        ..
    } = header;
    let initrd = identity
        .initrd
        .map_or("none".to_owned(), |digest| digest.to_string());
    vec![
        format!("# format version: {}", identity.format_version),
        format!("# clock: {}", identity.clock),
        format!("# CPU model: {}", identity.cpu_model),
        format!("# memory: {}", identity.memory_bytes),
        format!("# command line: {}", identity.command_line),
        format!("# kernel: {}", identity.kernel),
        format!("# how the kernel is entered: {}", identity.boot),
        format!("# initrd: {initrd}"),
        format!("# devices: {}", identity.devices.join(", ")),
        format!("# boot: {unix_time_s} s since 1970, seed {}", hex(rng_seed)),
        format!("# kept by: {keeper}"),
        format!("# program: {program}"),
        format!("# written: {written_unix_s} s since 1970"),
    ]
}

fn expect_same(log: &Log, images: &[String]) {
    let output = show(&log.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let reader = LogReader::open(&log.path()).unwrap();
    let (entries, end) = read(&log.path());
    end.unwrap();
    let expected: Vec<String> = header_lines(reader.header())
        .into_iter()
        .chain(images.iter().cloned())
        .chain(entries.iter().map(line))
        .collect();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn it_prints_every_kind_of_entry_in_every_segment() {
    let log = Log::write(Some(4000));
    assert!(log.segments().len() > 2);
    expect_same(&log, &[]);
}

#[test]
fn it_finds_the_images() {
    let log = Log::write_with(&header(), None, vec![kernel(), initrd()]);
    let images = [
        format!("# kernel of {} bytes in the log", kernel().bytes.len()),
        format!(
            "# initial RAM disk of {} bytes in the log",
            initrd().bytes.len()
        ),
    ];
    expect_same(&log, &images);
}

#[test]
fn it_prints_what_comes_before_a_tear_and_says_where_that_is() {
    let log = Log::write(None);
    let mut whole = log.segments();
    let length = whole[0].len() - 1;
    whole[0].truncate(length);
    log.put(&whole);
    let output = show(&log.path());
    assert!(!output.status.success());
    let torn_at = log.frames[log.frames.len() - 2];
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("torn at byte {}", torn_at.0)),
        "{said}"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with(&(line(&log.entries[torn_at.1 - 1]) + "\n")));
}
