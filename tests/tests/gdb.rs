//! A debugger goes to and fro in a replay: Debian's gdb on a kernel and on a bare-metal guest.

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use lockstep_tests::{
    debugger::DebuggedReplay,
    images, told,
    twins::{Guest, Recording, Talk},
};
use vmm::{
    engine::{EngineKind, kvm::CountKind},
    host::Event,
    machine::boot::BootProtocol,
};

fn linux() -> (Recording, PathBuf) {
    let command_line = images::variable("LOCKSTEP_LINUX_CMDLINE");
    let kernel: PathBuf = images::variable("LOCKSTEP_LINUX_KERNEL").into();
    let guest = Guest {
        engine: EngineKind::Soft,
        count: CountKind::default(),
        kernel: kernel.clone(),
        boot: BootProtocol::Auto,
        initrd: Some(images::variable("LOCKSTEP_LINUX_INITRD").into()),
        command_line: format!("{command_line} lockstep.run=poweroff"),
        memory: "64M",
        disk_bytes: 0,
        talk: Talk::Nothing,
        limit: Duration::from_secs(120),
    };
    (Recording::make(&guest, 1), kernel)
}

fn sleeper() -> (Recording, PathBuf) {
    let guest = Guest::bare(EngineKind::Soft, "sleeper", "count=5");
    let kernel = guest.kernel.clone();
    (Recording::make(&guest, 1), kernel)
}

/// Prints a line that begins with `NAME:` and goes on with what the machine is.
fn look(name: &str) -> String {
    format!(r#"printf "{name}: %lx %lx %lx %lx\n", $rip, $rsp, $eflags, *(unsigned long *) $rsp"#)
}

/// What was printed after `NAME:`, each time.
fn seen(said: &str, name: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(before, _)| *before == name)
        .map(|(_, behind)| behind.to_owned())
        .collect()
}

/// The lines that are positions, or digests.
fn answers(said: &str, shape: fn(char) -> bool) -> Vec<String> {
    let lines = said.lines().filter(|line| !line.is_empty());
    lines
        .filter(|line| line.chars().all(shape))
        .map(str::to_owned)
        .collect()
}

fn positions(said: &str) -> Vec<String> {
    let mut found = answers(said, |c| c.is_ascii_digit() || c == '+');
    found.retain(|text| text.contains('+'));
    found
}

#[test]
fn gdb_stops_in_a_kernel_function_steps_back_and_lands_where_it_came_from() {
    let (recording, kernel) = linux();
    let replay = DebuggedReplay::start(&recording);
    let said = replay.gdb(
        &kernel,
        &[
            "break schedule",
            "continue",
            &look("first"),
            "backtrace",
            "continue",
            &look("second"),
            "monitor position",
            "monitor digest",
            "stepi 100",
            &look("away"),
            "reverse-stepi 100",
            &look("second"),
            "monitor position",
            "monitor digest",
            "continue",
            &look("third"),
            "reverse-continue",
            &look("second"),
            "monitor position",
            "monitor digest",
            "reverse-continue",
            &look("first"),
            "reverse-continue",
            &look("beginning"),
            "monitor position",
            "delete",
            "continue",
            &look("end"),
            "reverse-stepi",
            "stepi",
            &look("end"),
            "kill",
        ],
    );
    let only = |name: &str, times: usize| {
        let all = seen(&said, name);
        assert_eq!(all.len(), times, "{name}:\n{said}");
        assert!(all.iter().all(|one| *one == all[0]), "{name}:\n{said}");
        all[0].clone()
    };
    let (first, second, third) = (only("first", 2), only("second", 3), only("third", 1));
    assert!(first != second && second != third, "{said}");
    assert_ne!(only("away", 1), second, "{said}");
    only("end", 2);
    assert!(
        said.contains("Breakpoint 1, 0x") && said.contains("in schedule ()"),
        "{said}"
    );
    assert!(said.contains("in start_kernel ()"), "a backtrace: {said}");
    assert!(said.contains("No more reverse-execution history"), "{said}");
    let positions = positions(&said);
    assert_eq!(positions.len(), 4, "{said}");
    assert!(
        positions[..3].iter().all(|one| *one == positions[0]),
        "{said}"
    );
    assert_eq!(positions[3], "0+0");
    let mut digests = answers(&said, |c| c.is_ascii_hexdigit());
    digests.retain(|text| text.len() == 32);
    assert_eq!(digests.len(), 3, "{said}");
    assert!(digests.iter().all(|one| *one == digests[0]), "{said}");
    assert!(replay.ends(), "{said}");

    // Without a debugger: the same there.
    let (registers, digest) = stopped_at(&recording, &positions[0]);
    assert_eq!(digest, digests[0]);
    let [rip, rsp, ..] = second.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{second}");
    };
    assert_eq!(
        registers,
        [rip, rsp].map(|text| u64::from_str_radix(text, 16).expect("hex"))
    );
}

