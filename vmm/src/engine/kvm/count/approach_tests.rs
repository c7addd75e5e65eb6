use proptest::prelude::*;

use super::*;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    Counts,
    Exits,
}
use Does::{Counts, Exits, Nothing};

/// Where a track stands that was told to go to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Behind so many instructions, at the target.
    At(usize),
    /// At the exit that so many instructions come before.
    AtExit(usize),
}

/// A program, as what each instruction does, and a counter that skids over it.
struct Track<'a> {
    program: &'a [Does],
    at: usize,
    count: u64,
    /// Instructions that each interrupt is late.
    skids: std::iter::Cycle<std::slice::Iter<'a, u64>>,
}

impl Track<'_> {
    /// `true` if it exits. Beyond its end the program goes on counting.
    fn step(&mut self) -> bool {
        match self.program.get(self.at).unwrap_or(&Counts) {
            Exits => return true,
            Counts => self.count += 1,
            Nothing => {}
        }
        self.at += 1;
        false
    }

    fn run(&mut self, events: u64) -> bool {
        let overflow = self.count + events;
        while self.count < overflow {
            if self.step() {
                return true;
            }
        }
        let skid = *self.skids.next().expect("there is one");
        (0..skid).any(|_| self.step())
    }

    fn go(&mut self, target: u64, margin: u64) -> Result<Stands, Skid> {
        let mut approach = Approach::new(target, margin);
        loop {
            let exited = match approach.next(self.count)? {
                Move::Arrived => return Ok(Stands::At(self.at)),
                Move::Run(events) => self.run(events),
                Move::Step => self.step(),
            };
            if exited {
                approach.exited(self.count)?;
                return Ok(Stands::AtExit(self.at));
            }
        }
    }
}

/// Where a counter that is never late stops.
fn exactly(program: &[Does], target: u64) -> Stands {
    let mut track = Track {
        program,
        at: 0,
        count: 0,
        skids: [0].iter().cycle(),
    };
    while track.count < target {
        if track.step() {
            return Stands::AtExit(track.at);
        }
    }
    Stands::At(track.at)
}

fn program() -> impl Strategy<Value = Vec<Does>> {
    let does = prop_oneof![100 => Just(Nothing), 100 => Just(Counts), 1 => Just(Exits)];
    prop::collection::vec(does, 1..3000)
}

proptest! {
    /// Less than the margin late, every target in turn is hit at its first instruction, unless an exit comes before.
    #[test]
    fn every_target_is_hit_exactly(
        program in program(),
        margin in 1_u64..200,
        late in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        strides in prop::collection::vec(0_u64..700, 1..20),
    ) {
        let skids: Vec<u64> = late.iter().map(|late| late.index(margin as usize) as u64).collect();
        let mut track = Track { program: &program, at: 0, count: 0, skids: skids.iter().cycle() };
        let mut target = 0;
        for stride in strides {
            target += stride;
            let stands = track.go(target, margin);
            prop_assert_eq!(stands, Ok(exactly(&program, target)));
            if let Ok(Stands::AtExit(_)) = stands {
                break;
            }
        }
    }

    /// Later than that, either it happened to be early enough all the same, or it is refused: never passed over.
    #[test]
    fn a_skid_beyond_the_margin_is_refused(
        program in program(),
        margin in 1_u64..100,
        late in 0_u64..400,
        target in 1_u64..3000,
    ) {
        let skids = [late];
        let mut track = Track { program: &program, at: 0, count: 0, skids: skids.iter().cycle() };
        match track.go(target, margin) {
            Ok(stands) => prop_assert_eq!(stands, exactly(&program, target)),
            Err(skid) => {
                prop_assert!(late >= margin);
                prop_assert!(skid.count >= target, "{skid}");
            }
        }
    }
}

#[test]
fn events_that_are_too_late_by_one_are_refused() {
    let track = |program: &'static [Does], late: &'static [u64]| Track {
        program,
        at: 0,
        count: 0,
        skids: late.iter().cycle(),
    };
    assert_eq!(track(&[], &[9]).go(100, 10), Ok(Stands::At(100)));
    let refused = Skid {
        target: 100,
        count: 100,
        margin: 10,
    };
    assert_eq!(track(&[], &[10]).go(100, 10), Err(refused));
}

/// The interrupt would have come after the exit; the target lay before it.
#[test]
fn an_exit_hides_no_skid() {
    const PROGRAM: [Does; 4] = [Counts, Counts, Counts, Exits];
    let mut track = Track {
        program: &PROGRAM,
        at: 0,
        count: 0,
        skids: [5].iter().cycle(),
    };
    let refused = Skid {
        target: 2,
        count: 3,
        margin: 1,
    };
    assert_eq!(track.go(2, 1), Err(refused));
}
