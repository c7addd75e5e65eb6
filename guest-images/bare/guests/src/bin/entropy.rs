//! Reads random bytes from virtio-rng.
//!
//! Options: `count=` requests (10) of 64 bytes. `hash=` is over all bytes in order.

#![no_std]
#![no_main]

use bare::hash::Hash;
use bare::machine::serial::Line;
use bare::machine::virtio::rng::Rng;
use bare::options::Options;

bare::guest!(main);

fn main(options: Options) {
    let mut rng = Rng::open().expect("the machine has virtio-rng");
    let mut hash = Hash::new();
    let mut bytes = 0;
    for _ in 0..options.number("count", 10) {
        let random = rng.read();
        bytes += random.len() as u64;
        hash.bytes(random);
    }
    Line.text("entropy end bytes=")
        .decimal(bytes)
        .text(" hash=")
        .hex(hash.value())
        .end();
}
