//! Makes a case as small as it can be while the processors still differ.
//!
//! In: a case and a test. Out: a case for which the test holds too, with fewer instructions, and zero wherever it does not matter.

use iced_x86::{Decoder, DecoderOptions};

use crate::case::{Case, Float, PATCH_BYTES, RSP};

/// Rounds over everything; each makes the next more likely to succeed.
const ROUNDS: usize = 3;

/// The smallest case found for which `fails`.
pub fn minimise(case: &Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    for _ in 0..ROUNDS {
        let before = best.clone();
        for candidate in with_fewer_instructions(&best) {
            if fails(&candidate) {
                best = candidate;
                break;
            }
        }
        for simplify in simplifications(&best) {
            let mut candidate = best.clone();
            simplify(&mut candidate);
            if candidate != best && fails(&candidate) {
                best = candidate;
            }
        }
        if best == before {
            break;
        }
    }
    best
}

/// The case without its first, its last, or any one other instruction: RIP-relative operands and branches are not moved, so that
/// the result may be another story; the test decides.
fn with_fewer_instructions(case: &Case) -> Vec<Case> {
    let decoder = Decoder::with_ip(64, &case.code, case.code_at, DecoderOptions::NONE);
    let pieces: Vec<&[u8]> = decoder
        .into_iter()
        .map(|instruction| {
            let from = (instruction.ip() - case.code_at) as usize;
            &case.code[from..(from + instruction.len()).min(case.code.len())]
        })
        .collect();
    let mut candidates = Vec::new();
    if pieces.len() < 2 {
        return candidates;
    }
    // Shortest first: single instructions, then everything but one.
    let mut add = |code: Vec<u8>| {
        candidates.push(Case {
            code,
            ..case.clone()
        });
    };
    for piece in &pieces {
        add(piece.to_vec());
    }
    for length in 2..pieces.len() {
        for window in pieces.windows(length) {
            add(window.concat());
        }
    }
    for left_out in 0..pieces.len() {
        let rest: Vec<&[u8]> = (0..pieces.len())
            .filter(|index| *index != left_out)
            .map(|index| pieces[index])
            .collect();
        add(rest.concat());
    }
    candidates
}

type Simplify = Box<dyn Fn(&mut Case)>;

fn simplifications(case: &Case) -> Vec<Simplify> {
    let mut all: Vec<Simplify> = vec![
        Box::new(|case| case.float = Float::default()),
        Box::new(|case| case.rflags = crate::layout::RFLAGS),
        Box::new(|case| case.patches.clear()),
        Box::new(|case| case.float.xmm = [0; 16]),
        Box::new(|case| case.float.st = [[0; 10]; 8]),
        Box::new(|case| case.float.mxcsr = 0x1F80),
        Box::new(|case| case.float.control = 0x37F),
        Box::new(|case| case.float.status = 0),
        Box::new(|case| case.float.status &= 0x3800),
        Box::new(|case| case.float.in_use = 0xFF),
        Box::new(|case| case.general[RSP] = crate::layout::DATA + 0x1000),
    ];
    for flag in 0..22 {
        if flag != 1 && flag != 9 {
            all.push(Box::new(move |case| case.rflags &= !(1 << flag)));
        }
    }
    for register in 0..16 {
        all.push(Box::new(move |case| case.general[register] = 0));
        all.push(Box::new(move |case| case.float.xmm[register] = 0));
        all.push(Box::new(move |case| case.general[register] &= 0xFFFF_FFFF));
        all.push(Box::new(move |case| case.general[register] &= 0xFFFF));
        all.push(Box::new(move |case| case.general[register] &= 0xFF));
    }
    for register in 0..8 {
        all.push(Box::new(move |case| case.float.st[register] = [0; 10]));
    }
    for patch in 0..case.patches.len() {
        all.push(Box::new(move |case| {
            if patch < case.patches.len() {
                case.patches.remove(patch);
            }
        }));
        for from in (0..PATCH_BYTES).step_by(8) {
            all.push(Box::new(move |case| {
                if let Some(patch) = case.patches.get_mut(patch) {
                    patch.bytes[from..from + 8].fill(0);
                }
            }));
        }
    }
    all
}
