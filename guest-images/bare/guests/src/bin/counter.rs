//! Computes: fills a buffer with pseudo-random words, hashes it, and prints a line each round.
//!
//! Options: `count=` rounds (10), `words=` of 8 bytes in the buffer (512, at most 8192), `hz=`
//! interrupts a second meanwhile (0: none), `seed=` of the first round (1).

#![no_std]
#![no_main]

use bare::hash::{Hash, xorshift};
use bare::machine::serial::Line;
use bare::machine::{Global, interrupts, pit};
use bare::options::Options;

const WORDS_MAX: usize = 8192;

static WORDS: Global<[u64; WORDS_MAX]> = Global::new([0; WORDS_MAX]);

bare::guest!(main);

fn main(options: Options) {
    let length = (options.number("words", 512) as usize).min(WORDS_MAX);
    let words = &mut WORDS.take()[..length];
    let mut state = options.number("seed", 1).max(1);
    let hz = options.number("hz", 0);
    if hz > 0 {
        interrupts::unmask(interrupts::TIMER);
        pit::start(hz);
        interrupts::enable();
    }
    for round in 1..=options.number("count", 10) {
        let hash = compute(words, &mut state);
        let mut line = Line
            .text("counter round=")
            .decimal(round)
            .text(" hash=")
            .hex(hash);
        if hz > 0 {
            line = line
                .text(" ticks=")
                .decimal(interrupts::count(interrupts::TIMER).into());
        }
        line.end();
    }
    Line.text("counter end").end();
}

/// Writes every word once and reads it once.
fn compute(words: &mut [u64], state: &mut u64) -> u64 {
    for word in words.iter_mut() {
        *state = xorshift(*state);
        *word ^= *state;
    }
    let mut hash = Hash::new();
    for &word in words.iter() {
        hash.word(word);
    }
    hash.value()
}
