//! The family against the processor that the tests run on.

mod approximation;
mod control;
mod corpus;
mod faults;
mod native;
mod selection;
