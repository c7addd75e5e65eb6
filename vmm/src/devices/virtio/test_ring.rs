//! Rings for tests.