/// What `replay --until` says: RIP and RSP, and the digest.
fn stopped_at(recording: &Recording, position: &str) -> ([u64; 2], String) {
    let options = ["--console", "none", "--until", position].map(OsString::from);
    let arguments = recording.replay_arguments(&recording.log());
    let (output, events) = told::run(arguments.into_iter().chain(options), recording.folder());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("stopped at {position}")), "{said}");
    assert!(said.contains("64-bit kernel mode"), "{said}");
    let stopped = events.into_iter().find_map(|event| match event {
        Event::Stopped {
            position: at,
            general,
            rip,
            digest,
            ..
        } if at.to_string() == position => Some(([rip, general[6]], digest)),
        _ => None,
    });
    stopped.expect("the replay told where it stopped")
}

/// The first instruction of an interrupt's handler is where interrupts arrive, also those that end HLT.
#[test]
fn gdb_stops_where_interrupts_arrive_in_a_bare_guest() {
    let (recording, kernel) = sleeper();
    let replay = DebuggedReplay::start(&recording);
    let mut commands = vec!["hbreak line_0".to_owned()];
    for _ in 0..5 {
        commands.extend([
            "continue".to_owned(),
            look("tick"),
            "monitor position".to_owned(),
        ]);
    }
    for _ in 0..4 {
        commands.extend(["reverse-continue".to_owned(), look("back")]);
    }
    commands.extend(["reverse-stepi", "x/i $pc", "stepi"].map(str::to_owned));
    commands.extend([look("back"), "detach".to_owned()]);
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let said = replay.gdb(&kernel, &commands);
    let (ticks, back) = (seen(&said, "tick"), seen(&said, "back"));
    assert_eq!(ticks.len(), 5, "{said}");
    assert!(said.contains("hlt"), "{said}");
    let expected: Vec<&String> = [3, 2, 1, 0, 0].map(|tick| &ticks[tick]).into();
    assert_eq!(back.iter().collect::<Vec<_>>(), expected, "{said}");
    assert!(
        positions(&said).windows(2).all(|pair| pair[0] != pair[1]),
        "{said}"
    );

    // It was detached from, not killed: the next one finds the machine where it was left.
    let said = replay.gdb(&kernel, &[&look("back"), "kill"]);
    assert_eq!(seen(&said, "back"), [ticks[0].clone()], "{said}");
    assert!(replay.ends(), "{said}");
}

