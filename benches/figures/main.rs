//! `make bench`: the figures of `docs/performance.md`, side by side in one run.
//!
//! `cargo bench --bench figures -- SECTION…` prints some of them: `exits`, `cpu`, `log`, `latency`, `failover`, `disk`, `disk-server`.

#![allow(clippy::print_stdout)]

mod cpu;
mod disk;
mod exits;
mod failover;
mod latency;
mod log;
mod pairs;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let sections: [(&str, fn()); 7] = [
        ("exits", exits::print),
        ("cpu", cpu::print),
        ("log", log::print),
        ("latency", latency::print),
        ("failover", failover::print),
        ("disk", disk::print),
        ("disk-server", disk::print_served),
    ];
    for (name, print) in sections {
        if wanted.is_empty() || wanted.iter().any(|section| section == name) {
            print();
        }
    }
}

/// The median and the largest of some values.
fn median_and_maximum(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}
