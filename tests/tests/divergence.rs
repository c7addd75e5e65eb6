//! A log that was tampered with does not replay: each change is found, and told where.
//!
//! What is *compared* shows at its own position: outputs, digests, interrupts, reads of time, the end. What is put in, such as a correction of the guest's
//! clock, shows at the first thing behind it that is compared and depends on it: each test says which.

use std::{ffi::OsString, path::Path, process::Command};

use lockstep_tests::{
    engines::EngineKind,
    images, on_every_engine, told,
    twins::{Guest, Recording, Talk},
};
use logging_channel::{
    Digest, DiskOutcome, Entry, Event, Position,
    log_file::{LogOptions, LogReader, LogWriter},
};
use vmm::{engine::kvm::CountKind, host::Event as Told};

/// Exit code of a replay that parted from its log.
const HALTED: i32 = 3;
/// What a second replay says where the log is what is wrong.
const REPEATS: &str = "a second replay parted in the same place and the same state";

fn read(path: &Path) -> (LogReader, Vec<Entry>) {
    let mut reader = LogReader::open(path).expect("a log");
    let mut entries = Vec::new();
    while let Some(batch) = reader.next_batch().expect("a whole log") {
        entries.extend(batch);
    }
    (reader, entries)
}

/// Writes a log of `entries`, with the header of `recording`'s.
fn write(recording: &Recording, mut entries: Vec<Entry>) -> std::path::PathBuf {
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.seq = index as u64 + 1;
    }
    let changed = recording.folder().join("changed");
    let (reader, _) = read(&recording.log());
    let mut writer =
        LogWriter::create(&changed, reader.header(), &LogOptions::default()).expect("a log");
    for batch in entries.chunks(100) {
        writer.append(batch.to_vec()).expect("entries are written");
    }
    writer.flush().expect("the log is written");
    changed
}

/// Replays `log` on `recording`'s machine: the exit code, and the events.
fn replay(recording: &Recording, log: &Path) -> (Option<i32>, Vec<Told>) {
    let options = ["--console", "none", "--verify"].map(OsString::from);
    let arguments = recording.replay_arguments(log).into_iter().chain(options);
    let (output, events) = told::run(arguments, recording.folder());
    (output.status.code(), events)
}

/// Where a change must show.
enum Shows {
    /// At the position of the entry with this index, which the report names.
    AtEntry(usize),
    /// At the position of the entry with this index; what was expected is another one, as this is gone or moved.
    At(usize),
    /// From the one entry to the other.
    Between(usize, usize),
}

