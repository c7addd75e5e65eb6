use proptest::prelude::*;

use super::*;

/// The first nanosecond of clock period `clock`.
fn at(clock: u64) -> u64 {
    ns_at(clock, PIT_HZ).unwrap()
}

fn program(pit: &mut Pit, counter: u8, mode: u8, count: u16, clock: u64) {
    pit.write(3, counter << 6 | 0x30 | mode << 1, at(clock));
    for byte in count.to_le_bytes() {
        pit.write(counter.into(), byte, at(clock));
    }
}

fn read(pit: &mut Pit, counter: u16, clock: u64) -> u16 {
    let bytes = [pit.read(counter, at(clock)), pit.read(counter, at(clock))];
    u16::from_le_bytes(bytes)
}

/// Counter 2's output over the periods from `clock` on.
fn outputs(pit: &Pit, clock: u64, length: u64) -> String {
    let level = |clock| {
        if pit.counters[2].output(clock) {
            '1'
        } else {
            '0'
        }
    };
    (clock..clock + length).map(level).collect()
}

/// A timer whose counter 2 has its gate high.
fn gated() -> Pit {
    let mut pit = Pit::new();
    pit.write_speaker(1, 0);
    pit
}

#[test]
fn mode_0_output_rises_after_n_plus_1_clocks() {
    let mut pit = gated();
    pit.write(3, 0xB0, at(10));
    assert_eq!(outputs(&pit, 10, 3), "000");
    program(&mut pit, 2, 0, 4, 10);
    assert_eq!(outputs(&pit, 10, 8), "00000111");
    assert_eq!(read(&mut pit, 2, 11), 4);
    assert_eq!(read(&mut pit, 2, 14), 1);
    assert_eq!(read(&mut pit, 2, 16), 0xFFFF);
}

#[test]
fn mode_0_first_byte_stops_and_gate_pauses() {
    let mut pit = gated();
    program(&mut pit, 2, 0, 4, 10);
    pit.write_speaker(0, at(13));
    assert_eq!(outputs(&pit, 13, 9), "000000000");
    pit.write_speaker(1, at(20));
    assert_eq!(outputs(&pit, 20, 5), "00111");
    pit.write(2, 5, at(30));
    assert_eq!(outputs(&pit, 30, 9), "000000000");
    pit.write(2, 0, at(40));
    assert_eq!(outputs(&pit, 40, 8), "00000011");
}

#[test]
fn mode_1_is_started_by_the_gate() {
    let mut pit = gated();
    program(&mut pit, 2, 1, 3, 10);
    assert_eq!(outputs(&pit, 10, 5), "11111");
    pit.write_speaker(0, at(20));
    pit.write_speaker(1, at(21));
    assert_eq!(outputs(&pit, 21, 6), "100011");
    // Again in mid-pulse: a longer pulse.
    pit.write_speaker(0, at(23));
    pit.write_speaker(1, at(23));
    assert_eq!(outputs(&pit, 23, 6), "100011");
}

#[test]
fn mode_2_is_low_for_one_clock_in_n() {
    let mut pit = gated();
    program(&mut pit, 2, 2, 3, 10);
    assert_eq!(outputs(&pit, 10, 8), "11101101");
    assert_eq!(
        [11, 12, 13, 14].map(|clock| read(&mut pit, 2, clock)),
        [3, 2, 1, 3]
    );
    // A new count waits for the end of the cycle.
    program_count(&mut pit, 4, 12);
    assert_eq!(outputs(&pit, 12, 11), "10111011101");
    // The gate stops it high, and starts it anew.
    pit.write_speaker(0, at(30));
    assert_eq!(outputs(&pit, 30, 5), "11111");
    pit.write_speaker(1, at(40));
    assert_eq!(outputs(&pit, 40, 6), "111101");
}

