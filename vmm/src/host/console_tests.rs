use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::LocalModes;

use super::*;

#[test]
fn the_option_is_a_word_or_a_file() {
    for (text, console) in [
        ("stdio", Console::Stdio),
        ("none", Console::None),
        ("./none", Console::File("./none".into())),
        ("/var/log/guest", Console::File("/var/log/guest".into())),
    ] {
        assert_eq!(text.parse(), Ok(console.clone()));
        assert_eq!(console.to_string(), text);
    }
}

#[test]
fn a_file_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console");
    let console = Console::File(path.clone());
    console.open().unwrap().write(b"primary: 1\n").unwrap();
    console.open().unwrap().write(b"backup: 2\n").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"primary: 1\nbackup: 2\n");
    assert!(console.input().unwrap().is_none());
}

#[test]
fn failures_are_told_with_the_file() {
    let missing = Console::File("/nowhere/console".into()).open().unwrap_err();
    assert!(
        missing.to_string().contains("/nowhere/console"),
        "{missing}"
    );
    let full = Console::File("/dev/full".into())
        .open()
        .unwrap()
        .write(b"x")
        .unwrap_err();
    assert!(full.to_string().contains("/dev/full"), "{full}");
    Console::None.open().unwrap().write(b"x").unwrap();
}

#[test]
fn a_slow_reader_of_a_non_blocking_pipe_gets_every_byte() {
    let (reader, writer) = pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut received = Vec::new();
            File::from(reader)
                .read_to_end(&mut received)
                .map(|_| received)
        });
        write_all(writer.as_fd(), &sent).unwrap();
        drop(writer);
        reader.join().unwrap().unwrap()
    });
    assert!(
        received == sent,
        "{} of {} bytes",
        received.len(),
        sent.len()
    );
}

fn typed(input: &[u8], is_terminal: bool) -> Vec<Typed> {
    let (sender, mut receiver) = mpsc::channel(INPUT_CHUNKS_MAX);
    read_input(input, is_terminal, &sender);
    drop(sender);
    std::iter::from_fn(|| receiver.blocking_recv()).collect()
}

#[test]
fn keys_reach_the_guest_and_control_a_x_quits() {
    let bytes = |text: &[u8]| Typed::Bytes(text.to_vec());
    assert_eq!(typed(b"ls\r\x03", true), [bytes(b"ls\r\x03")]);
    assert_eq!(typed(b"a\x01xb", true), [bytes(b"a"), Typed::Quit]);
    assert_eq!(typed(b"\x01\x01x", true), [bytes(b"\x01x")]);
    assert_eq!(typed(b"a\x01xb", false), [bytes(b"a\x01xb")]);
    assert_eq!(typed(b"", true), []);
}

#[test]
fn the_escape_may_come_in_two_pieces() {
    let mut escape = Escape::default();
    assert_eq!(escape.feed(b"a\x01"), (b"a".to_vec(), false));
    assert_eq!(escape.feed(b"x"), (vec![], true));
}

#[test]
fn nobody_listening_ends_the_reader() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    read_input(io::repeat(b'x'), true, &sender);
}

fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (master, slave)
}

#[test]
fn a_terminal_gets_its_mode_back() {
    let (_master, slave) = pseudo_terminal();
    let modes = || {
        let modes = tcgetattr(&slave).unwrap();
        (modes.input_modes, modes.output_modes, modes.local_modes)
    };
    let before = modes();
    let terminal = RawTerminal::enter_on(slave.as_fd()).unwrap();
    let (_, output, local) = modes();
    assert!(!local.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    assert_eq!(output, before.1, "line feeds are still completed");
    drop(terminal);
    assert_eq!(modes(), before);
}
