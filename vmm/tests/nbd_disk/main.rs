//! The client of `lockstep disk-server`, against the program itself: killed, stopped, gone, in another term.

mod fenced;
mod gone;
mod other_server;
mod recorder;
mod server;