fn program_count(pit: &mut Pit, count: u16, clock: u64) {
    for byte in count.to_le_bytes() {
        pit.write(2, byte, at(clock));
    }
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = gated();
    program(&mut pit, 2, 3, 4, 10);
    assert_eq!(outputs(&pit, 11, 8), "11001100");
    assert_eq!(
        [11, 12, 13, 14].map(|clock| read(&mut pit, 2, clock)),
        [4, 2, 4, 2]
    );
    program(&mut pit, 2, 3, 5, 10);
    assert_eq!(outputs(&pit, 11, 10), "1110011100");
    assert_eq!(
        [11, 12, 13, 14, 15].map(|clock| read(&mut pit, 2, clock)),
        [4, 2, 0, 4, 2]
    );
    // A new count waits for the end of the half-cycle.
    program(&mut pit, 2, 3, 4, 10);
    program_count(&mut pit, 6, 11);
    assert_eq!(outputs(&pit, 11, 14), "11000111000111");
    program(&mut pit, 2, 3, 4, 10);
    program_count(&mut pit, 6, 13);
    assert_eq!(outputs(&pit, 11, 12), "110011100011");
}

#[test]
fn mode_4_strobes_once() {
    let mut pit = gated();
    program(&mut pit, 2, 4, 3, 10);
    assert_eq!(outputs(&pit, 10, 7), "1111011");
    assert_eq!(read(&mut pit, 2, 15), 0xFFFF);
}

#[test]
fn mode_5_strobes_after_the_gate() {
    let mut pit = gated();
    program(&mut pit, 2, 5, 3, 10);
    assert_eq!(outputs(&pit, 10, 7), "1111111");
    pit.write_speaker(0, at(20));
    pit.write_speaker(1, at(20));
    assert_eq!(outputs(&pit, 20, 7), "1111011");
}

#[test]
fn bcd_counts() {
    let mut pit = Pit::new();
    pit.write(3, 0x35, 0);
    pit.write(0, 0x00, 0);
    pit.write(0, 0x10, 0);
    assert_eq!(read(&mut pit, 0, 1), 0x1000);
    assert_eq!(read(&mut pit, 0, 2), 0x0999);
    // 0 stands for 10,000.
    pit.write(3, 0x35, 0);
    pit.write(0, 0x00, 0);
    pit.write(0, 0x00, 0);
    assert_eq!(read(&mut pit, 0, 2), 0x9999);
}

#[test]
fn access_to_one_byte() {
    let mut pit = Pit::new();
    pit.write(3, 0x14, 0);
    pit.write(0, 200, 0);
    assert_eq!([pit.read(0, at(2)), pit.read(0, at(3))], [199, 198]);
    pit.write(3, 0x24, 0);
    pit.write(0, 2, 0);
    assert_eq!(pit.read(0, at(1)), 2);
    assert_eq!(pit.read(0, at(2)), 1);
}

#[test]
fn a_latched_count_holds_still_until_read() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 1000, 0);
    pit.write(3, 0x00, at(101));
    pit.write(3, 0x00, at(201));
    assert!(!pit.read_needs_time(0));
    assert_eq!(read(&mut pit, 0, 301), 900);
    assert!(pit.read_needs_time(0));
    assert_eq!(read(&mut pit, 0, 301), 700);
}

#[test]
fn read_back_of_status_then_count() {
    let mut pit = gated();
    program(&mut pit, 2, 3, 100, 10);
    pit.write(3, 0xC8, at(10));
    // Not loaded yet: null count, output high, two bytes, mode 3.
    assert_eq!(pit.read(2, at(50)), 0xF6);
    assert_eq!(read(&mut pit, 2, 50), 100);
    pit.write(3, 0xE8, at(61));
    assert_eq!(pit.read(2, at(62)), 0x36);
    // Counters that are not named are left alone; port 0x43 cannot be read.
    pit.write(3, 0xC2, at(61));
    assert!(pit.read_needs_time(2));
    assert_eq!(pit.read(3, 0), 0xFF);
}

#[test]
fn modes_6_and_7_are_2_and_3() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 6, 5, 0);
    pit.write(3, 0xE2, at(2));
    assert_eq!(pit.read(0, 0) & 0x0E, 0x04);
}

