use super::*;

/// 2025-11-21 06:29:01, a Friday.
const NOW_S: u64 = 1_763_706_541;
const S: u64 = NS_PER_S;

fn clock() -> Rtc {
    Rtc::new(NOW_S, 512 << 20)
}

/// A clock without its periodic rate, which sets flags whether enabled or not.
fn quiet_clock() -> Rtc {
    let mut rtc = clock();
    put(&mut rtc, 0x0A, 0x20, 0);
    rtc
}

fn get(rtc: &mut Rtc, index: u8, now_ns: u64) -> u8 {
    rtc.select(index);
    rtc.read(now_ns)
}

fn put(rtc: &mut Rtc, index: u8, value: u8, now_ns: u64) {
    rtc.select(index);
    rtc.write(value, now_ns);
}

/// Century, year, month, day, hour, minute, second, weekday, as read.
fn shown(rtc: &mut Rtc, now_ns: u64) -> [u8; 8] {
    [0x32, 9, 8, 7, 4, 2, 0, 6].map(|index| get(rtc, index, now_ns))
}

#[test]
fn time_in_bcd_and_24_hours() {
    let mut rtc = clock();
    assert_eq!(
        shown(&mut rtc, 0),
        [0x20, 0x25, 0x11, 0x21, 0x06, 0x29, 0x01, 6]
    );
    let later = shown(&mut rtc, 18 * 3600 * S - 1);
    assert_eq!(later, [0x20, 0x25, 0x11, 0x22, 0x00, 0x29, 0x00, 7]);
}

#[test]
fn time_in_binary_and_12_hours() {
    let mut rtc = clock();
    put(&mut rtc, 0x0B, 0x04, 0);
    let hour = |rtc: &mut Rtc, hours: u64| get(rtc, 4, hours * 3600 * S);
    assert_eq!(get(&mut rtc, 2, 0), 29);
    assert_eq!(hour(&mut rtc, 0), 6);
    assert_eq!(hour(&mut rtc, 6), 12 | 0x80);
    assert_eq!(hour(&mut rtc, 7), 1 | 0x80);
    assert_eq!(hour(&mut rtc, 18), 12);
}

#[test]
fn set_holds_the_clock_and_takes_what_is_written() {
    let mut rtc = clock();
    put(&mut rtc, 0x0B, 0x82, 0);
    assert_eq!(get(&mut rtc, 0, 30 * S), 0x01);
    // 2000-02-29 23:59:58, fields out of order and out of range in between.
    let fields = [
        (7, 0x99),
        (8, 0x02),
        (9, 0x00),
        (0x32, 0x20),
        (7, 0x29),
        (4, 0x23),
        (2, 0x59),
        (0, 0x58),
    ];
    for (index, value) in fields {
        put(&mut rtc, index, value, 31 * S);
    }
    put(&mut rtc, 0x0B, 0x02, 100 * S);
    assert_eq!(
        shown(&mut rtc, 101 * S),
        [0x20, 0x00, 0x02, 0x29, 0x23, 0x59, 0x59, 3]
    );
    assert_eq!(
        shown(&mut rtc, 102 * S),
        [0x20, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00, 4]
    );
}

#[test]
fn a_running_clock_can_be_set_field_by_field() {
    let mut rtc = clock();
    put(&mut rtc, 4, 0x12, 0);
    assert_eq!(shown(&mut rtc, S)[4..7], [0x12, 0x29, 0x02]);
}

#[test]
fn update_in_progress_is_short() {
    let mut rtc = clock();
    assert_eq!(get(&mut rtc, 0x0A, 0), 0x26);
    assert_eq!(get(&mut rtc, 0x0A, S - UPDATE_WARNING_NS - 1), 0x26);
    assert_eq!(get(&mut rtc, 0x0A, S - UPDATE_WARNING_NS), 0xA6);
    assert_eq!(get(&mut rtc, 0x0A, S), 0x26);
}

