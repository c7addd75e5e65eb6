//! Sessions.
pub mod gate;
pub mod pipe;
pub mod feed;
pub mod replica;
pub mod setup;
pub mod go_live;
pub mod vcpu;