#[test]
fn gdb_may_look_and_go_anywhere_and_change_nothing() {
    let (recording, kernel) = sleeper();
    let replay = DebuggedReplay::start(&recording);
    let said = replay.gdb(
        &kernel,
        &[
            "break guest_main",
            "continue",
            &look("main"),
            "monitor digest",
            "set $rax = 0x1234",
            "set var *(char *) $rsp = 1",
            "maintenance flush register-cache",
            &look("main"),
            "monitor digest",
            "monitor goto 20",
            "monitor goto nowhere",
            "monitor goto 20+999999999",
            "monitor registers",
            "monitor what",
            "x/i 0x7fffffffffff",
            "kill",
        ],
    );
    let main = seen(&said, "main");
    assert!(main.len() == 2 && main[0] == main[1], "{said}");
    let mut digests = answers(&said, |c| c.is_ascii_hexdigit());
    digests.retain(|text| text.len() == 32);
    assert!(digests.len() == 2 && digests[0] == digests[1], "{said}");
    for expected in [
        "Could not write registers",
        "Cannot access memory at address",
        "\n20+0\n",
        "\"nowhere\" is not a position",
        "there is no position 20+999999999: the next one is 21+0",
        "CR0 ",
        "monitor goto POSITION",
    ] {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
    assert!(replay.ends(), "{said}");
}

/// A packet of the GDB remote protocol.
fn packet(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("${body}#{sum:02x}").into_bytes()
}

/// Reads the next packet, without acknowledgements.
fn answer(connection: &mut TcpStream) -> String {
    let mut body = Vec::new();
    let mut inside = false;
    loop {
        let mut byte = [0];
        connection.read_exact(&mut byte).expect("an answer");
        match byte[0] {
            b'$' => inside = true,
            b'#' => break,
            byte if inside => body.push(byte),
            _ => {}
        }
    }
    let mut sum = [0; 2];
    connection.read_exact(&mut sum).expect("a checksum");
    connection.write_all(b"+").expect("the connection holds");
    String::from_utf8(body).expect("text")
}

/// Ctrl-C, sent together with `continue`, so that it is there when the first slice ends, long before the log does.
#[test]
fn a_debugger_that_wants_it_back_gets_it_back() {
    let (recording, _) = linux();
    let replay = DebuggedReplay::start(&recording);
    let mut connection = TcpStream::connect(replay.address).expect("it listens");
    let limit = Some(Duration::from_secs(60));
    connection.set_read_timeout(limit).expect("a limit");
    let mut both = packet("vCont;c");
    both.push(3);
    connection.write_all(&both).expect("it is sent");
    let stop = answer(&mut connection);
    assert!(stop.starts_with("S02") || stop.starts_with("T02"), "{stop}");
    connection
        .write_all(&packet("vCont;c"))
        .expect("it is sent");
    let stop = answer(&mut connection);
    assert!(stop.contains("replaylog:end"), "{stop}");
    connection.write_all(&packet("k")).expect("it is sent");
    assert!(replay.ends());
}

#[test]
fn what_cannot_be_is_said() {
    let (recording, _) = sleeper();
    let on_kvm = Recording::make(&Guest::bare(EngineKind::Kvm, "sleeper", "count=2"), 1);
    let refused_of = |recording: &Recording, options: &[&str]| {
        let output = Command::new(images::lockstep())
            .args(recording.replay_arguments(&recording.log()))
            .args(["--console", "none"])
            .args(options)
            .output()
            .expect("lockstep runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        said
    };
    let refused = |options: &[&str]| refused_of(&recording, options);
    let said = refused_of(&on_kvm, &["--gdb", "0"]);
    assert!(said.contains("record with --engine soft"), "{said}");
    let said = refused(&["--until", "99999999"]);
    assert!(said.contains("The guest ended at"), "{said}");
    let said = refused(&["--until", "20+99999999"]);
    assert!(said.contains("There is no position 20+99999999"), "{said}");
    assert!(refused(&["--until", "soon"]).contains("is not a position"));
    assert!(refused(&["--gdb", "nowhere"]).contains("is no address"));
}

#[test]
fn gdb_watches_memory_in_both_directions() {
    let (recording, kernel) = linux();
    let replay = DebuggedReplay::start(&recording);
    let said = replay.gdb(
        &kernel,
        &[
            "break schedule",
            "continue",
            "delete",
            "watch *(unsigned long *) &jiffies_64",
            "continue",
            r#"printf "first: %lx\n", *(unsigned long *) &jiffies_64"#,
            "continue",
            r#"printf "second: %lx\n", *(unsigned long *) &jiffies_64"#,
            "reverse-continue",
            r#"printf "first: %lx\n", *(unsigned long *) &jiffies_64"#,
            "x/i $pc",
            "stepi",
            r#"printf "second: %lx\n", *(unsigned long *) &jiffies_64"#,
            "rwatch *(unsigned long *) &jiffies",
            "kill",
        ],
    );
    let number = |text: &String| u64::from_str_radix(text, 16).expect("a number");
    let (first, second) = (seen(&said, "first"), seen(&said, "second"));
    assert!(first.len() == 2 && first[0] == first[1], "{said}");
    assert!(second.len() == 2 && second[0] == second[1], "{said}");
    assert_eq!(number(&first[0]) + 1, number(&second[0]), "{said}");
    assert!(
        said.contains("in do_timer ()") && said.contains("<jiffies_64>"),
        "{said}"
    );
    assert!(replay.ends(), "{said}");
}