#[test]
fn update_ended_interrupt() {
    let mut rtc = quiet_clock();
    assert_eq!(rtc.deadline_ns(), None);
    put(&mut rtc, 0x0B, 0x12, S / 2);
    assert_eq!(rtc.deadline_ns(), Some(S));
    rtc.tick(S - 1);
    assert!(!rtc.interrupt());
    rtc.tick(S);
    assert!(rtc.interrupt());
    // Nothing more can happen until the flags are read.
    assert_eq!(rtc.deadline_ns(), None);
    assert_eq!(get(&mut rtc, 0x0C, S), 0x90);
    assert!(!rtc.interrupt());
    assert_eq!(rtc.deadline_ns(), Some(2 * S));
    assert_eq!(get(&mut rtc, 0x0C, S), 0);
}

#[test]
fn set_clears_the_update_interrupt_and_stops_updates() {
    let mut rtc = quiet_clock();
    put(&mut rtc, 0x0B, 0x92, 0);
    assert_eq!(get(&mut rtc, 0x0B, 0), 0x82);
    assert_eq!(get(&mut rtc, 0x0C, 5 * S), 0);
    assert_eq!(rtc.deadline_ns(), None);
}

#[test]
fn periodic_interrupt_rates() {
    let mut rtc = clock();
    put(&mut rtc, 0x0B, 0x42, 0);
    assert_eq!(rtc.deadline_ns(), Some(976_563));
    rtc.tick(976_563);
    assert_eq!(get(&mut rtc, 0x0C, 976_563), 0xC0);
    assert_eq!(rtc.deadline_ns(), Some(1_953_125));
    for (rate, hz) in [(1, 256), (2, 128), (3, 8192), (15, 2)] {
        put(&mut rtc, 0x0A, 0x20 | rate, 2_000_000);
        assert_eq!(rtc.periodic_hz(), Some(hz));
    }
    put(&mut rtc, 0x0A, 0x20, 2_000_000);
    assert_eq!(rtc.deadline_ns(), None);
}

#[test]
fn alarm_at_a_time_of_day() {
    let mut rtc = quiet_clock();
    for (index, value) in [(5, 0x06), (3, 0x30), (1, 0x00), (0x0B, 0x22)] {
        put(&mut rtc, index, value, 0);
    }
    assert_eq!(rtc.deadline_ns(), Some(59 * S));
    rtc.tick(60 * S);
    assert_eq!(get(&mut rtc, 0x0C, 60 * S), 0xB0);
    assert_eq!(rtc.deadline_ns(), Some((86_400 + 59) * S));
}

#[test]
fn alarm_with_wildcards_and_with_times_that_never_come() {
    let mut rtc = quiet_clock();
    for (index, value) in [(5, 0xFF), (3, 0xC0), (1, 0x05), (0x0B, 0x22)] {
        put(&mut rtc, index, value, 0);
    }
    assert_eq!(rtc.deadline_ns(), Some(4 * S));
    put(&mut rtc, 1, 0xC0, 0);
    assert_eq!(rtc.deadline_ns(), Some(S));
    put(&mut rtc, 1, 0x60, 0);
    assert_eq!(rtc.deadline_ns(), None);
    rtc.tick(u64::MAX);
    assert_eq!(get(&mut rtc, 0x0C, u64::MAX), UPDATE);
}

#[test]
fn cmos_ram() {
    let mut rtc = clock();
    assert_eq!(
        [get(&mut rtc, 0x15, 0), get(&mut rtc, 0x16, 0)],
        640u16.to_le_bytes()
    );
    assert_eq!(
        [get(&mut rtc, 0x17, 0), get(&mut rtc, 0x18, 0)],
        [0xFF, 0xFF]
    );
    let blocks = u16::from_le_bytes([get(&mut rtc, 0x34, 0), get(&mut rtc, 0x35, 0)]);
    assert_eq!(u64::from(blocks), (512 - 16) * 16);
    put(&mut rtc, 0xFF, 0x5A, 0);
    assert_eq!(get(&mut rtc, 0x7F, 0), 0x5A);
    assert_eq!(get(&mut rtc, 0x0D, 0), 0x80);
    assert!(!rtc.needs_time(true) && !rtc.needs_time(false));
}

#[test]
fn extreme_configurations() {
    for unix_time_s in [0, u64::MAX] {
        let mut rtc = Rtc::new(unix_time_s, u64::MAX);
        shown(&mut rtc, u64::MAX);
        assert_eq!(rtc.deadline_ns(), None);
    }
}
