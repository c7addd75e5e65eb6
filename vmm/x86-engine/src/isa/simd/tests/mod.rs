//! The family against the processor that the tests run on.

mod corpus;
mod native;
