//! The disk server from outside: through its ports.

mod fencing;
mod held;
mod malformed;
mod requests;
mod rig;
mod standard_clients;