/// Makes a change, which says where it must show in the unchanged log, and replays.
fn expect_divergence(
    recording: &Recording,
    what: &str,
    change: impl FnOnce(&mut Vec<Entry>) -> Shows,
) -> (Position, String, String) {
    let (_, unchanged) = read(&recording.log());
    let mut entries = unchanged.clone();
    let shows = change(&mut entries);
    assert_ne!(entries, unchanged, "{what}: nothing was changed");
    let (code, told) = replay(recording, &write(recording, entries));
    assert_eq!(code, Some(HALTED), "{what}: {told:?}");
    let report = told.iter().find_map(|event| match event {
        Told::Divergence {
            position,
            expected,
            actual,
            ..
        } => Some((*position, expected.clone(), actual.clone())),
        _ => None,
    });
    let (position, expected, actual) =
        report.unwrap_or_else(|| panic!("{what}: no report: {told:?}"));
    let (from, to) = match shows {
        Shows::AtEntry(index) => {
            let named = format!("entry {} at ", index + 1);
            assert!(expected.starts_with(&named), "{what}: {expected}");
            (index, index)
        }
        Shows::At(index) => (index, index),
        Shows::Between(from, to) => (from, to),
    };
    let (from, to) = (unchanged[from].at, unchanged[to].at);
    assert!(
        (from..=to).contains(&position),
        "{what}: told at {position}, not from {from} to {to}: expected {expected}, got {actual}"
    );
    // The replay is right, and the log wrong: another replay does the same.
    let opinion = told.iter().find_map(|event| match event {
        Told::SecondOpinion { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert!(
        opinion.is_some_and(|text| text.starts_with(REPEATS)),
        "{what}: {opinion:?}"
    );
    (position, expected, actual)
}

/// The index of the middle one of the entries that match.
fn middle(entries: &[Entry], wanted: impl Fn(&Event) -> bool) -> usize {
    middle_of(entries, |entries, index| wanted(&entries[index].event))
}

/// The same, looking at an entry's neighbours too; the first and the last entry are not asked for.
fn middle_of(entries: &[Entry], wanted: impl Fn(&[Entry], usize) -> bool) -> usize {
    let places: Vec<usize> = (1..entries.len() - 1)
        .filter(|index| wanted(entries, *index))
        .collect();
    *places
        .get(places.len() / 2)
        .expect("the log has such an entry")
}

fn first(entries: &[Entry], wanted: impl Fn(&Event) -> bool) -> usize {
    let found = entries.iter().position(|entry| wanted(&entry.event));
    found.expect("the log has such an entry")
}

fn last(entries: &[Entry], wanted: impl Fn(&Event) -> bool) -> usize {
    let found = entries.iter().rposition(|entry| wanted(&entry.event));
    found.expect("the log has such an entry")
}

/// An answer to a time read; where they need none, a correction of the guest's clock.
fn tells_time(event: &Event) -> bool {
    matches!(event, Event::Time { .. } | Event::Clock { .. })
}

fn is_output(event: &Event) -> bool {
    matches!(event, Event::Output { .. })
}

fn is_interrupt(event: &Event) -> bool {
    matches!(event, Event::Interrupt { .. })
}

/// Reads all clocks and prints a hash of what it read. So long that there are several corrections of a clock that instructions drive.
fn clock(engine: EngineKind) -> Recording {
    let count = if engine == EngineKind::Soft {
        "count=2000"
    } else {
        "count=100"
    };
    Recording::make(&Guest::bare(engine, "clock", count), 1)
}

/// Sleeps in HLT between interrupts.
fn sleeper(engine: EngineKind) -> Recording {
    Recording::make(&Guest::bare(engine, "sleeper", "count=20 hz=200"), 1)
}

/// The middle one of the interrupts that wake a halted vCPU.
fn waking(entries: &[Entry]) -> usize {
    middle_of(entries, |entries, index| {
        is_interrupt(&entries[index].event)
            && matches!(entries[index - 1].event, Event::Tick { .. })
            && entries[index - 1].at == entries[index].at
    })
}

on_every_engine! {
    /// What came from outside and is another now shows in what the guest makes of it.
    fn other_input_bytes_show_in_the_guests_answer(engine) {
        let typed = Guest {
            talk: Talk::Typed("hello\nlockstep\nquit\n"),
            ..Guest::bare(engine, "typist", "")
        };
        let recording = Recording::make(&typed, 1);
        expect_divergence(&recording, "another key", |entries| {
            let index = first(entries, |event| matches!(event, Event::ConsoleInput { .. }));
            let Event::ConsoleInput { bytes } = &mut entries[index].event else {
                unreachable!("it was looked for")
            };
            bytes[0] ^= 2;
            Shows::Between(index, last(entries, is_output))
        });

        let recording = Recording::make(&Guest::bare(engine, "entropy", "count=10"), 1);
        expect_divergence(&recording, "another random number", |entries| {
            let index = first(entries, |event| matches!(event, Event::Entropy { .. }));
            let Event::Entropy { bytes } = &mut entries[index].event else {
                unreachable!("it was looked for")
            };
            bytes[0] ^= 1;
            Shows::Between(index, last(entries, is_output))
        });
    }

    /// The guest knows what it has written, and stops: what it did next is missing.
    fn other_bytes_from_a_disk_show_in_what_the_guest_does_next(engine) {
        let guest = Guest {
            disk_bytes: 1 << 20,
            ..Guest::bare(engine, "journal", "own=60")
        };
        let recording = Recording::make(&guest, 1);
        let has_read = |event: &Event| {
            matches!(event, Event::Disk { outcome: DiskOutcome::Done { bytes }, .. } if !bytes.is_empty())
        };
        for at in [0, 300, 511] {
            expect_divergence(&recording, "another byte from the disk", |entries| {
                let index = middle(entries, has_read);
                let Event::Disk { outcome: DiskOutcome::Done { bytes }, .. } = &mut entries[index].event else {
                    unreachable!("it was looked for")
                };
                std::sync::Arc::make_mut(bytes)[at] ^= 1;
                // Other requests are under way meanwhile, and go on.
                Shows::Between(index, last(entries, is_output))
            });
        }
        expect_divergence(&recording, "a write that fails", |entries| {
            let index = middle(entries, |event| {
                matches!(event, Event::Disk { outcome: DiskOutcome::Done { bytes }, .. } if bytes.is_empty())
            });
            let Event::Disk { outcome, .. } = &mut entries[index].event else {
                unreachable!("it was looked for")
            };
            *outcome = DiskOutcome::Failed;
            Shows::Between(index, last(entries, is_output))
        });
        expect_divergence(&recording, "a completion of a request that never was", |entries| {
            let index = middle(entries, has_read);
            let Event::Disk { request, .. } = &mut entries[index].event else {
                unreachable!("it was looked for")
            };
            *request += 1_000_000;
            Shows::AtEntry(index)
        });
    }

    fn what_is_compared_is_told_at_its_own_place(engine) {
        let recording = clock(engine);
        let (_, entries) = read(&recording.log());
        let (code, told) = replay(&recording, &write(&recording, entries));
        assert_eq!(code, Some(0), "an unchanged copy replays: {told:?}");

        expect_divergence(&recording, "an output that never was", |entries| {
            let index = middle(entries, is_output);
            let Event::Output { digest, .. } = &mut entries[index].event else {
                unreachable!()
            };
            *digest = Digest::of(b"something else");
            Shows::AtEntry(index)
        });
        expect_divergence(&recording, "an output that is gone", |entries| {
            let index = middle(entries, is_output);
            entries.remove(index);
            Shows::At(index)
        });
        expect_divergence(&recording, "another state on the way", |entries| {
            let index = middle(entries, |event| matches!(event, Event::Digest { .. }));
            entries[index].event = Event::Digest { digest: Digest::of(b"another state") };
            Shows::AtEntry(index)
        });
        expect_divergence(&recording, "another state at the end", |entries| {
            let index = entries.len() - 1;
            let Event::End { digest, .. } = &mut entries[index].event else {
                unreachable!()
            };
            *digest = Digest::of(b"another state");
            Shows::AtEntry(index)
        });
        expect_divergence(&recording, "an output and its successor, swapped", |entries| {
            let index = middle(entries, is_output);
            let event = entries[index].event.clone();
            entries[index].event = std::mem::replace(&mut entries[index + 1].event, event);
            Shows::AtEntry(index)
        });
        expect_divergence(&recording, "an output earlier than what was before it", |entries| {
            let index = middle_of(entries, |entries, index| {
                is_output(&entries[index].event) && entries[index - 1].at < entries[index].at
            });
            entries.swap(index - 1, index);
            Shows::Between(index - 1, index)
        });
        expect_divergence(&recording, "a time before the one before it", |entries| {
            let index = middle(entries, tells_time);
            if let Event::Time { guest_ns } | Event::Clock { guest_ns, .. } = &mut entries[index].event {
                *guest_ns = 1;
            }
            Shows::AtEntry(index)
        });
    }

    fn a_wrong_time_is_told_where_it_is_read_or_shows(engine) {
        let recording = clock(engine);
        // The last line is a hash of all that was read.
        expect_divergence(&recording, "times that say something else", |entries| {
            let changed = first(entries, tells_time);
            for entry in &mut *entries {
                if let Event::Time { guest_ns } | Event::Clock { guest_ns, .. } = &mut entry.event {
                    *guest_ns += 100_000;
                }
            }
            Shows::Between(changed, last(entries, is_output))
        });
        expect_divergence(&recording, "a time that is gone", |entries| {
            if engine == EngineKind::Kvm {
                // The exit there asks for it.
                let index = middle(entries, tells_time);
                entries.remove(index);
                return Shows::At(index);
            }
            // All of them: one correction alone may be as good as none, or come after the last read.
            let shows = Shows::Between(first(entries, tells_time), last(entries, is_output));
            entries.retain(|entry| !tells_time(&entry.event));
            shows
        });
        if engine == EngineKind::Kvm {
            expect_divergence(&recording, "a time at another position", |entries| {
                let index = middle(entries, tells_time);
                entries[index].at.exits += 1;
                Shows::AtEntry(index)
            });
        }
    }

    fn a_late_or_a_different_interrupt_is_told_at_its_place(engine) {
        let recording = sleeper(engine);
        expect_divergence(&recording, "another vector", |entries| {
            let index = middle(entries, is_interrupt);
            let Event::Interrupt { vector } = &mut entries[index].event else {
                unreachable!()
            };
            *vector += 1;
            Shows::AtEntry(index)
        });
        // Nothing else wakes the vCPU.
        expect_divergence(&recording, "an interrupt that is gone", |entries| {
            let index = waking(entries);
            entries.remove(index);
            Shows::At(index)
        });
        expect_divergence(&recording, "an interrupt that is late", |entries| {
            let index = waking(entries);
            entries[index].at.exits += 1;
            Shows::AtEntry(index)
        });
        // All that led to one interrupt: of several ticks in a row, a single one may have fired nothing.
        expect_divergence(&recording, "a tick that is gone", |entries| {
            let index = waking(entries);
            let since = entries[..index].iter().rposition(|entry| is_interrupt(&entry.event));
            let since = since.map_or(0, |previous| previous + 1);
            let is_tick = |entry: &mut Entry| matches!(entry.event, Event::Tick { .. });
            assert!(entries.extract_if(since..index, is_tick).count() > 0);
            Shows::Between(since, index)
        });
    }

    fn a_log_of_another_machine_is_refused(engine) {
        let recording = Recording::make(&Guest::bare(engine, "sleeper", "count=2 hz=200"), 1);
        let mut arguments = recording.replay_arguments(&recording.log());
        arguments.extend(["--mac".into(), "52:54:00:00:00:07".into()]);
        let output = Command::new(images::lockstep())
            .args(arguments)
            .output()
            .expect("lockstep runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("52:54:00:00:00:07"),
            "{said}"
        );
    }
}

/// A guest that only computes. Its registers count the rounds, and it prints a hash of those at which it was interrupted: the first digest or output
/// behind a late interrupt is another. Before that, a correction of its clock may step back.
fn expect_a_late_interrupt_to_show(recording: &Recording, instructions: u64) {
    let what = format!("an interrupt {instructions} instructions late");
    expect_divergence(recording, &what, |entries| {
        let index = computing(entries);
        entries[index].at.instructions += instructions;
        let shows = entries[index..]
            .iter()
            .position(|entry| matches!(entry.event, Event::Digest { .. } | Event::Output { .. }));
        Shows::Between(index, index + shows.expect("a digest, or an output"))
    });
}

/// Some rounds late: within one, what is left on the stack would be all, and is overwritten.
#[test]
fn a_late_interrupt_shows_on_kvm_that_steps() {
    let guest = Guest {
        count: CountKind::Step,
        ..Guest::bare(EngineKind::Kvm, "spinner", "count=5 hz=100")
    };
    expect_a_late_interrupt_to_show(&Recording::make(&guest, 1), 200);
}

#[test]
fn a_late_or_a_missing_interrupt_shows_where_a_guest_computes() {
    let guest = Guest::bare(EngineKind::Soft, "spinner", "count=30 hz=200");
    let recording = Recording::make(&guest, 1);
    expect_a_late_interrupt_to_show(&recording, 2_000);
    // Without it there is no exit any more, and the log has one.
    let mut gone = Position::default();
    let (position, expected, actual) =
        expect_divergence(&recording, "an interrupt that is gone", |entries| {
            let index = computing(entries);
            gone = entries.remove(index).at;
            Shows::Between(index, index + 1)
        });
    assert_eq!(position.exits, gone.exits);
    assert!(actual.contains("without an exit"), "{expected}: {actual}");
}

/// The middle one of the interrupts at which no entry follows before the handler's exit.
fn computing(entries: &[Entry]) -> usize {
    middle_of(entries, |entries, index| {
        is_interrupt(&entries[index].event) && entries[index + 1].at.exits > entries[index].at.exits
    })
}
