//! Fills memory with pseudo-random words at privilege level 3, over and over, without a single exit until the timer has interrupted it often enough.
//! Where guest kernel code is emulated, this one still dirties memory at the processor's speed.
//!
//! Options: `mib=` of memory (12, at most 12), `hz=` interrupts a second (100, at least 19), `count=` of them (10). The last line has a
//! hash of all that was written.

#![no_std]
#![no_main]

use bare::hash::{Hash, xorshift};
use bare::machine::serial::Line;
use bare::machine::user::{self, Interrupts, User};
use bare::machine::{Global, interrupts, pit};
use bare::options::Options;

const MIB_MAX: usize = 12;
const WORDS_PER_MIB: usize = (1 << 20) / 8;
const WORDS_PER_PAGE: usize = 512;

static WORDS: Global<[u64; MIB_MAX * WORDS_PER_MIB]> = Global::new([0; MIB_MAX * WORDS_PER_MIB]);

bare::guest!(main);

/// What the scribbling is told.
struct Task {
    words: &'static mut [u64],
    count: u64,
}

fn main(options: Options) {
    let mib = (options.number("mib", 12) as usize).clamp(1, MIB_MAX);
    let mut task = Task {
        words: &mut WORDS.take()[..mib * WORDS_PER_MIB],
        count: options.number("count", 10),
    };
    let mut user = User::new(Interrupts::On);
    interrupts::unmask(interrupts::TIMER);
    pit::start(options.number("hz", 100));
    let hash = user.call(scribble, &mut task);
    Line.text("scribbler end hash=").hex(hash).end();
}

extern "C" fn scribble(task: &mut Task) -> ! {
    let (mut state, mut hash) = (1, Hash::new());
    while u64::from(interrupts::count(interrupts::TIMER)) < task.count {
        for page in task.words.chunks_exact_mut(WORDS_PER_PAGE) {
            for word in page.iter_mut() {
                state = xorshift(state);
                *word = state;
            }
        }
        hash.word(state);
    }
    user::finish(hash.value())
}