#[test]
fn port_61() {
    let mut pit = Pit::new();
    pit.write_speaker(0xFF, 0);
    assert_eq!(pit.read_speaker(0) & 0x0F, 0x0F);
    assert_eq!(pit.read_speaker(REFRESH_TOGGLE_NS) & 0x10, 0x10);
    assert_eq!(pit.read_speaker(2 * REFRESH_TOGGLE_NS) & 0x10, 0);
    program(&mut pit, 2, 0, 100, 10);
    assert_eq!(pit.read_speaker(at(110)) & 0x20, 0);
    assert_eq!(pit.read_speaker(at(111)) & 0x20, 0x20);
}

#[test]
fn periodic_edges_do_not_drift() {
    let mut pit = Pit::new();
    // Linux, HZ = 100: LATCH is 11,932.
    program(&mut pit, 0, 2, 11_932, 0);
    for tick in 1..=100_000 {
        let deadline = pit.deadline_ns().unwrap();
        assert_eq!(deadline, at(1 + tick * 11_932));
        pit.tick(deadline - 1);
        assert!(!pit.take_edge());
        pit.tick(deadline);
        assert!(pit.take_edge());
    }
}

#[test]
fn missed_edges_are_one_and_the_phase_is_kept() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 3, 1000, 0);
    pit.tick(at(10_500));
    assert!(pit.take_edge());
    assert!(!pit.take_edge());
    assert_eq!(pit.deadline_ns(), Some(at(11_001)));
}

#[test]
fn one_shots_fire_once() {
    for (mode, edge) in [(0, 1001), (4, 1002)] {
        let mut pit = Pit::new();
        program(&mut pit, 0, mode, 1000, 0);
        assert_eq!(pit.deadline_ns(), Some(at(edge)));
        pit.tick(at(edge));
        assert!(pit.take_edge());
        assert_eq!(pit.deadline_ns(), None);
        pit.tick(u64::MAX);
        assert!(!pit.take_edge());
    }
}

#[test]
fn an_overdue_edge_is_raised_before_the_counter_is_written() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 4, 1000, 0);
    program(&mut pit, 0, 4, 1000, 2000);
    assert!(pit.take_edge());
    assert_eq!(pit.deadline_ns(), Some(at(3002)));
}

#[test]
fn linux_shutdown_leaves_no_deadline_until_a_count_comes() {
    let mut pit = Pit::new();
    program(&mut pit, 0, 2, 11_932, 0);
    pit.write(3, 0x30, at(100));
    assert_eq!(pit.deadline_ns(), None);
}

#[test]
fn very_short_periods_are_spaced() {
    for count in [1, 2, 50] {
        let mut pit = Pit::new();
        program(&mut pit, 0, 2, count, 0);
        let mut last_ns = 0;
        for _ in 0..100 {
            let deadline = pit.deadline_ns().unwrap();
            assert!(deadline >= last_ns + 200_000);
            pit.tick(deadline);
            assert!(pit.take_edge());
            last_ns = deadline;
        }
    }
}

#[test]
fn modes_1_and_5_never_fire_on_counter_0() {
    for mode in [1, 5] {
        let mut pit = Pit::new();
        program(&mut pit, 0, mode, 1000, 0);
        assert_eq!(pit.deadline_ns(), None);
    }
}

proptest! {
    /// `next_rise` against the output itself, sampled at every clock.
    #[test]
    fn rises_are_where_the_output_rises(
        mode in prop::sample::select(vec![0u8, 2, 3, 4]),
        counts in prop::collection::vec((2u16..40, 0u64..90), 1..4),
    ) {
        let mut pit = gated();
        pit.write(3, 0xB0 | mode << 1, 0);
        let mut clock = 5;
        for (count, wait) in counts {
            program_count(&mut pit, count, clock);
            let counter = &pit.counters[2];
            let mut expected = Vec::new();
            let mut found = Vec::new();
            let mut after = clock;
            for now in clock + 1..=clock + wait {
                if counter.output(now) && !counter.output(now - 1) {
                    expected.push(now);
                }
            }
            while let Some(rise) = counter.next_rise(after).filter(|rise| *rise <= clock + wait) {
                found.push(rise);
                after = rise;
            }
            prop_assert_eq!(found, expected);
            clock += wait;
        }
    }
}
