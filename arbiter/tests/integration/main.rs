//! The arbiter from outside: through its public API, its file, its port and its processes.

mod contract;
mod killed;
mod malformed;
mod processes;
mod state_file;
