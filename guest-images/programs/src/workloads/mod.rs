//! Programs to measure a processor with. Each says when it begins and, with a checksum that depends on nothing else, when it ends.
//!
//! ```text
//! lockstep: workload mix begin
//! lockstep: workload mix end 5d0f41ac
//! ```

mod mix;
mod vectors;

use crate::{command_line, console::say};

/// Bytes of each copy: two such buffers fit a second-level cache.
const COPY_BYTES: usize = 64 * 1024;

/// Runs those that `lockstep.workloads=NAME,NAME…` names, without it all of them.
pub fn run(command_line: &str) {
    let named = command_line::value(command_line, "lockstep.workloads=");
    let measure = |name: &str, work: fn() -> u32| {
        if named.is_none_or(|names| names.split(',').any(|wanted| wanted == name)) {
            measure(name, work);
        }
    };
    measure("mix", || mix::run(1_000));
    measure("copy", || copy(4_000));
    measure("memcpy", || library_copy(4_000));
    measure("calls", || calls(200_000));
    measure("sse", || vectors::run(400));
}

fn measure(name: &str, work: fn() -> u32) {
    say(&format!("workload {name} begin"));
    let checksum = work();
    say(&format!("workload {name} end {checksum:08x}"));
}

/// Copies a buffer with a loop of 8-byte loads and stores.
fn copy(times: u32) -> u32 {
    let mut from: Vec<u64> = (0..COPY_BYTES as u64 / 8).collect();
    let mut to = vec![0; from.len()];
    for time in 0..times {
        for (target, source) in to.iter_mut().zip(&from) {
            // The compiler must neither widen this nor call `memcpy`.
            *target = std::hint::black_box(*source);
        }
        from[time as usize % COPY_BYTES / 8] ^= u64::from(time);
    }
    checksum(&to)
}

/// Copies a buffer with the C library's `memcpy`.
fn library_copy(times: u32) -> u32 {
    let mut from: Vec<u64> = (0..COPY_BYTES as u64 / 8).collect();
    let mut to = vec![0; from.len()];
    for time in 0..times {
        std::hint::black_box(&mut to).copy_from_slice(&from);
        from[time as usize % COPY_BYTES / 8] ^= u64::from(time);
    }
    checksum(&to)
}

fn checksum(words: &[u64]) -> u32 {
    words.iter().fold(0, |sum: u32, word| {
        sum.rotate_left(5) ^ (*word as u32) ^ ((*word >> 32) as u32)
    })
}

/// Asks the kernel for the parent's process id.
fn calls(times: u32) -> u32 {
    (0..times).fold(0, |sum: u32, _| {
        // SAFETY: takes nothing and cannot fail.
        let parent = unsafe { libc::getppid() };
        sum.wrapping_add(parent.cast_unsigned()).wrapping_add(1)
    })
}
