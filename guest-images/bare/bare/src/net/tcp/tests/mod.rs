//! The responder against clients that are written to RFC 9293 on their own, over a bad network.

mod client;
mod packet;
mod scenarios;
mod simulation;
