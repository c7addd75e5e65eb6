//! What `lockstep log` tells about a log file.
//!
//! In: a log, read entry by entry. Out: values that print as text for people and serialise as JSON for programs.

pub mod dump;
pub mod info;
pub mod stats;
pub mod svg;
