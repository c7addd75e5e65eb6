//! Functions that are generated, called, generated anew in the same place and called again; half of them are copied there by `rep movsb`.
//!
//! What they should return is computed beside, by the same operations in Rust.

use core::arch::asm;

use bare::hash::{Hash, xorshift};
use bare::machine::Global;
use bare::machine::checks::Checks;

use crate::call;

const ROUNDS: usize = 3000;
const CODE_BYTES: usize = 3 * 4096;
/// Operations of the longest function.
const OPERATIONS_MAX: u64 = 24;
/// Bytes of the longest function.
const FUNCTION_MAX: usize = 5 + OPERATIONS_MAX as usize * 6 + 1;

static CODE: Global<[u8; CODE_BYTES]> = Global::new([0; CODE_BYTES]);
static BUFFER: Global<[u8; FUNCTION_MAX]> = Global::new([0; FUNCTION_MAX]);

/// Runs the check.
pub fn check(checks: &mut Checks) {
    let places = CODE.take().as_mut_ptr();
    let buffer = BUFFER.take();
    let (mut found, mut expected) = (Hash::new(), Hash::new());
    let mut state = 0x9E37_79B9;
    for round in 0..ROUNDS {
        let (length, value) = generate(buffer, &mut state);
        state = xorshift(state);
        // Few places, so that most are used again, and some cross a page.
        let offset = (state % 64) as usize * (CODE_BYTES - FUNCTION_MAX) / 63;
        let place = places.wrapping_add(offset);
        copy(&buffer[..length], place, round % 2 == 0);
        expected.word(value.into());
        expected.word(value.into());
        found.word(call(place as u64, [0, 0]));
        found.word(call(place as u64, [0, 0]));
    }
    checks.check("generated", &[("hash", found.value(), expected.value())]);
}

/// Writes a function of random operations; its length and its result.
fn generate(code: &mut [u8; FUNCTION_MAX], state: &mut u64) -> (usize, u32) {
    *state = xorshift(*state);
    let mut value = *state as u32;
    let mut length = 0;
    let mut emit = |bytes: &[u8]| {
        code[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    let with = |opcode: &[u8], operand: u32| {
        let mut bytes = [0; 6];
        bytes[..opcode.len()].copy_from_slice(opcode);
        bytes[opcode.len()..opcode.len() + 4].copy_from_slice(&operand.to_le_bytes());
        bytes
    };
    emit(&with(&[0xB8], value)[..5]);
    for _ in 0..(*state >> 32) % OPERATIONS_MAX + 1 {
        *state = xorshift(*state);
        let operand = (*state >> 8) as u32;
        match *state % 6 {
            0 => {
                emit(&with(&[0x05], operand)[..5]);
                value = value.wrapping_add(operand);
            }
            1 => {
                emit(&with(&[0x35], operand)[..5]);
                value ^= operand;
            }
            2 => {
                emit(&with(&[0x69, 0xC0], operand));
                value = value.wrapping_mul(operand);
            }
            3 => {
                emit(&[0xC1, 0xC0, operand as u8 & 31]);
                value = value.rotate_left(operand & 31);
            }
            4 => {
                emit(&[0x0F, 0xC8]);
                value = value.swap_bytes();
            }
            _ => {
                // A jump over what would be #UD.
                emit(&[0xEB, 0x02, 0x0F, 0x0B]);
            }
        }
    }
    emit(&[0xC3]);
    (length, value)
}

fn copy(function: &[u8], place: *mut u8, by_string: bool) {
    if by_string {
        // SAFETY: the place is in the array of code, with room for the longest function.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") function.len() => _,
                inout("rsi") function.as_ptr() => _,
                inout("rdi") place => _,
                options(nostack, preserves_flags),
            );
        }
        return;
    }
    for (index, byte) in function.iter().enumerate() {
        // SAFETY: as above.
        unsafe { place.wrapping_add(index).write_volatile(*byte) };
    }
}
