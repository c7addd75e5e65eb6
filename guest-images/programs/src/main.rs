//! The programs of lockstep's Linux guest, in one binary that acts by the name it is called by:
//! `init` (or `guest`) brings the guest up; `counterd` and `echod` are two of its TCP services, the third is `journald`, on the disk.
//!
//! On kvm-pvm a system call costs 0.25 ms, a page fault 2 ms and `fork` with `exec` half a second
//! (docs/hosts.md). Hence one binary; services are threads of `init`, not processes; and a request
//! costs two system calls, one `read` and one `send`; for a durable record, `poll`, `pwrite` and `fdatasync` are added.

mod command_line;
mod console;
mod counter;
mod disk;
mod diskbench;
mod fsexercise;
mod init;
mod journald;
mod selftest;
mod service;
mod split_mix;
mod workloads;

use std::path::Path;

use crate::service::Service;

fn main() {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_name().and_then(|name| name.to_str());
    match name {
        Some("counterd") => service::serve_alone(Service::Counter),
        Some("echod") => service::serve_alone(Service::Echo),
        Some("sorter") => finish(selftest::sorter()),
        Some("digester") => finish(selftest::digester()),
        _ => init::run(),
    }
}

/// Ends a helper of the self-test; its parent sees a failure in what it was to say.
fn finish(result: std::io::Result<()>) {
    if let Err(error) = result {
        console::say(&error.to_string());
        std::process::exit(1);
    }
}
