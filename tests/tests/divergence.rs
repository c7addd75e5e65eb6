//! A log that was tampered with does not replay: each change is found, and told where.

use std::{path::Path, process::Command};

use lockstep_tests::{
    engines::EngineKind,
    images, on_every_engine,
    twins::{Guest, Recording},
};
use logging_channel::{
    Digest, Entry, Event,
    log_file::{LogOptions, LogReader, LogWriter},
};
use vmm::engine::kvm::CountKind;

fn read(path: &Path) -> (LogReader, Vec<Entry>) {
    let mut reader = LogReader::open(path).expect("a log");
    let mut entries = Vec::new();
    while let Some(batch) = reader.next_batch().expect("a whole log") {
        entries.extend(batch);
    }
    (reader, entries)
}

/// Replays `recording` with its entries changed; what the replay said, or `None` if it ended well.
fn replay_changed(recording: &Recording, change: impl FnOnce(&mut Vec<Entry>)) -> Option<String> {
    let (reader, mut entries) = read(&recording.log());
    change(&mut entries);
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.seq = index as u64 + 1;
    }
    let changed = recording.folder().join("changed");
    let mut writer =
        LogWriter::create(&changed, reader.header(), &LogOptions::default()).expect("a log");
    for batch in entries.chunks(100) {
        writer.append(batch.to_vec()).expect("entries are written");
    }
    writer.flush().expect("the log is written");
    let output = Command::new(images::lockstep())
        .args(recording.replay_arguments(&changed))
        .args(["--console", "none", "--verify"])
        .output()
        .expect("lockstep runs");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The place of the middle one of the entries that match.
fn middle(entries: &[Entry], wanted: impl Fn(&Event) -> bool) -> usize {
    middle_of(entries, |entries, place| wanted(&entries[place].event))
}

/// The same, looking at an entry's neighbours too; the first entry is not asked for.
fn middle_of(entries: &[Entry], wanted: impl Fn(&[Entry], usize) -> bool) -> usize {
    let places: Vec<usize> = (1..entries.len())
        .filter(|place| wanted(entries, *place))
        .collect();
    *places
        .get(places.len() / 2)
        .expect("the log has such an entry")
}

/// An answer to a time read; where they need none, a correction of the guest's clock.
fn tells_time(event: &Event) -> bool {
    matches!(event, Event::Time { .. } | Event::Clock { .. })
}

fn expect_divergence(recording: &Recording, what: &str, change: impl FnOnce(&mut Vec<Entry>)) {
    let said = replay_changed(recording, change);
    let said = said.unwrap_or_else(|| panic!("{what}: the replay noticed nothing"));
    assert!(said.contains("Divergence at"), "{what}: {said}");
}

on_every_engine! {
    fn every_change_of_a_log_is_found(engine) {
        // So long that there are several corrections of a clock that instructions drive.
        let count = if engine == EngineKind::Soft { "count=2000" } else { "count=50" };
        let recording = Recording::make(&Guest::bare(engine, "clock", count), 1);
        assert_eq!(
            replay_changed(&recording, |_| {}),
            None,
            "an unchanged copy replays"
        );

        // All of them: one alone may be of a clock that shows seconds, which looks the same 100 µs later.
        expect_divergence(&recording, "times that say something else", |entries| {
            for entry in entries {
                if let Event::Time { guest_ns } | Event::Clock { guest_ns, .. } = &mut entry.event {
                    *guest_ns += 100_000;
                }
            }
        });
        expect_divergence(&recording, "a time read that is gone", |entries| {
            if engine == EngineKind::Soft {
                // One correction alone may be as good as none, or come after the last read.
                entries.retain(|entry| !tells_time(&entry.event));
            } else {
                let place = middle(entries, tells_time);
                entries.remove(place);
            }
        });
        expect_divergence(&recording, "an output that never was", |entries| {
            let place = middle(entries, |event| matches!(event, Event::Output { .. }));
            let Event::Output { digest, .. } = &mut entries[place].event else {
                unreachable!()
            };
            *digest = Digest::of(b"something else");
        });
        expect_divergence(&recording, "an entry at another position", |entries| {
            let place = middle(entries, tells_time);
            entries[place].at.exits += 1;
        });
        expect_divergence(&recording, "another state at the end", |entries| {
            let Some(Event::End { digest, .. }) = entries.last_mut().map(|entry| &mut entry.event)
            else {
                unreachable!()
            };
            *digest = Digest::of(b"another state");
        });
    }

    fn a_late_or_a_different_interrupt_is_found(engine) {
        let recording = Recording::make(&Guest::bare(engine, "sleeper", "count=20 hz=200"), 1);
        expect_divergence(&recording, "another vector", |entries| {
            let place = middle(entries, |event| matches!(event, Event::Interrupt { .. }));
            let Event::Interrupt { vector } = &mut entries[place].event else {
                unreachable!()
            };
            *vector += 1;
        });
        expect_divergence(&recording, "an interrupt that is gone", |entries| {
            let place = middle(entries, |event| matches!(event, Event::Interrupt { .. }));
            entries.remove(place);
        });
        // All that led to one interrupt: of several ticks in a row, a single one may have fired nothing.
        expect_divergence(&recording, "a tick that is gone", |entries| {
            let place = middle_of(entries, |entries, place| {
                matches!(entries[place].event, Event::Interrupt { .. })
                    && matches!(entries[place - 1].event, Event::Tick { .. })
            });
            let since = entries[..place]
                .iter()
                .rposition(|entry| matches!(entry.event, Event::Interrupt { .. }))
                .map_or(0, |previous| previous + 1);
            let ticks = entries.extract_if(since..place, |entry| {
                matches!(entry.event, Event::Tick { .. })
            });
            assert!(ticks.count() > 0);
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

/// KVM that steps: an interrupt between exits, one instruction from where it was.
#[test]
fn an_interrupt_one_instruction_late_is_found_on_kvm_that_steps() {
    let guest = Guest {
        count: CountKind::Step,
        ..Guest::bare(EngineKind::Kvm, "spinner", "count=5 hz=100")
    };
    let recording = Recording::make(&guest, 1);
    assert_eq!(replay_changed(&recording, |_| {}), None);
    // The last one: what an earlier one left on the stack is overwritten.
    expect_divergence(&recording, "an interrupt that is late", |entries| {
        let mut interrupts = (0..entries.len())
            .rev()
            .filter(|place| matches!(entries[*place].event, Event::Interrupt { .. }));
        let place = interrupts.next().expect("there are interrupts");
        let at = entries[place].at;
        assert!(at.instructions > 0, "it is at an exit");
        entries[place].at.instructions += 1;
    });
}
