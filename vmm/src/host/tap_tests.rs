//! Taps in a network namespace of the test's own: nothing on the host changes. Needs root.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

const MAC: MacAddress = [0x52, 0x54, 0, 0, 0, 0x11];
const OTHER_MAC: MacAddress = [0x52, 0x54, 0, 0, 0, 0x22];
/// "Local Experimental Ethertype 1": nobody but the test sends it.
const ETHERTYPE: u16 = 0x88B5;

/// Runs `test` on a thread in a new network namespace, which vanishes with it.
fn in_private_network(test: impl FnOnce() + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network interfaces: run it as root"
    );
    let thread = || {
        // SAFETY: only the network namespace of this thread is unshared, no table of file descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a new network namespace");
        test();
    };
    std::thread::scope(|scope| scope.spawn(thread).join().expect("the test's thread"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("`ip` from iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn bridge(taps: &[&Tap]) {
    ip("link add bridge0 type bridge forward_delay 0");
    for tap in taps {
        ip(&format!("link set {} master bridge0", tap.name()));
    }
    ip("link set bridge0 up");
}

fn frame(to: MacAddress, from: MacAddress, ethertype: u16, mark: u8) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &ethertype.to_be_bytes()].concat();
    frame.resize(FRAME_MIN, mark);
    frame
}

/// The next frame of this ethertype; the host's own chatter is skipped. `None` after `wait`.
fn receive(tap: &Tap, ethertype: u16, wait: Duration) -> Option<Vec<u8>> {
    let deadline = Instant::now() + wait;
    let mut buffer = vec![0; 65_562];
    while Instant::now() < deadline {
        match tap.read_frame(&mut buffer).expect("a readable tap") {
            Some(length) if buffer[12..14] == ethertype.to_be_bytes() => {
                return Some(buffer[..length].to_vec());
            }
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

/// Sends until the bridge forwards, which takes a moment after its link came up.
fn send_until_received(from: &Tap, to: &Tap, frame: &[u8], ethertype: u16) -> Vec<u8> {
    for _ in 0..200 {
        from.write_frame(frame).expect("a writable tap");
        if let Some(received) = receive(to, ethertype, Duration::from_millis(50)) {
            return received;
        }
    }
    panic!("no frame came through the bridge in 10 s");
}

fn drain(tap: &Tap) {
    while receive(tap, ETHERTYPE, Duration::from_millis(50)).is_some() {}
}

#[test]
fn frames_cross_a_bridge_between_two_taps() {
    in_private_network(|| {
        let (left, right) = (Tap::open("left").unwrap(), Tap::open("right").unwrap());
        bridge(&[&left, &right]);
        let sent = frame([0xFF; 6], MAC, ETHERTYPE, 0xA5);
        assert_eq!(send_until_received(&left, &right, &sent, ETHERTYPE), sent);
        let back = frame(MAC, OTHER_MAC, ETHERTYPE, 0x5A);
        assert_eq!(send_until_received(&right, &left, &back, ETHERTYPE), back);
    });
}

#[test]
fn an_announcement_moves_the_address_to_another_port() {
    in_private_network(|| {
        let taps = ["client", "primary", "backup"].map(|name| Tap::open(name).unwrap());
        let [client, primary, backup] = &taps;
        bridge(&[client, primary, backup]);
        let request = frame(MAC, OTHER_MAC, ETHERTYPE, 1);

        let announced =
            send_until_received(primary, client, &rarp_announcement(MAC), ETHERTYPE_RARP);
        assert_eq!(announced, rarp_announcement(MAC));
        send_until_received(client, primary, &request, ETHERTYPE);
        drain(backup);
        client.write_frame(&request).unwrap();
        assert!(receive(primary, ETHERTYPE, Duration::from_secs(10)).is_some());
        assert_eq!(receive(backup, ETHERTYPE, Duration::from_millis(50)), None);

        backup.announce(MAC).unwrap();
        assert!(receive(client, ETHERTYPE_RARP, Duration::from_secs(10)).is_some());
        drain(primary);
        client.write_frame(&request).unwrap();
        assert!(receive(backup, ETHERTYPE, Duration::from_secs(10)).is_some());
        assert_eq!(receive(primary, ETHERTYPE, Duration::from_millis(50)), None);
    });
}

#[test]
fn an_existing_tap_is_attached_to_and_brought_up() {
    in_private_network(|| {
        ip("tuntap add lasting mode tap");
        let tap = Tap::open("lasting").unwrap();
        assert_eq!(
            tap.read_frame(&mut [0; 2048])
                .unwrap()
                .filter(|length| *length < 14),
            None
        );
        tap.write_frame(&frame([0xFF; 6], MAC, ETHERTYPE, 0))
            .expect("the link is up");
        assert!(
            matches!(Tap::open("lasting"), Err(HostError::TapAttach { .. })),
            "one user at a time"
        );
        drop(tap);
        Tap::open("lasting").expect("free again");
    });
}

#[test]
fn what_is_no_tap_is_refused_in_words() {
    in_private_network(|| {
        ip("link add notatap type bridge");
        let error = Tap::open("notatap").unwrap_err().to_string();
        assert!(error.contains("is not a tap"), "{error}");
        let tap = Tap::open("short").unwrap();
        assert!(tap.write_frame(&[0; 13]).is_err());
    });
}

#[test]
fn names_are_checked_before_anything_is_opened() {
    for name in [
        "",
        "sixteen-letters-",
        "a/b",
        "tap%d",
        "a b",
        "..",
        "tap\0",
        "täp",
    ] {
        assert!(
            matches!(Tap::open(name), Err(HostError::TapName { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn an_announcement_is_a_reverse_arp_request() {
    let frame = rarp_announcement(MAC);
    assert_eq!(frame[..6], [0xFF; 6]);
    assert_eq!(frame[6..12], MAC);
    assert_eq!(frame[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    assert_eq!((&frame[22..28], &frame[28..32]), (&MAC[..], &[0; 4][..]));
    assert_eq!((&frame[32..38], &frame[38..]), (&MAC[..], &[0; 22][..]));
}
