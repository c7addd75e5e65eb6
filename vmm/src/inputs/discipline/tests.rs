//! A host and a guest that are numbers: the engine's speed is whatever the test says, and no time passes.

use proptest::prelude::*;

use super::*;
use crate::machine::clock::GuestClock;

/// As live inputs cut the guest's run.
const SLICE_INSTRUCTIONS: u64 = 20_000;

struct Course {
    clock: GuestClock,
    discipline: Discipline,
    host_ns: u64,
    retired: u64,
    corrections: u64,
    /// The furthest that the guest was behind and ahead when it had just been looked at, nanoseconds.
    behind_ns: u64,
    ahead_ns: u64,
}

impl Course {
    fn new() -> Self {
        let clock = GuestClock::default();
        Self {
            clock,
            discipline: Discipline::new(clock.ps_per_instruction()),
            host_ns: 0,
            retired: 0,
            corrections: 0,
            behind_ns: 0,
            ahead_ns: 0,
        }
    }

    fn guest_ns(&self) -> u64 {
        self.clock.at(self.retired)
    }

    fn look(&mut self) {
        let now = Sample {
            host_ns: self.host_ns,
            guest_ns: self.guest_ns(),
            retired: self.retired,
            ps_per_instruction: self.clock.ps_per_instruction(),
        };
        if let Some(correction) = self.discipline.correct(now) {
            self.corrections += 1;
            // Panics if it steps back.
            let rate = correction.ps_per_instruction;
            self.clock.correct(self.retired, correction.guest_ns, rate);
        }
        self.behind_ns = self
            .behind_ns
            .max(self.host_ns.saturating_sub(self.guest_ns()));
        self.ahead_ns = self
            .ahead_ns
            .max(self.guest_ns().saturating_sub(self.host_ns));
    }

    /// One slice of an engine that takes so long for an instruction.
    fn slice(&mut self, engine_ps: u64) {
        let instructions =
            super::super::slice_instructions(SLICE_INSTRUCTIONS, self.clock.ps_per_instruction());
        self.retired += instructions;
        self.host_ns += instructions * engine_ps / 1_000;
        self.look();
    }

    fn run_for(&mut self, host_ns: u64, engine_ps: u64) {
        let until = self.host_ns + host_ns;
        while self.host_ns < until {
            self.slice(engine_ps);
        }
    }

    /// The guest waits for something that is not its timer.
    fn wait_for(&mut self, host_ns: u64) {
        self.discipline.waits();
        self.host_ns += host_ns;
        self.look();
    }
}

const MS: u64 = 1_000_000;

#[test]
fn a_steady_engine_needs_no_corrections_once_its_speed_is_known() {
    for engine_ps in [500, 5_000, 40_000, 5_000_000] {
        let mut course = Course::new();
        course.run_for(100 * MS, engine_ps);
        let before = course.corrections;
        course.run_for(10_000 * MS, engine_ps);
        let corrections = course.corrections - before;
        assert!(corrections <= 20, "{corrections} in 10 s at {engine_ps} ps");
    }
}

#[test]
fn a_speed_that_changes_a_hundredfold_is_followed() {
    let mut course = Course::new();
    let speeds = [5_000, 500_000, 5_000, 50_000, 500_000, 2_000];
    for engine_ps in speeds.into_iter().cycle().take(60) {
        course.run_for(37 * MS, engine_ps);
    }
    assert!(course.behind_ns <= LIMIT_NS, "{}", course.behind_ns);
    // A slice is over before anybody can look.
    assert!(course.ahead_ns <= 8 * LIMIT_NS, "{}", course.ahead_ns);
    assert!(course.corrections <= 60 * 12, "{}", course.corrections);
}

#[test]
fn a_guest_that_is_ahead_is_slowed_once_and_let_go_once() {
    let mut course = Course::new();
    course.run_for(50 * MS, 5_000);
    let before = course.corrections;
    // The host's clock seems to have stood still: the guest is 2 ms ahead.
    course.host_ns -= 2 * MS;
    course.discipline.waits();
    course.run_for(20 * MS, 5_000);
    assert_eq!(course.corrections - before, 2);
    let ahead_ns = course.guest_ns().saturating_sub(course.host_ns);
    assert!(ahead_ns <= LIMIT_NS, "{ahead_ns}");
}

#[test]
fn a_guest_that_waited_is_put_right_when_it_is_woken_and_its_speed_is_not_forgotten() {
    let mut course = Course::new();
    course.run_for(50 * MS, 5_000);
    let rate = course.clock.ps_per_instruction();
    let before = course.corrections;
    for _ in 0..100 {
        course.wait_for(7 * MS);
        course.slice(5_000);
    }
    assert_eq!(course.corrections - before, 100, "one for each time");
    assert!(course.behind_ns <= LIMIT_NS);
    let off = course.clock.ps_per_instruction().abs_diff(rate);
    assert!(off * 20 < rate, "waiting is not working: {off} of {rate}");
}

#[test]
fn short_waits_add_up_to_one_correction() {
    let mut course = Course::new();
    course.run_for(50 * MS, 5_000);
    let before = course.corrections;
    for _ in 0..100 {
        course.wait_for(LIMIT_NS / 10);
        course.slice(5_000);
    }
    let corrections = course.corrections - before;
    assert!((9..=11).contains(&corrections), "{corrections}");
}

#[test]
fn a_single_stretch_in_which_the_host_was_busy_says_nothing_about_the_speed() {
    let mut course = Course::new();
    course.run_for(50 * MS, 5_000);
    let rate = course.clock.ps_per_instruction();
    course.slice(1_000_000);
    let off = course.clock.ps_per_instruction().abs_diff(rate);
    assert!(off * 4 < rate, "{off} of {rate}");
}

proptest! {
    /// Whatever the engine's speed does, and however long the guest waits: never back (or it panics), never behind by more than the limit, and
    /// no more corrections than there is drift.
    #[test]
    fn any_speed_is_followed(steps in prop::collection::vec((10_u64..1_000_000, 1_u64..200, prop::bool::ANY), 1..200)) {
        let mut course = Course::new();
        for (engine_ps, length, waits) in steps {
            if waits {
                course.wait_for(length * 10_000);
            } else {
                for _ in 0..length {
                    course.slice(engine_ps);
                }
            }
        }
        prop_assert!(course.behind_ns <= LIMIT_NS);
        let drifts = (course.host_ns + course.guest_ns()) / LIMIT_NS;
        prop_assert!(course.corrections <= 2 * drifts + 2, "{} corrections in {} ns", course.corrections, course.host_ns);
    }

    /// Nonsense for samples: no overflow, and never a step back.
    #[test]
    fn any_sample_is_borne(samples in prop::collection::vec(any::<(u64, u64, u64, u32, bool)>(), 0..50)) {
        let mut discipline = Discipline::new(0);
        for (host_ns, guest_ns, retired, ps_per_instruction, waits) in samples {
            if waits {
                discipline.waits();
            }
            if let Some(correction) = discipline.correct(Sample { host_ns, guest_ns, retired, ps_per_instruction }) {
                prop_assert!(correction.guest_ns >= guest_ns);
                prop_assert!(correction.ps_per_instruction >= 1);
            }
        }
    }
}
